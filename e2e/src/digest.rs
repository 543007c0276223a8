//! SHA-256 digests, which identify the content of caches and images.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256 digest in progress.
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    /// Adds bytes without a length.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Adds a part with its length, so that different lists of parts have different digests.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update(&bytes.len().to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Returns the digest in lower-case hexadecimal.
    #[must_use]
    pub fn hex(self) -> String {
        self.0.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// Returns the SHA-256 digest of some bytes in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::default().bytes(bytes).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_a_known_digest() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn distinguishes_other_splits_into_parts() {
        let split = |parts: &[&str]| {
            parts.iter().fold(Sha256::default(), |digest, part| digest.part(part.as_bytes())).hex()
        };
        assert_ne!(split(&["ab", "c"]), split(&["a", "bc"]));
    }
}
