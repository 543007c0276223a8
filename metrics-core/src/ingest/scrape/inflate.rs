//! Undoes gzip (RFC 1952), the whole body at once.

use libdeflater::{DecompressionError, Decompressor};

use super::error::Error;

/// The largest body, inflated or not.
pub(super) const MAX_BODY: usize = 32 * 1024 * 1024;
/// Beyond this size a body may not be larger than so many times what came over the wire.
const FREE: usize = 1024 * 1024;
const MAX_RATIO: usize = 200;

/// Inflates `wire` into `out`, whose length stays what it grew to; gives the part that was filled.
pub(super) fn inflate<'a>(
    decompressor: &mut Decompressor,
    wire: &[u8],
    out: &'a mut Vec<u8>,
) -> Result<&'a [u8], Error> {
    if !wire.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::InvalidBody("no gzip, though it says so"));
    }
    // The last four bytes are the size modulo 2³²: a hint, as the sender may say anything.
    let Some(claimed) = wire.last_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize) else {
        return Err(Error::InvalidBody("gzip that is cut off"));
    };
    let limit = wire.len().saturating_mul(MAX_RATIO).clamp(FREE, MAX_BODY);
    if claimed > limit {
        return Err(Error::BodyTooLarge("inflated"));
    }
    if out.len() < claimed {
        out.resize(claimed, 0);
    }
    match decompressor.gzip_decompress(wire, out) {
        // A shorter one: several members, of which only the first was inflated, or a lie.
        Ok(size) if size == claimed => Ok(&out[..size]),
        Ok(_) | Err(DecompressionError::InsufficientSpace) => {
            Err(Error::InvalidBody("gzip whose size is not what it says"))
        }
        Err(DecompressionError::BadData) => Err(Error::InvalidBody("damaged gzip")),
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
    fn bombs_are_refused_before_they_are_inflated() {
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
