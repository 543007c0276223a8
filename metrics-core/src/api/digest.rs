//! Digests for entity tags.

use std::fmt::Write;

/// SHA-512 in hexadecimal, upper case, as the API server's entity tags are.
pub(super) fn sha512_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes);
    digest.as_ref().iter().fold(String::with_capacity(128), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}
