//! Verification and pinning of serving certificates.

use crds::cause::ScrapeCause;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{BODY, FakeKubelet, TestCa, TestScraper, acceptor, acceptor_of, node, ok};
use crate::ingest::discover::Node;
use crate::ingest::scrape::{Error, Findings};
use crate::ingest::store::PutSummary;

#[tokio::test]
async fn verifies_certificates_against_the_ca_and_the_nodes_names() {
    let ca = TestCa::new();
    let own_name = FakeKubelet::start(Some(ca.acceptor(&["worker-1"], |_| {})), |_| ok(BODY)).await;
    assert_eq!(TestScraper::new(&ca, own_name.address.port(), &["127.0.0.1"]).cause().await, "ok");
    let own_address = FakeKubelet::start(Some(ca.acceptor(&["10.9.8.7"], |_| {})), |_| ok(BODY)).await;
    assert_eq!(TestScraper::new(&ca, own_address.address.port(), &["127.0.0.1"]).cause().await, "ok");
    let other = FakeKubelet::start(Some(ca.acceptor(&["worker-2"], |_| {})), |_| ok(BODY)).await;
    let port = other.address.port();
    let error = TestScraper::new(&ca, port, &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause().as_str(), "tls_name_mismatch");
    assert!(error.to_string().contains("worker-2"), "{error}");
    let other_ca = TestCa::new();
    assert_eq!(TestScraper::new(&other_ca, port, &["127.0.0.1"]).cause().await, "tls_unknown_ca");
    assert_eq!(TestScraper::with(&other_ca, node(port, &["127.0.0.1"]), true).cause().await, "ok");
    let expired = ca.acceptor(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let expired = FakeKubelet::start(Some(expired), |_| ok(BODY)).await;
    let error = TestScraper::new(&ca, expired.address.port(), &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsExpired);
    // The message must not change from one scrape to the next.
    assert!(
        error.to_string().starts_with("the kubelet's serving certificate expired at 2001-01-01T00:00:00Z; "),
        "{error}"
    );
}

#[tokio::test]
async fn reports_certificates_without_names_or_trusted_issuer() {
    let ca = TestCa::new();
    let nameless = FakeKubelet::start(Some(ca.acceptor(&[], |_| {})), |_| ok(BODY)).await;
    let error = TestScraper::new(&ca, nameless.address.port(), &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsNameMismatch);
    assert!(error.to_string().contains("no subject alternative names"), "{error}");
    // For a certificate that is self-signed and expired, the issuer matters more.
    for adjust in [unchanged, expired, certificate_authority] {
        let kubelet =
            FakeKubelet::start(Some(self_signed(&KeyPair::generate().unwrap(), adjust)), |_| ok(BODY));
        let port = kubelet.await.address.port();
        assert_eq!(TestScraper::new(&ca, port, &["127.0.0.1"]).cause().await, "tls_unknown_ca");
    }
}

/// A kubelet with serverTLSBootstrap has no certificate before its CertificateSigningRequest is approved. Go's server then
/// sends the alert internal_error (80) instead of a ServerHello.
#[tokio::test]
async fn reports_a_kubelet_without_a_certificate() {
    let alert = |description: u8| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut hello = [0; 16_384];
                assert!(stream.read(&mut hello).await.unwrap() > 0);
                stream.write_all(&[21, 3, 3, 0, 2, 2, description]).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let ca = TestCa::new();
        TestScraper::new(&ca, port, &["127.0.0.1"]).scrape().await.unwrap_err()
    };
    let error = alert(80).await;
    assert_eq!(error.cause(), ScrapeCause::TlsNoCertificate);
    assert!(error.to_string().contains("kubectl certificate approve"), "{error}");
    assert_eq!(alert(40).await.cause(), ScrapeCause::TlsOther, "handshake_failure");
}

fn unchanged(_: &mut CertificateParams) {}

fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
}

fn certificate_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn self_signed(key: &KeyPair, adjust: fn(&mut CertificateParams)) -> TlsAcceptor {
    let mut params = CertificateParams::new(["some-host".to_owned()]).unwrap();
    adjust(&mut params);
    let certificate = params.self_signed(key).unwrap();
    acceptor(&certificate, key)
}

#[tokio::test]
async fn pins_the_first_key_and_sends_no_token_to_another() {
    let (ca, findings) = (TestCa::new(), Findings::default());
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let scrape = async |acceptor: TlsAcceptor, uid: &str| {
        let kubelet = FakeKubelet::start(Some(acceptor), |request| {
            assert!(request.starts_with("GET ") && request.contains("Bearer secret"));
            ok(BODY)
        });
        let node = Node { uid: uid.into(), ..node(kubelet.await.address.port(), &["127.0.0.1"]) };
        TestScraper::pinning(&ca, node, &findings).scrape().await
    };
    assert!(scrape(self_signed(&first, unchanged), "1").await.is_ok());
    assert!(
        scrape(self_signed(&first, expired), "1").await.is_ok(),
        "the key is pinned, not the certificate"
    );
    assert!(scrape(self_signed(&first, certificate_authority), "1").await.is_ok());
    assert_eq!(findings.pins.count(), 1);
    let error = scrape(self_signed(&second, unchanged), "1").await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsPinMismatch);
    assert!(
        error.to_string().contains("differs from the pinned key") && error.to_string().len() < 600,
        "{error}"
    );
    assert!(scrape(self_signed(&second, unchanged), "2").await.is_ok(), "another Node");
    // CA-signed certificates are still verified for name and time.
    let signed = |names: &[&str], adjust: fn(&mut CertificateParams)| ca.acceptor(names, adjust);
    let cause = |result: Result<PutSummary, Error>| result.unwrap_err().cause();
    assert_eq!(cause(scrape(signed(&["worker-2"], unchanged), "3").await), ScrapeCause::TlsNameMismatch);
    assert_eq!(cause(scrape(signed(&["worker-1"], expired), "3").await), ScrapeCause::TlsExpired);
    assert!(
        scrape(signed(&["worker-1"], unchanged), "1").await.is_ok(),
        "a pinned node with a CA-signed certificate"
    );
    assert_eq!(cause(scrape(self_signed(&first, unchanged), "1").await), ScrapeCause::TlsPinMismatch);
}

