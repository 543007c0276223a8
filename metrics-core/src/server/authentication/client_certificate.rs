//! Client certificates: verified for each request, against the CAs of that moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crds::cause::CredentialCause;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::version1::{self, Flaw};
use super::{Opinion, Refusal, Trust, UserInfo};
use crate::digest::sha256_hex;

/// How long a verdict on a certificate counts while the trust stays the same: certificates expire.
const VERDICT_COUNTS: Duration = Duration::from_secs(30);

/// The CA certificates of one purpose.
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
    /// Reads a PEM bundle. The error says what is wrong with it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut anchors = Vec::new();
        for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let unreadable = |error: &dyn std::fmt::Display| {
                format!("certificate {} of the bundle is not readable: {error}", at + 1)
            };
            let der = certificate.map_err(|error| unreadable(&error))?;
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| unreadable(&error))?;
            let validity = parsed.validity();
            let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            let trusted =
                webpki::anchor_from_trusted_cert(&der).map_err(|error| unreadable(&error))?.to_owned();
            anchors.push(Anchor { der, trusted, not_before, not_after });
        }
        if anchors.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(Self(anchors)) }
    }

    /// Whether a certificate is in both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|a| {
            other.0.iter().any(|b| a.trusted.subject_public_key_info == b.trusted.subject_public_key_info)
        })
    }

    /// Verifies a client's chain (leaf first), as Go's x509 with `ExtKeyUsageClientAuth`.
    fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(refusal(CredentialCause::BadCertificate, &leaf_name(chain), "there is none"));
        };
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        // webpki does not look at an anchor's validity; Go does.
        let valid =
            || self.0.iter().filter(|anchor| anchor.not_before <= seconds && seconds <= anchor.not_after);
        if version1::is(leaf) {
            return version1::verify(leaf, valid().map(|anchor| &anchor.der), seconds).map_err(|flaw| {
                let (reason, text) = match flaw {
                    Flaw::Unreadable => (CredentialCause::BadCertificate, "not readable"),
                    Flaw::UnknownIssuer => (CredentialCause::UnknownCa, "signed by an unknown authority"),
                    Flaw::Expired => (CredentialCause::Expired, "expired"),
                    Flaw::NotYetValid => (CredentialCause::NotYetValid, "not valid yet"),
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

/// The client at the other end of a connection: what it showed in the handshake, with the verdict of the last
/// verification.
pub struct Peer {
    address: IpAddr,
    chain: Vec<CertificateDer<'static>>,
    verdict: Mutex<Option<Verdict>>,
}

#[derive(Clone)]
struct Verdict {
    generation: u64,
    until: Instant,
    front_proxy: Result<(), Refusal>,
    client: Result<(), Refusal>,
    subject: Arc<Subject>,
}

/// The names in a certificate that Kubernetes uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    organizations: Vec<String>,
    credential_id: String,
    /// The issuer's distinguished name.
    pub(super) issuer: String,
    /// When it expires, seconds since the Unix epoch.
    pub(super) not_after: i64,
}

impl Peer {
    /// The client at `address`, with the chain as it was sent, leaf first; empty if it showed none.
    #[must_use]
    pub fn new(address: IpAddr, chain: Vec<CertificateDer<'static>>) -> Self {
        Self { address: address.to_canonical(), chain, verdict: Mutex::new(None) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it showed no certificate.
    pub(super) fn is_bare(&self) -> bool {
        self.chain.is_empty()
    }

    /// The names in the certificate, whether or not it is worth anything.
    pub(super) fn subject(&self, trust: &Trust) -> Option<Arc<Subject>> {
        self.verdict(trust).map(|verdict| verdict.subject)
    }

    /// The result of the verification against the front proxy's CAs and the certificate's names; `None` if the
    /// client showed no certificate.
    pub(super) fn as_front_proxy(&self, trust: &Trust) -> Option<Result<Arc<Subject>, Refusal>> {
        self.verdict(trust).map(|verdict| verdict.front_proxy.map(|()| verdict.subject))
    }

    fn as_client(&self, trust: &Trust) -> Option<Result<Arc<Subject>, Refusal>> {
        self.verdict(trust).map(|verdict| verdict.client.map(|()| verdict.subject))
    }

    fn verdict(&self, trust: &Trust) -> Option<Verdict> {
        if self.chain.is_empty() {
            return None;
        }
        let mut kept = self.verdict.lock();
        let now = Instant::now();
        if let Some(verdict) =
            kept.as_ref().filter(|verdict| verdict.generation == trust.generation && now < verdict.until)
        {
            return Some(verdict.clone());
        }
        let against = |anchors: Option<&Anchors>| {
            anchors.map_or(Ok(()), |anchors| anchors.verify(&self.chain, SystemTime::now()))
        };
        let verdict = Verdict {
            generation: trust.generation,
            until: now + VERDICT_COUNTS,
            front_proxy: against(trust.front_proxy.as_ref().map(|proxy| &proxy.anchors)),
            client: against(trust.client_ca.as_ref()),
            subject: Arc::new(self.chain.first().and_then(subject).unwrap_or_default()),
        };
        *kept = Some(verdict.clone());
        Some(verdict)
    }
}

/// A client certificate's user: the common name, and the organizations as groups.
pub(super) fn authenticate(peer: &Peer, trust: &Trust) -> Opinion {
    if trust.client_ca.is_none() {
        return Opinion::None;
    }
    match peer.as_client(trust) {
        None => Opinion::None,
        Some(Err(refusal)) => Opinion::Refused(refusal),
        Some(Ok(subject)) if subject.common_name.is_empty() => Opinion::None,
        Some(Ok(subject)) => Opinion::User(UserInfo {
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
        // Of several common names Go takes the last.
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
    // A client chooses its name: bounded and without control characters.
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

/// Client authentication, or any use; a certificate without the extension is for all.
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

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, SystemTime};

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rustls_pki_types::CertificateDer;

    use super::{Anchors, CredentialCause, Peer, authenticate};
    use crate::server::authentication::{Opinion, Trust};

    pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    pub(crate) struct Ca {
        issuer: Issuer<'static, KeyPair>,
        pub(crate) pem: String,
    }

    pub(crate) fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a CA");
        let certificate = params.self_signed(&key).unwrap();
        Ca { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    impl Ca {
        pub(crate) fn issue(
            &self,
            change: impl FnOnce(&mut CertificateParams),
        ) -> (CertificateDer<'static>, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.distinguished_name = rcgen::DistinguishedName::new();
            change(&mut params);
            (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
        }

        fn trust(&self) -> Trust {
            Trust { client_ca: Some(Anchors::from_pem(self.pem.as_bytes()).unwrap()), ..Trust::default() }
        }
    }

    fn reason(ca: &Ca, certificate: CertificateDer<'static>) -> CredentialCause {
        match authenticate(&Peer::new(LOCAL, vec![certificate]), &ca.trust()) {
            Opinion::Refused(refusal) => refusal.reason,
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn name_and_organizations_make_the_user() {
        let ca = ca();
        let (certificate, _) = ca.issue(|params| {
            params.distinguished_name.push(DnType::CommonName, "jane");
            params.distinguished_name.push(DnType::OrganizationName, "dev");
        });
        let peer = Peer::new(LOCAL, vec![certificate]);
        let Opinion::User(user) = authenticate(&peer, &ca.trust()) else { panic!() };
        assert_eq!((user.name.as_str(), &user.groups[..]), ("jane", &["dev".to_owned()][..]));
        assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let (ca, other) = (ca(), ca_of_the_same_name());
        let (valid, _) = ca.issue(|_| {});
        assert_eq!(reason(&other, valid), CredentialCause::UnknownCa);
        let year =
            |year| move |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(year, 1, 1);
        assert_eq!(reason(&ca, ca.issue(year(2001)).0), CredentialCause::Expired);
        let future = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(3000, 1, 1);
        assert_eq!(reason(&ca, ca.issue(future).0), CredentialCause::NotYetValid);
        let server = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        assert_eq!(reason(&ca, ca.issue(server).0), CredentialCause::NotForClients);
        assert_eq!(reason(&ca, CertificateDer::from(vec![1, 2, 3])), CredentialCause::BadCertificate);
    }

    fn ca_of_the_same_name() -> Ca {
        ca()
    }

    #[test]
    fn usages_any_or_none_are_for_clients_too() {
        let ca = ca();
        for usages in [vec![], vec![ExtendedKeyUsagePurpose::Any]] {
            let (certificate, _) = ca.issue(|params| {
                params.extended_key_usages = usages;
                params.distinguished_name.push(DnType::CommonName, "a");
            });
            assert!(matches!(
                authenticate(&Peer::new(LOCAL, vec![certificate]), &ca.trust()),
                Opinion::User(_)
            ));
        }
    }

    #[test]
    fn an_expired_ca_vouches_for_nothing() {
        let ca = ca();
        let (certificate, _) = ca.issue(|params| params.not_after = rcgen::date_time_ymd(9000, 1, 1));
        let anchors = Anchors::from_pem(ca.pem.as_bytes()).unwrap();
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(150_000_000_000);
        assert!(anchors.verify(std::slice::from_ref(&certificate), SystemTime::now()).is_ok());
        assert_eq!(anchors.verify(&[certificate], late).unwrap_err().reason, CredentialCause::UnknownCa);
    }

    #[test]
    fn a_changed_trust_changes_the_verdict_of_a_standing_connection() {
        let (one, two) = (ca(), ca());
        let (certificate, _) = one.issue(|params| params.distinguished_name.push(DnType::CommonName, "a"));
        let peer = Peer::new(LOCAL, vec![certificate]);
        assert!(matches!(authenticate(&peer, &one.trust()), Opinion::User(_)));
        let later = Trust { generation: 1, ..two.trust() };
        assert!(matches!(authenticate(&peer, &later), Opinion::Refused(_)));
    }

    #[test]
    fn bundles_are_read_whole_or_refused() {
        let (one, two) = (ca(), ca());
        let both = Anchors::from_pem(format!("{}\n# a comment\n{}", one.pem, two.pem).as_bytes()).unwrap();
        assert_eq!(both.0.len(), 2);
        assert!(both.intersects(&Anchors::from_pem(two.pem.as_bytes()).unwrap()));
        assert!(
            !Anchors::from_pem(one.pem.as_bytes())
                .unwrap()
                .intersects(&Anchors::from_pem(two.pem.as_bytes()).unwrap())
        );
        assert_eq!(Anchors::from_pem(b"").unwrap_err(), "there is no certificate in it");
        let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(Anchors::from_pem(broken.as_bytes()).unwrap_err().contains("certificate 1"));
    }
}
