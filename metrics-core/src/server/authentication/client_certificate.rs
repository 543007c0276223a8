//! Client certificates, verified per request against the CAs trusted at that time.

#[cfg(test)]
pub(super) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crds::cause::CredentialCause;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::version1::{self, V1Error};
use super::{Attempt, Refusal, Trust, UserInfo};
use crate::digest::sha256_hex;

/// How long a verification is cached while the trust is unchanged; bounded, as certificates expire.
const VERIFICATION_TTL: Duration = Duration::from_secs(30);

/// The trust anchors (CA certificates) for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(Vec<Anchor>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Anchor {
    der: CertificateDer<'static>,
    trusted: TrustAnchor<'static>,
    not_before: i64,
    not_after: i64,
}

impl Anchors {
    /// Parses a PEM bundle. The error is a description.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut anchors = Vec::new();
        for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let unreadable = |error: &dyn std::fmt::Display| {
                format!("certificate {} of the bundle is invalid: {error}", at + 1)
            };
            let der = certificate.map_err(|error| unreadable(&error))?;
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| unreadable(&error))?;
            let validity = parsed.validity();
            let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            let trusted =
                webpki::anchor_from_trusted_cert(&der).map_err(|error| unreadable(&error))?.to_owned();
            anchors.push(Anchor { der, trusted, not_before, not_after });
        }
        if anchors.is_empty() { Err("it contains no certificate".to_owned()) } else { Ok(Self(anchors)) }
    }

    /// Returns whether both contain the same public key.
    #[must_use]
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|a| {
            other.0.iter().any(|b| a.trusted.subject_public_key_info == b.trusted.subject_public_key_info)
        })
    }

    /// Verifies a client's chain (leaf first) as Go's crypto/x509 does with `ExtKeyUsageClientAuth`.
    fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(refusal(CredentialCause::BadCertificate, &leaf_name(chain), "the chain is empty"));
        };
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        // Unlike Go, webpki ignores the validity of trust anchors.
        let valid =
            || self.0.iter().filter(|anchor| anchor.not_before <= seconds && seconds <= anchor.not_after);
        if version1::is(leaf) {
            return version1::verify(leaf, valid().map(|anchor| &anchor.der), seconds).map_err(|flaw| {
                let (reason, text) = match flaw {
                    V1Error::InvalidEncoding => (CredentialCause::BadCertificate, "invalid encoding"),
                    V1Error::UnknownIssuer => (CredentialCause::UnknownCa, "signed by an unknown authority"),
                    V1Error::Expired => (CredentialCause::Expired, "expired"),
                    V1Error::NotYetValid => (CredentialCause::NotYetValid, "not valid yet"),
                };
                refusal(reason, &leaf_name(chain), text)
            });
        }
        let anchors: Vec<TrustAnchor<'_>> = valid().map(|anchor| anchor.trusted.clone()).collect();
        let failed = |error: &webpki::Error| {
            let (reason, text) = classify(error);
            refusal(reason, &leaf_name(chain), &text)
        };
        let leaf = EndEntityCert::try_from(leaf).map_err(|error| failed(&error))?;
        let time = UnixTime::since_unix_epoch(since);
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            time,
            ForClients,
            None,
            None,
        )
        .map(|_| ())
        .map_err(|error| failed(&error))
    }
}

/// The client of a connection: its address, its certificates from the handshake and the cached verification.
pub struct ClientConnection {
    address: IpAddr,
    chain: Vec<CertificateDer<'static>>,
    verification: Mutex<Option<Verification>>,
}

#[derive(Clone)]
struct Verification {
    /// The generation of the trust.
    generation: u64,
    expiry: Instant,
    front_proxy: Result<(), Refusal>,
    client: Result<(), Refusal>,
    subject: Arc<Subject>,
}

/// The fields of a certificate that Kubernetes uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    organizations: Vec<String>,
    credential_id: String,
    /// The issuer's distinguished name.
    pub(super) issuer: String,
    /// The expiry, seconds since the Unix epoch.
    pub(super) not_after: i64,
}

