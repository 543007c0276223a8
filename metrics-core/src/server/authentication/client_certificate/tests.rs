use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;

use super::{Anchors, ClientConnection, CredentialCause, authenticate};
use crate::server::authentication::{Attempt, Trust};

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
    match authenticate(&ClientConnection::new(LOCAL, vec![certificate]), &ca.trust()) {
        Attempt::Refused(refusal) => refusal.reason,
        _ => panic!("not refused"),
    }
}

#[test]
fn common_name_is_the_user_and_organizations_are_groups() {
    let ca = ca();
    let (certificate, _) = ca.issue(|params| {
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
    });
    let connection = ClientConnection::new(LOCAL, vec![certificate]);
    let Attempt::Authenticated(user) = authenticate(&connection, &ca.trust()) else { panic!() };
    assert_eq!((user.name.as_str(), &user.groups[..]), ("jane", &["dev".to_owned()][..]));
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[test]
fn refuses_with_a_specific_reason() {
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
fn accepts_any_usage_and_none() {
    let ca = ca();
    for usages in [vec![], vec![ExtendedKeyUsagePurpose::Any]] {
        let (certificate, _) = ca.issue(|params| {
            params.extended_key_usages = usages;
            params.distinguished_name.push(DnType::CommonName, "a");
        });
        assert!(matches!(
            authenticate(&ClientConnection::new(LOCAL, vec![certificate]), &ca.trust()),
            Attempt::Authenticated(_)
        ));
    }
}

#[test]
fn refuses_certificates_of_an_expired_ca() {
    let ca = ca();
    let (certificate, _) = ca.issue(|params| params.not_after = rcgen::date_time_ymd(9000, 1, 1));
    let anchors = Anchors::from_pem(ca.pem.as_bytes()).unwrap();
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(150_000_000_000);
    assert!(anchors.verify(std::slice::from_ref(&certificate), SystemTime::now()).is_ok());
    assert_eq!(anchors.verify(&[certificate], late).unwrap_err().reason, CredentialCause::UnknownCa);
}

#[test]
fn verifies_again_on_an_open_connection_when_the_trust_changes() {
    let (one, two) = (ca(), ca());
    let (certificate, _) = one.issue(|params| params.distinguished_name.push(DnType::CommonName, "a"));
    let connection = ClientConnection::new(LOCAL, vec![certificate]);
    assert!(matches!(authenticate(&connection, &one.trust()), Attempt::Authenticated(_)));
    let later = Trust { generation: 1, ..two.trust() };
    assert!(matches!(authenticate(&connection, &later), Attempt::Refused(_)));
}

#[test]
fn refuses_a_bundle_with_an_invalid_certificate() {
    let (one, two) = (ca(), ca());
    let both = Anchors::from_pem(format!("{}\n# a comment\n{}", one.pem, two.pem).as_bytes()).unwrap();
    assert_eq!(both.0.certificates().len(), 2);
    assert!(both.intersects(&Anchors::from_pem(two.pem.as_bytes()).unwrap()));
    assert!(
        !Anchors::from_pem(one.pem.as_bytes())
            .unwrap()
            .intersects(&Anchors::from_pem(two.pem.as_bytes()).unwrap())
    );
    assert_eq!(Anchors::from_pem(b"").unwrap_err(), "it contains no certificate");
    let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(Anchors::from_pem(broken.as_bytes()).unwrap_err().contains("certificate 1"));
}

#[test]
fn refuses_a_group_that_a_user_of_the_bundle_signed_for_itself() {
    let ca = ca();
    let (user, key) = ca.issue(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name.push(DnType::CommonName, "user");
    });
    let issuer = Issuer::from_ca_cert_der(&user, key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let forged = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    let pem = |der: &CertificateDer<'_>| {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let bundle = format!("{}{}", ca.pem, pem(&user));
    let trust = Trust { client_ca: Some(Anchors::from_pem(bundle.as_bytes()).unwrap()), ..Trust::default() };
    let connection = ClientConnection::new(LOCAL, vec![forged]);
    let Attempt::Refused(refusal) = authenticate(&connection, &trust) else { panic!("not refused") };
    assert_eq!(refusal.reason, CredentialCause::UnknownCa);
    assert!(
        refusal.detail.contains("cn=root: ") && refusal.detail.contains("CN=user is not a CA"),
        "{refusal}"
    );
    // The user itself is accepted.
    let connection = ClientConnection::new(LOCAL, vec![user]);
    assert!(matches!(authenticate(&connection, &trust), Attempt::Authenticated(user) if user.name == "user"));
}

#[test]
fn accepts_a_ca_certificate_as_client() {
    let ca = ca();
    let (certificate, _) = ca.issue(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "aggregator");
    });
    let connection = ClientConnection::new(LOCAL, vec![certificate]);
    assert!(matches!(authenticate(&connection, &ca.trust()), Attempt::Authenticated(_)));
}
