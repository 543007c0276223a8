//! Digests for ETags.

use std::fmt::Write;

/// Returns the SHA-512 digest in upper-case hexadecimal, the form of kube-apiserver's ETags.
pub(super) fn sha512_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes);
    digest.as_ref().iter().fold(String::with_capacity(128), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}
