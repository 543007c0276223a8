//! One certificate, read from PEM.

use std::time::Duration;

use crds::KeyAlgorithm;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::BACKDATE;

/// More certificates than any bundle of ours has; what is larger was not written by us.
const MAX_CERTIFICATES: usize = 64;

/// What the operator needs to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// The subject's common name, if it has one that is text.
    pub common_name: Option<String>,
    /// Whether it may sign others (RFC 5280, 4.2.1.9).
    pub is_ca: bool,
    /// DNS names of the subject (RFC 5280, 4.2.1.6).
    pub dns_names: Vec<String>,
    /// The key's algorithm, when it is one that the API offers.
    pub algorithm: Option<KeyAlgorithm>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

/// Why PEM could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not PEM.
    #[error("is not valid PEM: {0}")]
    Pem(String),
    /// PEM without a certificate.
    #[error("holds no PEM block of type CERTIFICATE")]
    Empty,
    /// Too many certificates.
    #[error("holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// Not X.509.
    #[error("certificate number {number} is not valid X.509: {error}")]
    X509 {
        /// Its place in the bundle, from 1.
        number: usize,
        /// What the parser says.
        error: String,
    },
}

impl Certificate {
    /// Reads every certificate of a PEM bundle, in order; at least one.
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
        let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
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
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
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

    /// The certificate itself (RFC 5280, 4.1) in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// PEM (RFC 7468).
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

    /// When it was issued, if by us.
    #[must_use]
    pub fn issued(&self) -> Timestamp {
        self.not_before + BACKDATE
    }

    /// How long it was issued for.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.not_after.duration_since(self.issued()).try_into().unwrap_or_default()
    }

    /// When it is renewed: when a third of its validity is left, and up to a twentieth earlier, so that many
    /// of one age are not renewed at once. The same certificate always gives the same moment.
    #[must_use]
    pub fn renewal_time(&self) -> Timestamp {
        let validity = self.validity();
        // FNV-1a; any mixing of the bytes will do.
        let hash = self
            .der
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

    /// Whether it is valid at a time.
    #[must_use]
    pub fn valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether it is a server's certificate signed by this CA: a chain of two that rustls accepts.
    #[must_use]
    pub fn serves_under(&self, ca: &Self) -> bool {
        self.serves_by(&[], ca)
    }

    /// The same, with the certificates between the two.
    #[must_use]
    pub fn serves_by(&self, chain: &[Self], ca: &Self) -> bool {
        self.is_under(ca, chain, webpki::KeyUsage::server_auth())
    }

    /// Whether it names a host: by itself or by a wildcard (RFC 9525).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let Ok(end_entity) = webpki::EndEntityCert::try_from(&self.der) else { return false };
        ServerName::try_from(host)
            .is_ok_and(|name| end_entity.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Whether it is a client's certificate signed by this CA.
    #[must_use]
    pub fn authenticates_under(&self, ca: &Self) -> bool {
        self.is_under(ca, &[], webpki::KeyUsage::client_auth())
    }

    fn is_under(&self, ca: &Self, chain: &[Self], usage: webpki::KeyUsage) -> bool {
        let Ok(anchor) = webpki::anchor_from_trusted_cert(&ca.der) else { return false };
        let Ok(end_entity) = webpki::EndEntityCert::try_from(&self.der) else { return false };
        let chain: Vec<_> = chain.iter().map(|certificate| certificate.der.clone()).collect();
        // Within the certificate's own validity: expiry is judged apart, with its own words.
        let seconds = u64::try_from(self.issued().as_second()).unwrap_or_default();
        end_entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &chain,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                usage,
                None,
                None,
            )
            .is_ok()
    }
}
