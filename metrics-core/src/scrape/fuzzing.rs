//! What the fuzz targets call; see `metrics-core/fuzz`.

use libdeflater::Decompressor;

use super::inflate::{MAX_BODY, inflate as undo};
use super::response::{Chunks, Framing, MAX_HEAD, head};

/// Reads a response that arrives `step` bytes at a time; it must come out as if it had come at once.
pub fn response(bytes: &[u8], step: usize) {
    let Ok(Some((found, length))) = head(bytes) else { return };
    assert!(length <= bytes.len().min(MAX_HEAD));
    if found.framing != Framing::Chunked {
        return;
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
}

/// Inflates a body, which must stay within its bounds.
pub fn inflate(wire: &[u8]) {
    let mut out = Vec::new();
    let _ = undo(&mut Decompressor::new(), wire, &mut out);
    assert!(out.len() <= MAX_BODY);
}
