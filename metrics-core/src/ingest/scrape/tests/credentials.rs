//! Renewal of the token and of the client certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::{BODY, FakeKubelet, TestCa, TestScraper, ok, response};
use crate::ingest::scrape::tls::TlsConfigs;
use crate::ingest::scrape::{Credentials, KubeletTls};

#[tokio::test]
async fn reloads_a_rejected_token() {
    let ca = TestCa::new();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |request| {
        if request.contains("Bearer renewed\r\n") {
            ok(BODY)
        } else {
            response("401 Unauthorized", "", b"no")
        }
    })
    .await;
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
    assert_eq!(scraper.cause().await, "unauthorized");
    std::fs::write(&scraper.token, "renewed").unwrap();
    assert_eq!(scraper.cause().await, "ok");
    std::fs::write(&scraper.token, "bad\r\nX-Header: 1").unwrap();
    // The file is checked once a second at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    scraper.shared.token.as_ref().unwrap().recheck();
    assert_eq!(scraper.cause().await, "ok", "an invalid file keeps the last good token");
    assert_eq!(kubelet.connections(), 1);
}

#[tokio::test]
async fn presents_a_renewed_client_certificate_on_a_new_connection() {
    let ca = TestCa::new();
    let expired = Arc::new(AtomicBool::new(false));
    let refuses = expired.clone();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), move |request| {
        assert!(!request.contains("Authorization"), "{request}");
        if refuses.load(Ordering::Relaxed) { response("401 Unauthorized", "", b"no") } else { ok(BODY) }
    })
    .await;
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
    let file = |name| scraper.token.with_file_name(name);
    let (cert, key, ca_file) = (file("client.crt"), file("client.key"), file("ca.crt"));
    let renew = {
        let (cert, key) = (cert.clone(), key.clone());
        move || {
            let fresh = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["metrics-core".to_owned()]).unwrap();
            std::fs::write(&cert, params.self_signed(&fresh).unwrap().pem()).unwrap();
            std::fs::write(&key, fresh.serialize_pem()).unwrap();
        }
    };
    renew();
    let credentials = Credentials::ClientCertificate { cert: cert.into(), key: key.clone().into() };
    let pins = scraper.shared.findings.pins.clone();
    scraper.shared.tls = TlsConfigs::new(
        &KubeletTls::Verify { ca: ca_file.into() },
        &credentials,
        Duration::from_secs(15),
        pins,
    );
    scraper.shared.token = None;
    assert_eq!((scraper.cause().await, scraper.cause().await, kubelet.connections()), ("ok", "ok", 1));
    // The certificate was not renewed in time.
    expired.store(true, Ordering::Relaxed);
    assert_eq!((scraper.cause().await, kubelet.connections()), ("unauthorized", 1));
    renew();
    expired.store(false, Ordering::Relaxed);
    assert_eq!((scraper.cause().await, scraper.cause().await, kubelet.connections()), ("ok", "ok", 2));
    // It was renewed in time. After a rejection, files are checked once a second at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    renew();
    scraper.shared.tls.recheck();
    assert_eq!((scraper.cause().await, scraper.cause().await, kubelet.connections()), ("ok", "ok", 3));
    // A key pair of which one file is replaced does not close a working connection.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    scraper.shared.tls.recheck();
    assert_eq!((scraper.cause().await, kubelet.connections()), ("ok", 3));
}
