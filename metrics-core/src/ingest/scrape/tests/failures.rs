//! The causes and messages of failed scrapes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crds::cause::ScrapeCause;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{BODY, FakeKubelet, FakeResponse, TestCa, TestScraper, ok, response, serve_connection};
use crate::ingest::scrape::buffers::BufferPool;
use crate::ingest::scrape::inflate::tests::gzip;
use crate::memory::{MemoryBudget, MemoryClass};

#[tokio::test]
async fn reports_the_cause_of_each_failure() {
    type Play = Box<dyn Fn() -> FakeResponse + Send + Sync>;
    let ca = TestCa::new();
    let bomb = gzip(&vec![0; 16 << 20]);
    let cases: Vec<(&str, Play)> = vec![
        ("unauthorized", Box::new(|| response("401 Unauthorized", "", b"Unauthorized"))),
        ("forbidden", Box::new(|| response("403 Forbidden", "", b"Forbidden (user=x, verb=get)"))),
        ("not_found", Box::new(|| response("404 Not Found", "", b""))),
        ("http_status", Box::new(|| response("503 Busy", "", b""))),
        ("invalid_body", Box::new(|| ok("<html>"))),
        ("invalid_body", Box::new(|| ok(""))),
        ("resource_scrape_error", Box::new(|| ok("resource_scrape_error 1\nscrape_error 1\n"))),
        ("invalid_body", Box::new(|| ok("resource_scrape_error 0\nscrape_error 0\n"))),
        (
            "invalid_body",
            Box::new(|| FakeResponse(b"\x00\x01garbage\r\n\r\n".to_vec(), Duration::ZERO, false)),
        ),
        ("invalid_body", Box::new(|| response("200 OK", "Content-Encoding: gzip\r\n", b"no gzip at all"))),
        ("body_too_large", Box::new(move || response("200 OK", "Content-Encoding: gzip\r\n", &bomb))),
        (
            "body_too_large",
            Box::new(|| {
                FakeResponse(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
                    Duration::ZERO,
                    false,
                )
            }),
        ),
        (
            "connection_closed",
            Box::new(|| {
                FakeResponse(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnode".to_vec(),
                    Duration::ZERO,
                    true,
                )
            }),
        ),
        ("connection_closed", Box::new(|| FakeResponse(Vec::new(), Duration::ZERO, true))),
        ("slow_response", Box::new(|| FakeResponse(ok(BODY).0, Duration::from_secs(9), false))),
    ];
    for (class, respond) in cases {
        let acceptor = ca.acceptor(&["127.0.0.1"], |_| {});
        let kubelet = FakeKubelet::start(Some(acceptor), move |_| respond()).await;
        let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
        scraper.shared.timeout = Duration::from_millis(500);
        assert_eq!(scraper.cause().await, class);
        assert!(scraper.scrape().await.is_err(), "{class}, again on what is left of the connection");
    }
    let plain = FakeKubelet::start(None, |_| {
        FakeResponse(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Duration::ZERO, true)
    })
    .await;
    assert_eq!(TestScraper::new(&ca, plain.address.port(), &["127.0.0.1"]).cause().await, "plain_http");
}

#[tokio::test]
async fn a_response_beyond_the_memory_fails_with_a_cause_and_holds_nothing() {
    let ca = TestCa::new();
    let noise =
        || (0..3_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>();
    let compressible: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    let chunk = [b"2DC6C0\r\n".to_vec(), noise(), b"\r\n".to_vec()].concat();
    let head = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    let until_close = [head(""), noise()].concat();
    let announced = head("Content-Length: 3000000\r\n");
    let chunked = [head("Transfer-Encoding: chunked\r\n"), chunk].concat();
    let bomb = response("200 OK", "Content-Encoding: gzip\r\n", &gzip(&compressible)).0;
    for bytes in [until_close, announced, chunked, bomb] {
        let acceptor = ca.acceptor(&["127.0.0.1"], |_| {});
        let kubelet =
            FakeKubelet::start(Some(acceptor), move |_| FakeResponse(bytes.clone(), Duration::ZERO, false))
                .await;
        let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
        let budget = MemoryBudget::new(8 << 20);
        scraper.shared.pool = BufferPool::new(budget.clone(), Duration::ZERO);
        scraper.shared.timeout = Duration::from_secs(20);
        assert_eq!(scraper.cause().await, "body_too_large");
        assert_eq!(budget.reserved(), 0);
        // Other kubelets' responses hold all memory.
        let max = budget.max(MemoryClass::KubeletBodies);
        let _others = budget.try_reserve(MemoryClass::KubeletBodies, max).unwrap();
        assert_eq!(scraper.cause().await, "no_memory");
    }
}

#[tokio::test]
async fn messages_quote_the_kubelets_response() {
    let ca = TestCa::new();
    let cases = [
        (
            response("403 Forbidden", "", b"Forbidden (user=system:serviceaccount:a:b, verb=get, resource=nodes, subresource(s)=[metrics])"),
            "subresource(s)=[metrics])",
        ),
        (response("503 Busy", "", b"try later\n"), "503 (try later)"),
        (ok("<html>\n"), "it begins with \"<html>\""),
        (ok(""), "it is empty"),
        (ok("node_cpu_usage_seconds_total x\n"), "1 malformed series"),
        (response("403 Forbidden", "", b"you sent secret"), "403 Forbidden; grant"),
    ];
    for (FakeResponse(bytes, ..), expected) in cases {
        let acceptor = ca.acceptor(&["127.0.0.1"], |_| {});
        let kubelet =
            FakeKubelet::start(Some(acceptor), move |_| FakeResponse(bytes.clone(), Duration::ZERO, false))
                .await;
        let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
        let error = scraper.scrape().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} in {error}");
    }
}

