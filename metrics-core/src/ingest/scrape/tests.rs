//! Tests the scraper against a fake kubelet: TLS, replayed bodies, delays, garbage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crds::cause::ScrapeCause;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::buffers::BufferPool;
use super::inflate::tests::gzip;
use super::target::Target;
use super::tls::TlsConfigs;
use super::{Config, Credentials, Error, Findings, KubeletTls, Metrics, ScrapeContext};
use crate::ingest::discover::{Address, AddressType, Node};
use crate::ingest::store::{self, Directory, PutSummary, Store, Ticket};
use crate::model::labels::Labels;
use crate::model::rows::{Lookup, Rows};

const BODY: &str = "node_cpu_usage_seconds_total 1 1000\nnode_memory_working_set_bytes 1 1000\n";

struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl TestCa {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn acceptor(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        acceptor(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

/// Presents this certificate, whether or not the key belongs to it.
fn acceptor(certificate: &rcgen::Certificate, key: &KeyPair) -> TlsAcceptor {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], key);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    TlsAcceptor::from(Arc::new(config))
}

/// A response: its bytes, the delay before them, and whether to close the connection afterwards.
struct FakeResponse(Vec<u8>, Duration, bool);

fn ok(body: &str) -> FakeResponse {
    response("200 OK", "", body.as_bytes())
}

fn response(status: &str, headers: &str, body: &[u8]) -> FakeResponse {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    FakeResponse([head.as_bytes(), body].concat(), Duration::ZERO, false)
}

struct FakeKubelet {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl FakeKubelet {
    async fn start(
        acceptor: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> FakeResponse + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (connections.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                serve_connection(stream, &*answer).await;
                            }
                        }
                        None => serve_connection(tcp, &*answer).await,
                    }
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve_connection(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    respond: &(dyn Fn(&str) -> FakeResponse + Send + Sync),
) {
    let mut seen = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(size) => seen.extend(&piece[..size]),
        }
        // A TLS ClientHello sent to a plain-text port contains no blank line.
        if !seen.ends_with(b"\r\n\r\n") && seen.first() != Some(&0x16) {
            continue;
        }
        let FakeResponse(bytes, delay, close) = respond(&String::from_utf8_lossy(&seen));
        seen.clear();
        tokio::time::sleep(delay).await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        if close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

struct TestScraper {
    shared: ScrapeContext,
    ticket: Ticket,
    target: Target,
    _files: tempfile::TempDir,
    token: std::path::PathBuf,
}

impl TestScraper {
    fn new(ca: &TestCa, port: u16, hosts: &[&str]) -> Self {
        Self::with(ca, node(port, hosts), false)
    }

    fn with(ca: &TestCa, node: Node, insecure: bool) -> Self {
        let tls = |ca_file| if insecure { KubeletTls::Insecure } else { KubeletTls::Verify { ca_file } };
        Self::with_tls(ca, node, tls, Findings::default())
    }

    /// Pins keys, with the pins in `findings`.
    fn pinning(ca: &TestCa, node: Node, findings: &Findings) -> Self {
        Self::with_tls(ca, node, |ca_file| KubeletTls::Pin { ca_file }, findings.clone())
    }

    fn with_tls(
        ca: &TestCa,
        node: Node,
        tls: impl FnOnce(std::path::PathBuf) -> KubeletTls,
        findings: Findings,
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
        std::fs::write(&ca_file, &ca.pem).unwrap();
        std::fs::write(&token, "secret\n").unwrap();
        let kubelet = tls(ca_file);
        let directory = Arc::new(Directory::new());
        let store = Arc::new(Store::new(directory.clone(), store::Config::new(Duration::from_secs(15))));
        let node = Arc::new(node);
        let ticket = store.insert_node(&node);
        let shared = ScrapeContext {
            timeout: Duration::from_secs(2),
            tls: TlsConfigs::new(
                &kubelet,
                &Credentials::TokenFile(token.clone()),
                Duration::from_secs(15),
                findings.pins.clone(),
            ),
            token: Some(super::tls::token(token.clone())),
            pool: BufferPool::default(),
            directory,
            store,
            metrics: Metrics::default(),
            findings,
        };
        Self { shared, ticket, target: Target::new(node), _files: files, token }
    }

    async fn scrape(&mut self) -> Result<PutSummary, Error> {
        let requested_ms = self.shared.directory.now_ms();
        super::scrape(&self.shared, &mut self.target, self.ticket, requested_ms).await
    }

    async fn cause(&mut self) -> &'static str {
        self.scrape().await.map_or_else(|error| error.cause().as_str(), |_| "ok")
    }
}

fn node(port: u16, hosts: &[&str]) -> Node {
    let addresses =
        hosts.iter().map(|host| Address { kind: AddressType::InternalIP, host: (*host).into() }).collect();
    Node {
        name: "worker-1".into(),
        uid: "1".into(),
        labels: Labels::default(),
        addresses,
        identities: ["worker-1".into(), "10.9.8.7".into()].into(),
        port,
        path: "/metrics/resource".into(),
        ready: true,
    }
}

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
    assert_eq!(TestScraper::pinning(&ca, node, &findings).cause().await, "tls_unknown_ca");
    assert_eq!(findings.pins.count(), 0);
}

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
    for (class, answer) in cases {
        let acceptor = ca.acceptor(&["127.0.0.1"], |_| {});
        let kubelet = FakeKubelet::start(Some(acceptor), move |_| answer()).await;
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
        answer: impl Fn() -> FakeResponse + Send + Sync + 'static,
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
            serve_connection(acceptor.accept(tcp).await.unwrap(), &move |_| answer()).await;
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
    let answer = AtomicUsize::new(0);
    let one = OneConnection::start(ca.acceptor(&["127.0.0.1"], |_| {}), move || {
        if answer.fetch_add(1, Ordering::Relaxed) == 0 {
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
    let credentials = Credentials::ClientCertificate { cert, key: key.clone() };
    let pins = scraper.shared.findings.pins.clone();
    scraper.shared.tls =
        TlsConfigs::new(&KubeletTls::Verify { ca_file }, &credentials, Duration::from_secs(15), pins);
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

/// A kubelet that samples its containers at each request, its node every 10 s.
async fn live_kubelet(ca: &TestCa) -> FakeKubelet {
    FakeKubelet::start(Some(ca.acceptor(&["127.0.0.1"], |_| {})), |_| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let node = now - now % 10_000;
        // 250 millicores.
        let (cpu, of_node) = (now as f64 / 4000.0, node as f64 / 1000.0);
        ok(&format!(
            "container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"p\"}} {cpu} {now}\n\
             container_memory_working_set_bytes{{container=\"c\",namespace=\"n\",pod=\"p\"}} 4096 {now}\n\
             node_cpu_usage_seconds_total {of_node} {node}\nnode_memory_working_set_bytes 1 {node}\n"
        ))
    })
    .await
}

#[tokio::test]
async fn scrapes_from_the_addition_of_a_node_to_its_deletion() {
    let ca = TestCa::new();
    let kubelet = live_kubelet(&ca).await;
    let files = tempfile::tempdir().unwrap();
    let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
    std::fs::write(&ca_file, &ca.pem).unwrap();
    std::fs::write(&token, "secret").unwrap();
    let directory = Arc::new(Directory::new());
    let scrape_interval = Duration::from_secs(15);
    let store = Arc::new(Store::new(directory.clone(), store::Config::new(scrape_interval)));
    let metrics = Metrics::default();
    let config = Config {
        scrape_interval,
        timeout: Duration::from_secs(1),
        tls: KubeletTls::Verify { ca_file },
        credentials: Credentials::TokenFile(token),
    };
    let findings = Findings::default();
    let failures = &findings.failures;
    let run = super::run(config, directory.clone(), store.clone(), metrics.clone(), findings.clone());
    let running = tokio::spawn(run);
    directory.begin_node_list();
    directory.begin_pod_list();
    directory.apply_pod("n", "p", "u", Labels::default());
    directory.apply_node(node(kubelet.address.port(), &["127.0.0.1"]));
    directory.apply_node(Node { name: "dead".into(), ..node(kubelet.address.port(), &["127.0.0.2"]) });
    directory.end_node_list();
    directory.end_pod_list();
    let started = Instant::now();
    let mut millicores = 0;
    let mut found = Lookup::Absent;
    while found != Lookup::Found && started.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        found =
            store.pod("n", "p", &mut |row| millicores = row.containers[0].usage.cpu_nanocores / 1_000_000);
    }
    assert_eq!(found, Lookup::Found);
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    assert!((245..=255).contains(&millicores), "{millicores}");
    assert!(store.ready(), "{:?}", store.coverage());
    let failed = failures.list();
    assert_eq!((failed.len(), failed[0].cause, failed[0].nodes), (1, ScrapeCause::ConnectionRefused, 1));
    let example = &failed[0].examples[0];
    assert_eq!(example.node, "dead");
    assert_eq!(example.address, Some(format!("127.0.0.2:{}", kubelet.address.port())));
    assert_eq!((store.coverage().nodes_served, store.coverage().nodes), (1, 2));
    while store.node("worker-1", &mut |_| {}) != Lookup::Found && started.elapsed() < Duration::from_secs(15)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() < Duration::from_millis(11_500), "{:?}", started.elapsed());
    let text = || {
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let count = |series: &str| -> u32 {
        let text = text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    };
    // The dead node is retried every 5 s, for about 10 s by now.
    let failed = count("metrics_server_scrape_failures_total{reason=\"connection_refused\"}");
    assert!((1..=3).contains(&failed), "{}", text());
    assert_eq!(count("metrics_server_kubelet_request_total{success=\"false\"}"), failed);
    assert!(text().contains("kubelet_last_request_time_seconds{node=\"worker-1\"}"), "{}", text());
    assert_eq!(kubelet.connections(), 1);
    directory.delete_node("worker-1");
    directory.delete_node("dead");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!text().contains("node=\""), "series of deleted nodes are removed: {}", text());
    assert_eq!(store.pod("n", "p", &mut |_| {}), Lookup::Unmeasured);
    assert_eq!(store.coverage().nodes, 0);
    assert!(failures.list().is_empty(), "a deleted node does not fail");
    running.abort();
}
