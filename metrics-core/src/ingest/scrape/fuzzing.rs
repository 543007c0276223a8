//! Entry points for the fuzz targets in `metrics-core/fuzz`. Not part of the API.

use libdeflater::Decompressor;

use super::inflate::{MAX_BODY, inflate as undo};
use super::response::{BodyFraming, ChunkDecoder, MAX_HEAD, parse_head};

/// Parses a response that arrives `step` bytes at a time and asserts that the result is the same as when it arrives
/// at once. Returns whether it is chunked and whether it is complete; `None` if the header section is invalid.
#[must_use]
pub fn response(bytes: &[u8], step: usize) -> Option<(bool, bool)> {
    let Ok(Some((found, length))) = parse_head(bytes) else { return None };
    assert!(length <= bytes.len().min(MAX_HEAD));
    if found.framing != BodyFraming::Chunked {
        return Some((false, true));
    }
    let mut whole = bytes.to_vec();
    let at_once = ChunkDecoder::new(length).advance(&mut whole).map(|end| end.is_some());
    let mut buffer = bytes[..length].to_vec();
    let mut chunks = ChunkDecoder::new(length);
    let mut outcome = Ok(false);
    for piece in bytes[length..].chunks(step) {
        buffer.extend_from_slice(piece);
        outcome = chunks.advance(&mut buffer).map(|end| end.is_some());
        if outcome != Ok(false) {
            break;
        }
    }
    if at_once == Ok(true) {
        assert_eq!(outcome, Ok(true));
        assert_eq!(buffer, whole);
    }
    Some((true, at_once == Ok(true)))
}

/// Decompresses a body and asserts that the output stays within its limit. Returns whether it succeeded.
#[must_use]
pub fn inflate(wire: &[u8]) -> bool {
    let mut out = Vec::new();
    let inflated = undo(&mut Decompressor::new(), wire, &mut out).is_ok();
    assert!(out.len() <= MAX_BODY);
    inflated
}