const SILENCE: Duration = Duration::from_secs(60);

/// A kubelet that accepts one connection; packets of others are dropped.
struct OneConnection;

impl OneConnection {
    fn start(
        acceptor: TlsAcceptor,
        respond: impl Fn() -> FakeResponse + Send + Sync + 'static,
    ) -> (SocketAddr, Arc<parking_lot::Mutex<Vec<tokio::net::TcpStream>>>) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = Arc::<parking_lot::Mutex<Vec<_>>>::default();
        let filled = waiting.clone();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let others = fill(address).await;
            filled.lock().extend(others);
            serve_connection(acceptor.accept(tcp).await.unwrap(), &move |_| respond()).await;
            drop(listener);
        });
        (address, waiting)
    }
}

/// Fills the accept queue of a listener, so that packets of further connections are dropped.
async fn fill(address: SocketAddr) -> Vec<tokio::net::TcpStream> {
    let mut waiting = Vec::new();
    let wait = Duration::from_millis(200);
    while let Ok(Ok(stream)) = tokio::time::timeout(wait, tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    waiting
}

#[tokio::test]
async fn distinguishes_dropped_packets_from_a_slow_kubelet() {
    let ca = TestCa::new();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let _waiting = fill(address).await;
    let mut dropped = TestScraper::new(&ca, address.port(), &["127.0.0.1"]);
    dropped.shared.timeout = Duration::from_millis(300);
    let error = dropped.scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::Timeout, "{error}");
    assert!(error.to_string().starts_with(&format!("127.0.0.1:{} ", address.port())), "{error}");
    assert_eq!(dropped.target.last_address().unwrap(), format!("127.0.0.1:{}", address.port()).into());
    // Refused at the preferred address explains more than dropped packets at another; the report names that
    // address.
    let mut down = TestScraper::new(&ca, address.port(), &["127.0.0.2", "127.0.0.1"]);
    down.shared.timeout = Duration::from_millis(600);
    assert_eq!(down.cause().await, "connection_refused");
    assert_eq!(down.target.last_address().unwrap(), format!("127.0.0.2:{}", address.port()).into());
    // A kubelet that stops responding on an open connection and accepts no other, as behind a new packet filter.
    let respond = AtomicUsize::new(0);
    let one = OneConnection::start(ca.acceptor(&["127.0.0.1"], |_| {}), move || {
        if respond.fetch_add(1, Ordering::Relaxed) == 0 {
            ok(BODY)
        } else {
            FakeResponse(vec![], SILENCE, false)
        }
    });
    let (one, _full) = one;
    let mut silent = TestScraper::new(&ca, one.port(), &["127.0.0.1"]);
    silent.shared.timeout = Duration::from_millis(500);
    assert_eq!(silent.cause().await, "ok");
    assert_eq!(silent.cause().await, "timeout");
    // A port that accepts connections and never responds.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = TestScraper::new(&ca, mute.local_addr().unwrap().port(), &["127.0.0.1"]);
    slow.shared.timeout = Duration::from_millis(300);
    assert_eq!(slow.cause().await, "slow_response");
}

#[tokio::test]
async fn reports_a_scrape_error_beside_samples() {
    for (error, expected) in [(0, false), (1, true)] {
        let ca = TestCa::new();
        let body = format!("{BODY}resource_scrape_error {error}\n");
        let kubelet = FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), move |_| ok(&body)).await;
        let mut scraper = TestScraper::new(&ca, kubelet.address.port(), &["127.0.0.1"]);
        assert_eq!(scraper.scrape().await.unwrap().problems.scrape_error, expected);
    }
}
