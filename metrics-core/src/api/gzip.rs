//! Compresses long lists as gzip (RFC 1952) while the client reads them.
//!
//! Each chunk is compressed by itself and ends at a byte boundary (a full flush), so the response is one gzip member as
//! usual, but no compressor belongs to a response. A compressor has 270 kB of memory: hundreds of clients that read
//! slowly would otherwise hold it. Only as many compressors exist as chunks are compressed at the same time. The chunks
//! are long enough that this costs less than a percent of the compressed length.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use libdeflater::Crc;
use parking_lot::Mutex;
use zlib_rs::{Deflate, DeflateFlush, Status};

/// Responses from this length on are compressed, as in k8s.io/apiserver.
pub(super) const MIN_LENGTH: usize = 128 * 1024;

/// The level of k8s.io/apiserver: higher levels take several times as long.
const LEVEL: i32 = 1;
/// The largest window: 32 kB.
const WINDOW_BITS: u8 = 15;
/// The maximum number of compressors that are kept for the next chunk, and the maximum size of the output of one.
const MAX_SPARE: usize = 4;
const MAX_SPARE_OUTPUT: usize = 256 * 1024;

/// Magic number, method DEFLATE, no flags, no time, fastest algorithm, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// The last block: final, with static codes, and empty.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// The compressors of all responses.
#[derive(Default)]
pub(super) struct Compressors {
    spare: Mutex<Vec<Compressor>>,
}

/// A compressor and its output.
struct Compressor {
    deflate: Deflate,
    out: Vec<u8>,
}

impl Compressors {
    /// Starts a response.
    pub(super) fn response(self: &Arc<Self>) -> GzipEncoder {
        GzipEncoder { compressors: self.clone(), started: false, checksum: Crc::new(), length: 0 }
    }

    /// Appends `input`, compressed as whole blocks that are not the last ones.
    fn compress(&self, input: &[u8], to: &mut Vec<u8>) {
        let spare = self.spare.lock().pop();
        let mut compressor = spare.unwrap_or_else(|| Compressor {
            deflate: Deflate::new(LEVEL, false, WINDOW_BITS),
            out: Vec::new(),
        });
        let Compressor { deflate, out } = &mut compressor;
        deflate.reset();
        // Incompressible input grows by less than this, so that one call is enough.
        out.resize(out.len().max(input.len() + input.len() / 8 + 64), 0);
        let status = deflate.compress(input, out, DeflateFlush::FullFlush);
        let compressed = usize::try_from(deflate.total_out()).ok().and_then(|length| out.get(..length));
        match compressed {
            Some(compressed)
                if status == Ok(Status::Ok)
                    && deflate.total_in() == input.len() as u64
                    && compressed.len() < out.len() =>
            {
                to.extend_from_slice(compressed);
            }
            // A bug of the compressor must not corrupt the response.
            _ => return store(input, to),
        }
        let mut spare = self.spare.lock();
        if spare.len() < MAX_SPARE && compressor.out.len() <= MAX_SPARE_OUTPUT {
            spare.push(compressor);
        }
    }
}