#[tokio::test]
async fn does_not_pin_a_key_without_proof_of_possession() {
    let (ca, findings) = (TestCa::new(), Findings::default());
    let (own, stolen) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&stolen).unwrap();
    let kubelet = FakeKubelet::start(Some(acceptor(&certificate, &own)), |_| ok(BODY)).await;
    let node = node(kubelet.address.port(), &["127.0.0.1"]);
    let error = TestScraper::pinning(&ca, node, &findings).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsOther);
    assert!(error.to_string().contains("did not prove possession"), "{error}");
    assert_eq!(findings.pins.count(), 0);
}

/// Starts a kubelet with this certificate and returns its port.
async fn kubelet_of(certificate: CertificateDer<'static>, key: &KeyPair) -> u16 {
    FakeKubelet::start(Some(acceptor_of(certificate, key)), |_| ok(BODY)).await.address.port()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn accepts_a_certificate_that_stands_in_the_bundle() {
    for adjust in [unchanged, certificate_authority] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["worker-1".to_owned()]).unwrap();
        adjust(&mut params);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let ca = TestCa { pem: pem(&certificate), ..TestCa::new() };
        let port = kubelet_of(certificate, &key).await;
        assert_eq!(TestScraper::new(&ca, port, &["127.0.0.1"]).cause().await, "ok");
    }
}

#[tokio::test]
async fn refuses_a_certificate_that_one_without_ca_flag_signed() {
    let (key, signer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let signer = CertificateParams::new(["worker-2".to_owned()]).unwrap();
    let ca = TestCa { pem: signer.self_signed(&signer_key).unwrap().pem(), ..TestCa::new() };
    let issuer = rcgen::Issuer::new(signer, signer_key);
    let params = CertificateParams::new(["worker-1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let port = kubelet_of(certificate.der().clone(), &key).await;
    let error = TestScraper::new(&ca, port, &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsUnknownCa);
    assert!(error.to_string().contains("is not a CA (no basicConstraints CA:TRUE)"), "{error}");
}

#[tokio::test]
async fn pin_and_insecure_accept_version_1_and_times_before_1970() {
    let ca = TestCa::new();
    let key = KeyPair::generate().unwrap();
    let mut old = CertificateParams::new(["some-host".to_owned()]).unwrap();
    old.not_before = rcgen::date_time_ymd(1955, 1, 1);
    let old = old.self_signed(&key).unwrap().der().clone();
    for certificate in [version_1(&key), old] {
        let port = kubelet_of(certificate, &key).await;
        let node = || node(port, &["127.0.0.1"]);
        assert_eq!(TestScraper::with(&ca, node(), true).cause().await, "ok");
        let findings = Findings::default();
        assert_eq!(TestScraper::pinning(&ca, node(), &findings).cause().await, "ok");
        assert_eq!(findings.pins.count(), 1);
        assert_eq!(TestScraper::new(&ca, port, &["127.0.0.1"]).cause().await, "tls_unknown_ca");
    }
}

#[tokio::test]
async fn version_1_needs_proof_of_possession_too() {
    let (own, stolen) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let port = kubelet_of(version_1(&stolen), &own).await;
    let node = node(port, &["127.0.0.1"]);
    assert_eq!(TestScraper::with(&TestCa::new(), node, true).cause().await, "tls_other");
}

/// Returns a self-signed certificate of X.509 version 1, as `openssl x509 -req` without an extension file makes it.
fn version_1(key: &KeyPair) -> CertificateDer<'static> {
    let usual = CertificateParams::new(vec![]).unwrap().self_signed(key).unwrap();
    let tbs = elements(elements(usual.der())[0]);
    let kept: Vec<&[u8]> = tbs[1..].iter().copied().filter(|element| element[0] != 0xa3).collect();
    let algorithm = kept[1];
    let tbs = element(0x30, &kept);
    let signature = key.sign(&tbs).unwrap();
    element(0x30, &[&tbs, algorithm, &element(0x03, &[&[0], &signature])]).into()
}

/// Returns the elements within a DER element.
fn elements(der: &[u8]) -> Vec<&[u8]> {
    let (header, _) = header(der);
    let (mut rest, mut found) = (&der[header..], Vec::new());
    while !rest.is_empty() {
        let (header, length) = self::header(rest);
        let (one, after) = rest.split_at(header + length);
        found.push(one);
        rest = after;
    }
    found
}

/// Returns the lengths of an element's header and of its content.
fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        0x81 => (3, der[2].into()),
        0x82 => (4, u16::from_be_bytes([der[2], der[3]]).into()),
        length => (2, length.into()),
    }
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = if content.len() < 0x80 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
    let header = if high == 0 && low >= 0x80 { vec![tag, 0x81, low] } else { header };
    [header, content].concat()
}
