//! A certificate chain with its private key, parsed from PEM.

use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509::Certificate;

/// An error of a certificate and key in PEM. Contains nothing of the key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The certificate is not valid PEM or not valid X.509.
    #[error("the certificate is invalid: {0}")]
    Certificate(String),
    /// The text contains no certificate.
    #[error("it contains no certificate (no BEGIN CERTIFICATE line)")]
    NoCertificate,
    /// The text contains no private key.
    #[error("it contains no private key in PKCS #8, PKCS #1 or SEC 1 without encryption")]
    NoKey,
    /// The type or size of the key is not supported.
    #[error(
        "the private key is not supported: use ECDSA P-256, P-384 or P-521, Ed25519, or RSA with at least 2048 bits"
    )]
    Key,
    /// The key is not that of the certificate.
    #[error("the private key does not match the certificate")]
    Mismatch,
}

/// Parses a chain and its key, and checks that they match.
pub(super) fn read(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, Error> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Certificate(error.to_string()))?;
    let leaf = chain.first().ok_or(Error::NoCertificate)?;
    Certificate::parse(leaf).map_err(|error| Error::Certificate(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::NoKey)?;
    certified(chain, key)
}

/// Returns a self-signed certificate for `localhost`, as metrics-server generates: it encrypts but does not
/// authenticate.
pub(super) fn self_signed() -> Result<CertifiedKey, Error> {
    let unusable = |_| Error::Key;
    let key = rcgen::KeyPair::generate().map_err(unusable)?;
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).map_err(unusable)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "metrics-core, self-signed");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(unusable)?;
    certified(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// Returns the expiry of the leaf since the Unix epoch; `None` if it can't be parsed.
#[must_use]
pub(super) fn expires(key: &CertifiedKey) -> Option<Duration> {
    let leaf = Certificate::parse(key.cert.first()?).ok()?;
    u64::try_from(leaf.not_after()).ok().map(Duration::from_secs)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let key: Arc<dyn rustls::sign::SigningKey> =
        super::provider().key_provider.load_private_key(key).map_err(|_| Error::Key)?;
    x509::certified_key(chain, key).map_err(|_| Error::Mismatch)
}

#[cfg(test)]
mod tests {
    use super::{Error, expires, read, self_signed};

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn reads_a_pair_and_refuses_an_invalid_one() {
        let (certificate, key) = pair();
        let (_, other) = pair();
        assert!(expires(&read(certificate.as_bytes(), key.as_bytes()).unwrap()).is_some());
        let error = |certificate: &str, key: &str| read(certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error(&certificate, &other), Error::Mismatch);
        assert_eq!(error("", &key), Error::NoCertificate);
        assert_eq!(error(&certificate, ""), Error::NoKey);
        assert_eq!(error(&certificate, &certificate), Error::NoKey);
        let garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(garbage, &key), Error::Certificate(_)));
    }

    #[test]
    fn generates_a_self_signed_certificate() {
        assert!(expires(&self_signed().unwrap()).is_some());
    }
}
