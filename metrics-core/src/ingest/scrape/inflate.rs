//! Decompresses gzip bodies (RFC 1952), the whole body at once.

use libdeflater::{DecompressionError, Decompressor};

use super::error::Error;

/// The maximum size of a body, before and after decompression.
pub(super) const MAX_BODY: usize = 32 * 1024 * 1024;
/// A body larger than [`RATIO_FREE_SIZE`] after decompression may be at most [`MAX_RATIO`] times its compressed
/// size.
const RATIO_FREE_SIZE: usize = 1024 * 1024;
const MAX_RATIO: usize = 200;

/// Returns the size that a gzip body claims to have after decompression, which the sender controls.
pub(super) fn claimed_size(wire: &[u8]) -> Result<usize, Error> {
    if !wire.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::InvalidBody("Content-Encoding is gzip, but the body is not"));
    }
    // The last four bytes are the size modulo 2³².
    let Some(claimed) = wire.last_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize) else {
        return Err(Error::InvalidBody("the gzip body is truncated"));
    };
    let limit = wire.len().saturating_mul(MAX_RATIO).clamp(RATIO_FREE_SIZE, MAX_BODY);
    if claimed > limit {
        return Err(Error::BodyTooLarge("decompressed"));
    }
    Ok(claimed)
}

/// Decompresses `wire` into `out`, which never shrinks, and returns the part that was filled.
pub(super) fn inflate<'a>(
    decompressor: &mut Decompressor,
    wire: &[u8],
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    let claimed = claimed_size(wire)?;
    if out.len() < claimed {
        out.resize(claimed, 0);
    }
    match decompressor.gzip_decompress(wire, out) {
        // The output is shorter if the body has several gzip members, of which only the first was decompressed, or
        // if the size in the trailer is wrong.
        Ok(size) if size == claimed => Ok(&out[..size]),
        Ok(_) | Err(DecompressionError::InsufficientSpace) => {
            Err(Error::InvalidBody("the size of the gzip body differs from its trailer"))
        }
        Err(DecompressionError::BadData) => Err(Error::InvalidBody("the gzip body is corrupt")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use libdeflater::{CompressionLvl, Compressor, Decompressor};
    use proptest::prelude::*;

    use super::{MAX_BODY, inflate};
    use crate::ingest::scrape::error::Error;

    pub(in crate::ingest::scrape) fn gzip(body: &[u8]) -> Vec<u8> {
        let mut compressor = Compressor::new(CompressionLvl::default());
        let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
        let size = compressor.gzip_compress(body, &mut out).unwrap();
        out.truncate(size);
        out
    }

    #[test]
    fn rejects_decompression_bombs_without_inflating_them() {
        let mut out = Vec::new();
        let bomb = gzip(&vec![0; MAX_BODY + 1]);
        assert!(matches!(inflate(&mut Decompressor::new(), &bomb, &mut out), Err(Error::BodyTooLarge(_))));
        let dense = gzip(&vec![0; 8 << 20]);
        assert!(matches!(inflate(&mut Decompressor::new(), &dense, &mut out), Err(Error::BodyTooLarge(_))));
        let mut liar = dense;
        let at = liar.len() - 4;
        liar[at..].copy_from_slice(&10u32.to_le_bytes());
        assert!(matches!(inflate(&mut Decompressor::new(), &liar, &mut out), Err(Error::InvalidBody(_))));
        assert!(out.len() <= 10);
    }

    proptest! {
        #[test]
        fn inflates_and_never_panics(body in prop::collection::vec(any::<u8>(), 0..500), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut wire = gzip(&body);
            let mut out = vec![7; 3];
            prop_assert_eq!(inflate(&mut Decompressor::new(), &wire, &mut out).unwrap(), &body[..]);
            let at = at.index(wire.len());
            wire[at] = byte;
            let _ = inflate(&mut Decompressor::new(), &wire, &mut out);
            wire.truncate(at);
            let _ = inflate(&mut Decompressor::new(), &wire, &mut out);
        }
    }
}
