//! Connections and addresses: reuse, replacement, choice of the address.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{BODY, FakeKubelet, FakeResponse, TestCa, TestScraper, node, ok, response};
use crate::ingest::scrape::inflate::tests::gzip;
use crate::ingest::scrape::resolver::Resolver;
use crate::ingest::scrape::{Credentials, Findings, KubeletTls, first_address_only};

#[tokio::test]
async fn reuses_one_connection_with_any_framing() {
    let ca = TestCa::new();
    let turn = AtomicUsize::new(0);
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), move |request| {
        assert!(request.starts_with("GET /metrics/resource HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer secret\r\n"), "{request}");
        match turn.fetch_add(1, Ordering::Relaxed) {
            0 => ok(BODY),
            1 => response("200 OK", "Content-Encoding: gzip\r\n", &gzip(BODY.as_bytes())),
            _ => {
                let zipped = gzip(BODY.as_bytes());
                let (a, b) = zipped.split_at(20);
                let mut raw =
                    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
                        .to_vec();
                for part in [a, b] {
                    raw.extend(format!("{:x}\r\n", part.len()).bytes());
                    raw.extend(part);
                    raw.extend(b"\r\n");
                }
                raw.extend(b"0\r\n\r\n");
                FakeResponse(raw, Duration::ZERO, false)
            }
        }
    })
    .await;
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
    for _ in 0..4 {
        let put = scraper.scrape().await.unwrap();
        assert_eq!(put.node_timestamp_ns, Some(1_000_000_000));
    }
    assert_eq!(kubelet.connections(), 1);
}

#[tokio::test]
async fn replaces_a_closed_connection_without_a_failure() {
    let ca = TestCa::new();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        FakeResponse(ok(BODY).0, Duration::ZERO, true)
    })
    .await;
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
    for _ in 0..3 {
        assert_eq!(scraper.cause().await, "ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kubelet.connections(), 3);
}

#[tokio::test]
async fn finds_and_remembers_the_address_that_works() {
    let ca = TestCa::new();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        FakeResponse(ok(BODY).0, Duration::ZERO, true)
    })
    .await;
    let hosts = ["not a name", "127.0.0.2", "127.0.0.1"];
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &hosts);
    assert_eq!(scraper.cause().await, "ok");
    assert_eq!(scraper.cause().await, "ok");
    // An address that drops packets is skipped quickly (TEST-NET-1, RFC 5737), or refused where there is no route.
    let hosts = ["192.0.2.1", "127.0.0.1"];
    let started = Instant::now();
    assert_eq!(TestScraper::new(&ca, kubelet.address.port(), &hosts).cause().await, "ok");
    assert!(started.elapsed() < Duration::from_secs(1));
    let mut nowhere = TestScraper::new(&ca, kubelet.address.port(), &["not a name", "127.0.0.2"]);
    assert_eq!(nowhere.cause().await, "connection_refused");
    assert_eq!(TestScraper::new(&ca, 1, &[]).cause().await, "no_address");
}

#[tokio::test]
async fn a_token_for_an_unverified_kubelet_goes_to_the_first_address_only() {
    let ca = TestCa::new();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| ok(BODY)).await;
    let node = |hosts: &[&str]| node(kubelet.address.port(), hosts);
    // The first address refuses connections.
    let hosts = ["127.0.0.2", "127.0.0.1"];
    for mut scraper in [
        TestScraper::pinning(&ca, node(&hosts), &Findings::default()),
        TestScraper::with(&ca, node(&hosts), true),
    ] {
        assert_eq!(scraper.cause().await, "connection_refused");
        assert_eq!(scraper.cause().await, "connection_refused");
    }
    assert_eq!(kubelet.connections(), 0);
    assert_eq!(TestScraper::with(&ca, node(&hosts), false).cause().await, "ok");
    assert_eq!(TestScraper::pinning(&ca, node(&hosts[1..]), &Findings::default()).cause().await, "ok");
}

#[test]
fn a_client_certificate_may_go_to_any_address() {
    let file = || std::path::PathBuf::from("/f").into();
    let certificate = Credentials::ClientCertificate { cert: file(), key: file() };
    for (tls, token_goes_to_first_only) in [
        (KubeletTls::Verify { ca: file() }, false),
        (KubeletTls::Pin { ca: file() }, true),
        (KubeletTls::Insecure, true),
    ] {
        assert_eq!(
            first_address_only(&tls, &Credentials::Token(file())),
            token_goes_to_first_only,
            "{tls:?}"
        );
        assert!(!first_address_only(&tls, &certificate), "{tls:?}");
    }
}

#[tokio::test]
async fn scrapes_by_address_while_the_resolver_hangs() {
    let ca = TestCa::new();
    let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        FakeResponse(ok(BODY).0, Duration::ZERO, true)
    })
    .await;
    let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["worker-1", "127.0.0.1"]);
    scraper.shared.timeout = Duration::from_secs(60);
    scraper.shared.resolver = Resolver::new(|_| {
        std::thread::sleep(Duration::from_secs(1));
        Err(std::io::ErrorKind::TimedOut.into())
    });
    for _ in 0..3 {
        assert_eq!(scraper.cause().await, "ok");
    }
}