/// Appends `input` as stored blocks.
fn store(input: &[u8], out: &mut Vec<u8>) {
    for block in input.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// Compresses one response.
pub(super) struct GzipEncoder {
    compressors: Arc<Compressors>,
    started: bool,
    checksum: Crc,
    /// The length before compression, modulo 2³².
    length: u32,
}

impl GzipEncoder {
    /// Compresses the next chunk.
    pub(super) fn chunk(&mut self, chunk: &[u8]) -> Bytes {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            out.extend_from_slice(&HEADER);
        }
        self.checksum.update(chunk);
        #[allow(clippy::cast_possible_truncation)] // The format's length is modulo 2³².
        let length = chunk.len() as u32;
        self.length = self.length.wrapping_add(length);
        self.compressors.compress(chunk, &mut out);
        out.into()
    }

    /// Returns the end of the response. At least one chunk must have been compressed.
    pub(super) fn finish(&self) -> Bytes {
        let mut out = LAST_BLOCK.to_vec();
        out.extend_from_slice(&self.checksum.sum().to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.into()
    }
}

/// Returns whether the client accepts gzip and does not prefer an uncompressed response (RFC 9110 section 12.5.3).
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for coding in texts.flat_map(|text| text.split(',')) {
        let mut parameters = coding.split(';').map(str::trim);
        let name = parameters.next().unwrap_or_default();
        let quality = parameters.find_map(quality).unwrap_or(1.0);
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(quality);
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(quality);
        } else if name == "*" {
            any = Some(quality);
        }
    }
    let gzip: f32 = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// Returns the value of the parameter `q`. An invalid one excludes the coding.
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    let valid = |quality: &f32| (0.0..=1.0).contains(quality);
    name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok().filter(valid).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;
    use http::header::ACCEPT_ENCODING;
    use libdeflater::Decompressor;
    use proptest::prelude::*;

    use super::{Compressor, Compressors, MAX_SPARE, is_accepted, store};

    fn accepted(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, value.parse().unwrap());
        }
        is_accepted(&headers)
    }

    #[test]
    fn parses_accept_encoding() {
        for (value, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("*;q=0.1", true),
            ("identity;q=0, *", true),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", true),
            ("identity, gzip", true),
            ("", false),
            ("identity", false),
            ("deflate, br", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;Q=0", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("gzip;q=NaN", false),
            ("gzip;q=0.4, identity;q=0.5", false),
            ("gzipped", false),
        ] {
            assert_eq!(accepted(&[value]), expected, "{value}");
        }
        assert!(accepted(&["br", "gzip"]) && !accepted(&[]));
    }

    fn inflate(gzip: &[u8], length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        // It reads one member only, as some clients do.
        assert_eq!(Decompressor::new().gzip_decompress(gzip, &mut out), Ok(length));
        out
    }

    #[test]
    fn stored_blocks_are_valid() {
        let input = vec![7; 200_000];
        let mut out = super::HEADER.to_vec();
        store(&input, &mut out);
        out.extend_from_slice(&super::LAST_BLOCK);
        out.extend_from_slice(&libdeflater::crc32(&input).to_le_bytes());
        out.extend_from_slice(&200_000_u32.to_le_bytes());
        assert_eq!(inflate(&out, input.len()), input);
    }

    #[test]
    fn responses_share_compressors() {
        let compressors = Arc::new(Compressors::default());
        let mut responses: Vec<_> = (0..100).map(|_| compressors.response()).collect();
        for response in &mut responses {
            response.chunk(b"text");
        }
        assert_eq!(compressors.spare.lock().len(), 1, "the chunks were not compressed at the same time");
        let used = || Compressor { deflate: zlib_rs::Deflate::new(1, false, 15), out: Vec::new() };
        compressors.spare.lock().resize_with(MAX_SPARE + 3, used);
        for response in &mut responses {
            response.chunk(b"text");
        }
        assert_eq!(compressors.spare.lock().len(), MAX_SPARE);
    }

    proptest! {
        #[test]
        fn is_one_member_that_inflates_to_the_chunks(
            chunks in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 1..3000), 1..80_usize), 1..6),
            interleaved in any::<bool>(),
        ) {
            let compressors = Arc::new(Compressors::default());
            let (mut response, mut other) = (compressors.response(), compressors.response());
            let (mut gzip, mut plain) = (Vec::new(), Vec::new());
            for (byte, random, repeated) in chunks {
                let mut chunk = random.repeat(repeated);
                chunk.extend(vec![byte; repeated * 100]);
                gzip.extend_from_slice(&response.chunk(&chunk));
                if interleaved {
                    other.chunk(&chunk[..chunk.len() / 2]);
                }
                plain.extend_from_slice(&chunk);
            }
            gzip.extend_from_slice(&response.finish());
            prop_assert_eq!(inflate(&gzip, plain.len()), plain);
        }
    }
}
