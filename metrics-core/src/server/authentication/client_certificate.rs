//! Client certificates, verified per request against the CAs trusted at that time.

#[cfg(test)]
pub(super) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crds::cause::CredentialCause;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use x509::{CaBundle, Certificate, Purpose};

use super::{Attempt, Refusal, Trust, UserInfo};
use crate::digest::sha256_hex;

/// How long a verification is cached while the trust is unchanged; bounded, as certificates expire.
const VERIFICATION_TTL: Duration = Duration::from_secs(30);

/// The trust anchors (CA certificates) for one purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(CaBundle);

impl Anchors {
    /// Parses a PEM bundle. The error is a description.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let (bundle, invalid) = CaBundle::from_pem(pem);
        // As in k8s.io/apiserver: a bundle of which a part is lost must not replace a complete one.
        if let Some(invalid) = invalid.first() {
            return Err(invalid.to_string());
        }
        if bundle.certificates().is_empty() {
            return Err("it contains no certificate".to_owned());
        }
        Ok(Self(bundle))
    }

    /// Returns whether both contain the same public key.
    #[must_use]
    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.intersects(&other.0)
    }

    /// Verifies a client's chain (leaf first) as Go's crypto/x509 does with `ExtKeyUsageClientAuth`.
    fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Refusal> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.0.verify(chain, Purpose::Client, seconds).map(drop).map_err(|error| refusal(&error, chain))
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
    let parsed = Certificate::parse(certificate).ok()?;
    let subject = parsed.subject();
    Some(Subject {
        common_name: subject.common_name().unwrap_or_default().to_owned(),
        organizations: subject.organizations().map(str::to_owned).collect(),
        credential_id: format!("X509SHA256={}", sha256_hex(certificate)),
        issuer: parsed.issuer().to_string(),
        not_after: parsed.not_after(),
    })
}

fn refusal(error: &x509::Error, chain: &[CertificateDer<'_>]) -> Refusal {
    use x509::Error as E;
    let reason = match error {
        E::UnknownIssuer { .. } => CredentialCause::UnknownCa,
        E::Expired { .. } => CredentialCause::Expired,
        E::NotYetValid { .. } => CredentialCause::NotYetValid,
        E::WrongUsage { .. } => CredentialCause::NotForClients,
        _ => CredentialCause::BadCertificate,
    };
    let common_name = chain.first().and_then(subject).map(|subject| subject.common_name).unwrap_or_default();
    // The client chooses the name, so it is shortened and printable.
    let common_name: String = common_name.chars().filter(|c| !c.is_control()).take(80).collect();
    Refusal { reason, detail: format!("client certificate with cn={common_name}: {error}") }
}
