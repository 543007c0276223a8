//! X.509 certificates, parsed from PEM.

use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use x509::{CaBundle, Purpose};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::BACKDATE;

/// The maximum count of certificates in a bundle. The operator writes far fewer.
const MAX_CERTIFICATES: usize = 64;

/// The parts of a certificate that the operator uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The subject's common name, if it is text.
    pub common_name: Option<String>,
    /// Whether it is a CA (basic constraints, RFC 5280, 4.2.1.9).
    pub is_ca: bool,
    /// DNS names of the subject alternative name (RFC 5280, 4.2.1.6).
    pub dns_names: Vec<String>,
    /// The key's algorithm; `None` if the API does not offer it.
    pub algorithm: Option<KeyAlgorithm>,
    /// The SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

/// An error while parsing PEM. Its message continues the name of the file or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not PEM.
    #[error("is not valid PEM: {0}")]
    Pem(String),
    /// No certificate.
    #[error("contains no PEM block of type CERTIFICATE")]
    Empty,
    /// Too many certificates.
    #[error("contains more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// Not X.509.
    #[error("certificate number {number} is not valid X.509: {error}")]
    X509 {
        /// Its position in the bundle, from 1.
        number: usize,
        /// The parser's message.
        error: String,
    },
}

impl Certificate {
    /// Parses all certificates of a PEM bundle, in order. Fails if there is none.
    pub fn parse_pem(pem: &[u8]) -> Result<Vec<Self>, ParseError> {
        let mut certificates = Vec::new();
        for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            if index == MAX_CERTIFICATES {
                return Err(ParseError::TooMany);
            }
            let der = der.map_err(|error| ParseError::Pem(error.to_string()))?;
            certificates
                .push(Self::parse(&der).map_err(|error| ParseError::X509 { number: index + 1, error })?);
        }
        if certificates.is_empty() { Err(ParseError::Empty) } else { Ok(certificates) }
    }

    fn parse(der: &CertificateDer<'static>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        // RFC 5280 writes "no expiry" as the last second of year 9999, which is after the last Timestamp.
        let time = |seconds: i64| {
            let nearest = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
            Timestamp::from_second(seconds).unwrap_or(nearest)
        };
        let mut dns_names = Vec::new();
        let mut is_ca = false;
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    dns_names.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::DNSName(name) => Some((*name).to_owned()),
                        _ => None,
                    }));
                }
                ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
                _ => {}
            }
        }
        let subject_public_key_info = parsed.public_key();
        let algorithm = match subject_public_key_info.parsed() {
            Ok(PublicKey::EC(point)) if point.key_size() == 256 => Some(KeyAlgorithm::ECDSAP256),
            Ok(PublicKey::RSA(key)) if key.key_size() == 2048 => Some(KeyAlgorithm::RSA2048),
            Ok(PublicKey::RSA(key)) if key.key_size() == 4096 => Some(KeyAlgorithm::RSA4096),
            _ => None,
        };
        let certificate = Self {
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            common_name: parsed
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            is_ca,
            dns_names,
            algorithm,
            public_key: subject_public_key_info.raw.to_vec(),
            der: der.clone(),
        };
        Ok(certificate)
    }

    /// Returns the certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Encodes the certificate as PEM (RFC 7468).
    #[must_use]
    pub fn to_pem(&self) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut pem = String::with_capacity(body.len() + body.len() / 64 + 64);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Returns when the operator issued it: `notBefore` without the backdating.
    #[must_use]
    pub fn issued(&self) -> Timestamp {
        self.not_before.checked_add(BACKDATE).unwrap_or(Timestamp::MAX)
    }

    /// Returns the time from issuance to expiry.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.not_after.duration_since(self.issued()).try_into().unwrap_or_default()
    }

    /// Returns when to renew it: when a third of its validity is left, minus a jitter of up to a twentieth, so that
    /// certificates of the same age are not renewed at once. The jitter is derived from the public key.
    #[must_use]
    pub fn renewal_time(&self) -> Timestamp {
        let validity = self.validity();
        // FNV-1a. Any hash works.
        let hash = self
            .public_key
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let jitter = validity / 20 / 1000 * (hash % 1000);
        self.not_after - Duration::from_secs((validity / 3 + jitter).as_secs())
    }

    /// Whether less than a tenth of its validity is left.
    #[must_use]
    pub fn expires_soon(&self, now: Timestamp) -> bool {
        self.not_after - self.validity() / 10 <= now
    }

    /// Whether it is valid at `now`.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether it is a serving certificate signed by this CA, as kube-apiserver verifies it at `time`.
    #[must_use]
    pub fn is_server_certificate_of(&self, ca: &Self, time: Timestamp) -> bool {
        self.is_server_certificate_with_chain(&[], ca, time)
    }

    /// Like [`Self::is_server_certificate_of`], with intermediate certificates. They must be valid at `time`, too, as
    /// kube-apiserver verifies the chain at each connection.
    #[must_use]
    pub fn is_server_certificate_with_chain(&self, chain: &[Self], ca: &Self, time: Timestamp) -> bool {
        self.verify_server_certificate(chain, [ca], time).is_ok()
    }

    /// Verifies that it is a serving certificate signed by one of these CAs, or itself one of them, at `time`.
    pub fn verify_server_certificate<'a>(
        &self,
        chain: &[Self],
        cas: impl IntoIterator<Item = &'a Self>,
        time: Timestamp,
    ) -> Result<(), x509::Error> {
        self.verify(cas, chain, Purpose::Server, time)
    }

    /// Whether its subject alternative name matches a host, also by a wildcard (RFC 9525).
    #[must_use]
    pub fn matches_host(&self, host: &str) -> bool {
        let Ok(certificate) = x509::Certificate::parse(&self.der) else { return false };
        ServerName::try_from(host).is_ok_and(|name| certificate.is_for_host(&name))
    }

    /// Whether it is a client certificate signed by this CA, verified at `time`.
    #[must_use]
    pub fn is_client_certificate_of(&self, ca: &Self, time: Timestamp) -> bool {
        self.verify([ca], &[], Purpose::Client, time).is_ok()
    }

    fn verify<'a>(
        &self,
        cas: impl IntoIterator<Item = &'a Self>,
        chain: &[Self],
        purpose: Purpose,
        time: Timestamp,
    ) -> Result<(), x509::Error> {
        let all: Vec<_> =
            std::iter::once(self).chain(chain).map(|certificate| certificate.der.clone()).collect();
        let anchors: Vec<_> =
            cas.into_iter().filter_map(|ca| x509::Certificate::parse(&ca.der).ok()).collect();
        CaBundle::from(anchors).verify(&all, purpose, time.as_second()).map(drop)
    }
}
