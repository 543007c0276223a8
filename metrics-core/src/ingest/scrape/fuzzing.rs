//! What the fuzz targets call; see `metrics-core/fuzz`. Not for others.

use libdeflater::Decompressor;

use super::inflate::{MAX_BODY, inflate as undo};
use super::response::{Chunks, Framing, MAX_HEAD, head};

/// Reads a response that arrives `step` bytes at a time; it must come out as if it had come at once. How it was framed,
/// and whether it was whole; `None` for one whose head can't be read.
#[must_use]
pub fn response(bytes: &[u8], step: usize) -> Option<(bool, bool)> {
    let Ok(Some((found, length))) = head(bytes) else { return None };
    assert!(length <= bytes.len().min(MAX_HEAD));
    if found.framing != Framing::Chunked {
        return Some((false, true));
    }
    let mut whole = bytes.to_vec();
    let at_once = Chunks::new(length).advance(&mut whole).map(|end| end.is_some());
    let mut buffer = bytes[..length].to_vec();
    let mut chunks = Chunks::new(length);
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

/// Inflates a body, which must stay within its bounds. Whether it could be.
#[must_use]
pub fn inflate(wire: &[u8]) -> bool {
    let mut out = Vec::new();
    let inflated = undo(&mut Decompressor::new(), wire, &mut out).is_ok();
    assert!(out.len() <= MAX_BODY);
    inflated
}