impl ClientConnection {
    /// Returns the client at `address` with its certificate chain, leaf first; empty if it presented none.
    #[must_use]
    pub fn new(address: IpAddr, chain: Vec<CertificateDer<'static>>) -> Self {
        Self { address: address.to_canonical(), chain, verification: Mutex::new(None) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns whether the client presented no certificate.
    pub(super) fn has_no_certificate(&self) -> bool {
        self.chain.is_empty()
    }

    /// Returns the subject of the certificate, trusted or not.
    pub(super) fn subject(&self, trust: &Trust) -> Option<Arc<Subject>> {
        self.verification(trust).map(|verification| verification.subject)
    }

    /// Returns the subject if the certificate is signed by a CA of the front proxy; `None` if the client presented no
    /// certificate.
    pub(super) fn as_front_proxy(&self, trust: &Trust) -> Option<Result<Arc<Subject>, Refusal>> {
        self.verification(trust).map(|verification| verification.front_proxy.map(|()| verification.subject))
    }

    fn as_client(&self, trust: &Trust) -> Option<Result<Arc<Subject>, Refusal>> {
        self.verification(trust).map(|verification| verification.client.map(|()| verification.subject))
    }

    fn verification(&self, trust: &Trust) -> Option<Verification> {
        if self.chain.is_empty() {
            return None;
        }
        let mut cached = self.verification.lock();
        let now = Instant::now();
        let is_current =
            |cached: &&Verification| cached.generation == trust.generation && now < cached.expiry;
        if let Some(verification) = cached.as_ref().filter(is_current) {
            return Some(verification.clone());
        }
        let verify = |anchors: Option<&Anchors>| {
            anchors.map_or(Ok(()), |anchors| anchors.verify(&self.chain, SystemTime::now()))
        };
        let verification = Verification {
            generation: trust.generation,
            expiry: now + VERIFICATION_TTL,
            front_proxy: verify(trust.front_proxy.as_ref().map(|proxy| &proxy.anchors)),
            client: verify(trust.client_ca.as_ref()),
            subject: Arc::new(self.chain.first().and_then(subject).unwrap_or_default()),
        };
        *cached = Some(verification.clone());
        Some(verification)
    }
}

/// Authenticates by client certificate: the common name is the user, the organizations are the groups.
pub(super) fn authenticate(connection: &ClientConnection, trust: &Trust) -> Attempt {
    if trust.client_ca.is_none() {
        return Attempt::NotApplicable;
    }
    match connection.as_client(trust) {
        None => Attempt::NotApplicable,
        Some(Err(refusal)) => Attempt::Refused(refusal),
        Some(Ok(subject)) if subject.common_name.is_empty() => Attempt::NotApplicable,
        Some(Ok(subject)) => Attempt::Authenticated(UserInfo {
            name: subject.common_name.clone(),
            uid: String::new(),
            groups: subject.organizations.clone(),
            extra: [(
                "authentication.kubernetes.io/credential-id".to_owned(),
                vec![subject.credential_id.clone()],
            )]
            .into(),
        }),
    }
}

fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
    Some(Subject {
        // Of several common names, Go uses the last.
        common_name: name.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: name.iter_organization().filter_map(text).collect(),
        credential_id: format!("X509SHA256={}", sha256_hex(certificate)),
        issuer: parsed.issuer().to_string(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

fn leaf_name(chain: &[CertificateDer<'_>]) -> String {
    chain.first().and_then(subject).map(|subject| subject.common_name).unwrap_or_default()
}

fn refusal(reason: CredentialCause, common_name: &str, text: &str) -> Refusal {
    // The client chooses the name, so it is shortened and printable.
    let common_name: String = common_name.chars().filter(|c| !c.is_control()).take(80).collect();
    Refusal { reason, detail: format!("client certificate with cn={common_name}: {text}") }
}

fn classify(error: &webpki::Error) -> (CredentialCause, String) {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            (CredentialCause::UnknownCa, "signed by an unknown authority".to_owned())
        }
        E::CertExpired { .. } => (CredentialCause::Expired, "expired".to_owned()),
        E::CertNotValidYet { .. } => (CredentialCause::NotYetValid, "not valid yet".to_owned()),
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            (CredentialCause::NotForClients, "not for client authentication (extended key usage)".to_owned())
        }
        other => (CredentialCause::BadCertificate, format!("{other:?}")),
    }
}

/// Accepts extended key usage clientAuth or any, and certificates without the extension.
struct ForClients;

impl ExtendedKeyUsageValidator for ForClients {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        const CLIENT: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
        const ANY: [usize; 5] = [2, 5, 29, 37, 0];
        let mut present = Vec::new();
        for usage in usages {
            let oid: Vec<usize> = usage?.to_decoded_oid();
            if oid == CLIENT || oid == ANY {
                return Ok(());
            }
            present.push(oid);
        }
        if present.is_empty() {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
            required: webpki::KeyUsage::client_auth(),
            present,
        }))
    }
}
