//! Digests as hexadecimal text.

use std::fmt::Write;

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal digits, as fingerprints are written.
#[must_use]
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&SHA256, bytes)
}

/// Returns the SHA-512 of `bytes` in upper-case hexadecimal digits, as entity tags of kube-apiserver are written.
pub(crate) fn sha512_hex_upper(bytes: &[u8]) -> String {
    let mut text = hex(&SHA512, bytes);
    text.make_ascii_uppercase();
    text
}

fn hex(algorithm: &'static Algorithm, bytes: &[u8]) -> String {
    let digest = digest(algorithm, bytes);
    digest.as_ref().iter().fold(String::with_capacity(2 * digest.as_ref().len()), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
