//! Issues keys and certificates.

use std::fmt;
use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, RsaKeySize,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::BACKDATE;

#[cfg(test)]
pub(crate) mod seeded_keys;

/// A private key in PEM. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PrivateKey(String);

impl PrivateKey {
    /// Wraps PEM without parsing it. [`Self::public_key`] fails if it is not a key.
    #[must_use]
    pub(crate) fn from_pem(pem: String) -> Self {
        Self(pem)
    }

    /// Returns the PEM, for the Secret that stores it. Never log it.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the SubjectPublicKeyInfo of the public key in DER.
    pub(crate) fn public_key(&self) -> Result<Vec<u8>, IssueError> {
        Ok(self.load()?.subject_public_key_info())
    }

    fn load(&self) -> Result<KeyPair, IssueError> {
        // The parser's error may quote the key, so it is dropped.
        KeyPair::from_pem(&self.0).map_err(|_| IssueError::Key)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The certificate in PEM.
    pub certificate: String,
    /// The private key.
    pub key: PrivateKey,
}

/// An error while issuing a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The private key can't be parsed.
    #[error("the private key is not PKCS #8, PKCS #1 or SEC 1 in PEM")]
    Key,
    /// The CA certificate can't be parsed.
    #[error("the CA certificate can't sign certificates: {0}")]
    Ca(String),
    /// The library failed to generate the key or certificate.
    #[error("failed to generate the certificate: {0}")]
    Generate(#[from] rcgen::Error),
}

/// Issues a self-signed CA with path length 0.
pub(crate) fn issue_ca(
    name: &str,
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Result<Pair, IssueError> {
    let key = new_key(algorithm)?;
    let mut parameters = CertificateParams::new(Vec::new())?;
    // Each CA has a distinct name, as verifiers find the issuer by name and a bundle may hold two.
    parameters.distinguished_name = common_name(&format!("{name} {}", now.as_second()));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters, now, now + validity);
    let certificate = parameters.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: PrivateKey(key.serialize_pem()) })
}

/// Issues a serving certificate for DNS names. It expires no later than the CA.
pub(crate) fn issue_leaf(
    ca: &Pair,
    ca_not_after: Timestamp,
    names: &[String],
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Result<Pair, IssueError> {
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name = common_name("metrics-core");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut parameters, now, ca_not_after.min(now + validity));
    sign(ca, parameters, algorithm)
}

/// Issues a client certificate with the common name `name`.
pub(crate) fn issue_client(
    ca: &Pair,
    name: &str,
    algorithm: KeyAlgorithm,
    until: Timestamp,
    now: Timestamp,
) -> Result<Pair, IssueError> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name = common_name(name);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut parameters, now, until);
    sign(ca, parameters, algorithm)
}

/// Generates a key and signs its certificate.
fn sign(ca: &Pair, mut parameters: CertificateParams, algorithm: KeyAlgorithm) -> Result<Pair, IssueError> {
    let issuer_certificate = CertificateDer::from_pem_slice(ca.certificate.as_bytes())
        .map_err(|error| IssueError::Ca(error.to_string()))?;
    let issuer = Issuer::from_ca_cert_der(&issuer_certificate, ca.key.load()?)
        .map_err(|error| IssueError::Ca(error.to_string()))?;
    let key = new_key(algorithm)?;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = match algorithm {
        KeyAlgorithm::ECDSAP256 => vec![KeyUsagePurpose::DigitalSignature],
        // RSA key exchange of TLS 1.2 (RFC 5280, 4.2.1.3).
        KeyAlgorithm::RSA2048 | KeyAlgorithm::RSA4096 => {
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment]
        }
    };
    let certificate = parameters.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: PrivateKey(key.serialize_pem()) })
}

fn new_key(algorithm: KeyAlgorithm) -> Result<KeyPair, rcgen::Error> {
    #[cfg(test)]
    if algorithm == KeyAlgorithm::ECDSAP256
        && let Some(key) = seeded_keys::next()
    {
        return key;
    }
    match algorithm {
        KeyAlgorithm::ECDSAP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::RSA2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyAlgorithm::RSA4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn set_validity(parameters: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch =
        |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default());
    parameters.not_before = epoch + since_epoch(now - BACKDATE);
    parameters.not_after = epoch + since_epoch(until);
}
