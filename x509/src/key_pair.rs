//! Certificates with their private keys.

use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::CertificateDer;

use crate::public_key;

/// The private key is not that of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key does not match the certificate")]
pub struct KeyMismatch;

/// Returns a chain with the key of its first certificate, for a TLS handshake.
///
/// Unlike rustls, accepts certificates of X.509 version 1.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, KeyMismatch> {
    let of_certificate = chain.first().and_then(|leaf| public_key(leaf).ok());
    if of_certificate.is_none() || key.public_key() != of_certificate {
        return Err(KeyMismatch);
    }
    Ok(CertifiedKey::new(chain, key))
}
