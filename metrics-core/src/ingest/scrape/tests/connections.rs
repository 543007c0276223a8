//! Connections and addresses: reuse, replacement, choice of the address.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{BODY, FakeKubelet, FakeResponse, TestCa, TestScraper, ok, response};
use crate::ingest::scrape::inflate::tests::gzip;

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
