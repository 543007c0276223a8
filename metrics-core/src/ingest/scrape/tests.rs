//! The client against a kubelet that is played: TLS, replayed bodies, delays, garbage.

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

use super::buffers::Pool;
use super::inflate::tests::gzip;
use super::target::Target;
use super::tls::Tls;
use super::{Config, Credentials, Error, Findings, KubeletTls, Metrics, Shared};
use crate::ingest::discover::{Address, AddressType, Node};
use crate::ingest::store::{self, Directory, Put, Store, Ticket};
use crate::model::labels::Labels;
use crate::model::rows::{Lookup, Rows};

const BODY: &str = "node_cpu_usage_seconds_total 1 1000\nnode_memory_working_set_bytes 1 1000\n";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
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

/// Serves this certificate, whether or not the key belongs to it.
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

/// What to answer to a request: bytes after a delay, and whether to close then.
struct Answer(Vec<u8>, Duration, bool);

fn ok(body: &str) -> Answer {
    whole("200 OK", "", body.as_bytes())
}

fn whole(status: &str, headers: &str, body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Answer([head.as_bytes(), body].concat(), Duration::ZERO, false)
}

struct Kubelet {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Kubelet {
    async fn start(
        acceptor: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
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
                                converse(stream, &*answer).await;
                            }
                        }
                        None => converse(tcp, &*answer).await,
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

async fn converse(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
) {
    let mut seen = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(size) => seen.extend(&piece[..size]),
        }
        // A TLS hello sent to a plain port has no blank line.
        if !seen.ends_with(b"\r\n\r\n") && seen.first() != Some(&0x16) {
            continue;
        }
        let Answer(bytes, delay, close) = answer(&String::from_utf8_lossy(&seen));
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

struct Bench {
    shared: Shared,
    ticket: Ticket,
    target: Target,
    _files: tempfile::TempDir,
    token: std::path::PathBuf,
}

impl Bench {
    fn new(authority: &Authority, port: u16, hosts: &[&str]) -> Self {
        Self::with(authority, node(port, hosts), false)
    }

    fn with(authority: &Authority, node: Node, insecure: bool) -> Self {
        let tls = |ca_file| if insecure { KubeletTls::Insecure } else { KubeletTls::Verify { ca_file } };
        Self::trusting(authority, node, tls, Findings::default())
    }

    /// One that pins keys, among which may be some already.
    fn pinning(authority: &Authority, node: Node, findings: &Findings) -> Self {
        Self::trusting(authority, node, |ca_file| KubeletTls::Pin { ca_file }, findings.clone())
    }

    fn trusting(
        authority: &Authority,
        node: Node,
        tls: impl FnOnce(std::path::PathBuf) -> KubeletTls,
        findings: Findings,
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
        std::fs::write(&ca_file, &authority.pem).unwrap();
        std::fs::write(&token, "secret\n").unwrap();
        let kubelet = tls(ca_file);
        let directory = Arc::new(Directory::new());
        let store = Arc::new(Store::new(directory.clone(), store::Config::new(Duration::from_secs(15))));
        let node = Arc::new(node);
        let ticket = store.admit(&node);
        let shared = Shared {
            timeout: Duration::from_secs(2),
            tls: Tls::new(
                &kubelet,
                &Credentials::TokenFile(token.clone()),
                Duration::from_secs(15),
                findings.pins.clone(),
            ),
            token: Some(super::tls::token(token.clone())),
            pool: Pool::default(),
            directory,
            store,
            metrics: Metrics::default(),
            findings,
        };
        Self { shared, ticket, target: Target::new(node), _files: files, token }
    }

    async fn scrape(&mut self) -> Result<Put, Error> {
        let requested_ms = self.shared.directory.now_ms();
        super::scrape(&self.shared, &mut self.target, self.ticket, requested_ms).await
    }

    async fn class(&mut self) -> &'static str {
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
async fn one_connection_serves_many_scrapes_in_any_framing() {
    let authority = Authority::new();
    let turn = AtomicUsize::new(0);
    let kubelet = Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), move |request| {
        assert!(request.starts_with("GET /metrics/resource HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer secret\r\n"), "{request}");
        match turn.fetch_add(1, Ordering::Relaxed) {
            0 => ok(BODY),
            1 => whole("200 OK", "Content-Encoding: gzip\r\n", &gzip(BODY.as_bytes())),
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
                Answer(raw, Duration::ZERO, false)
            }
        }
    })
    .await;
    let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
    for _ in 0..4 {
        let put = bench.scrape().await.unwrap();
        assert_eq!(put.node_timestamp_ns, Some(1_000_000_000));
    }
    assert_eq!(kubelet.connections(), 1);
}

#[tokio::test]
async fn a_connection_closed_between_two_scrapes_is_replaced_without_a_failure() {
    let authority = Authority::new();
    let kubelet = Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), |_| {
        Answer(ok(BODY).0, Duration::ZERO, true)
    })
    .await;
    let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
    for _ in 0..3 {
        assert_eq!(bench.class().await, "ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kubelet.connections(), 3);
}

#[tokio::test]
async fn the_address_that_works_is_found_and_remembered() {
    let authority = Authority::new();
    let kubelet = Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), |_| {
        Answer(ok(BODY).0, Duration::ZERO, true)
    })
    .await;
    let hosts = ["not a name", "127.0.0.2", "127.0.0.1"];
    let mut bench = Bench::new(&authority, kubelet.address.port(), &hosts);
    assert_eq!(bench.class().await, "ok");
    assert_eq!(bench.class().await, "ok");
    // One that swallows packets is passed by quickly (TEST-NET-1, RFC 5737), or refused where there is no route.
    let hosts = ["192.0.2.1", "127.0.0.1"];
    let started = Instant::now();
    assert_eq!(Bench::new(&authority, kubelet.address.port(), &hosts).class().await, "ok");
    assert!(started.elapsed() < Duration::from_secs(1));
    let mut nowhere = Bench::new(&authority, kubelet.address.port(), &["not a name", "127.0.0.2"]);
    assert_eq!(nowhere.class().await, "connection_refused");
    assert_eq!(Bench::new(&authority, 1, &[]).class().await, "no_address");
}

#[tokio::test]
async fn certificates_are_verified_against_the_ca_and_the_nodes_names() {
    let authority = Authority::new();
    let own_name = Kubelet::start(Some(authority.acceptor(&["worker-1"], |_| {})), |_| ok(BODY)).await;
    assert_eq!(Bench::new(&authority, own_name.address.port(), &["127.0.0.1"]).class().await, "ok");
    let own_address = Kubelet::start(Some(authority.acceptor(&["10.9.8.7"], |_| {})), |_| ok(BODY)).await;
    assert_eq!(Bench::new(&authority, own_address.address.port(), &["127.0.0.1"]).class().await, "ok");
    let other = Kubelet::start(Some(authority.acceptor(&["worker-2"], |_| {})), |_| ok(BODY)).await;
    let port = other.address.port();
    let error = Bench::new(&authority, port, &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause().as_str(), "tls_name_mismatch");
    assert!(error.to_string().contains("worker-2"), "{error}");
    let stranger = Authority::new();
    assert_eq!(Bench::new(&stranger, port, &["127.0.0.1"]).class().await, "tls_unknown_ca");
    assert_eq!(Bench::with(&stranger, node(port, &["127.0.0.1"]), true).class().await, "ok");
    let expired = authority.acceptor(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let expired = Kubelet::start(Some(expired), |_| ok(BODY)).await;
    let error = Bench::new(&authority, expired.address.port(), &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsExpired);
    // Nothing in it may change from one scrape to the next.
    assert!(
        error.to_string().starts_with("the kubelet's certificate expired at 2001-01-01T00:00:00Z; "),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_names_nobody_or_has_no_issuer_is_named_so() {
    let authority = Authority::new();
    let nameless = Kubelet::start(Some(authority.acceptor(&[], |_| {})), |_| ok(BODY)).await;
    let error = Bench::new(&authority, nameless.address.port(), &["127.0.0.1"]).scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsNameMismatch);
    assert!(error.to_string().contains("no subject alternative names"), "{error}");
    // Of a certificate that signed itself and has expired, the first is what matters.
    for adjust in [nothing, past, certificate_authority] {
        let kubelet = Kubelet::start(Some(self_signed(&KeyPair::generate().unwrap(), adjust)), |_| ok(BODY));
        let port = kubelet.await.address.port();
        assert_eq!(Bench::new(&authority, port, &["127.0.0.1"]).class().await, "tls_unknown_ca");
    }
}

fn nothing(_: &mut CertificateParams) {}

fn past(params: &mut CertificateParams) {
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
async fn a_key_is_pinned_at_first_sight_and_another_gets_no_token() {
    let (authority, findings) = (Authority::new(), Findings::default());
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let scrape = async |acceptor: TlsAcceptor, uid: &str| {
        let kubelet = Kubelet::start(Some(acceptor), |request| {
            assert!(request.starts_with("GET ") && request.contains("Bearer secret"));
            ok(BODY)
        });
        let node = Node { uid: uid.into(), ..node(kubelet.await.address.port(), &["127.0.0.1"]) };
        Bench::pinning(&authority, node, &findings).scrape().await
    };
    assert!(scrape(self_signed(&first, nothing), "1").await.is_ok());
    assert!(scrape(self_signed(&first, past), "1").await.is_ok(), "its key counts, not its certificate");
    assert!(scrape(self_signed(&first, certificate_authority), "1").await.is_ok());
    assert_eq!(findings.pins.count(), 1);
    let error = scrape(self_signed(&second, nothing), "1").await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::TlsPinMismatch);
    assert!(error.to_string().contains("another key") && error.to_string().len() < 600, "{error}");
    assert!(scrape(self_signed(&second, nothing), "2").await.is_ok(), "another Node");
    // What a CA signed is held to its names and its time as ever.
    let signed = |names: &[&str], adjust: fn(&mut CertificateParams)| authority.acceptor(names, adjust);
    let cause = |result: Result<Put, Error>| result.unwrap_err().cause();
    assert_eq!(cause(scrape(signed(&["worker-2"], nothing), "3").await), ScrapeCause::TlsNameMismatch);
    assert_eq!(cause(scrape(signed(&["worker-1"], past), "3").await), ScrapeCause::TlsExpired);
    assert!(scrape(signed(&["worker-1"], nothing), "1").await.is_ok(), "a pinned node that a CA vouches for");
    assert_eq!(cause(scrape(self_signed(&first, nothing), "1").await), ScrapeCause::TlsPinMismatch);
}

#[tokio::test]
async fn a_key_that_is_not_held_is_not_pinned() {
    let (authority, findings) = (Authority::new(), Findings::default());
    let (own, stolen) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&stolen).unwrap();
    let kubelet = Kubelet::start(Some(acceptor(&certificate, &own)), |_| ok(BODY)).await;
    let node = node(kubelet.address.port(), &["127.0.0.1"]);
    assert_eq!(Bench::pinning(&authority, node, &findings).class().await, "tls_unknown_ca");
    assert_eq!(findings.pins.count(), 0);
}

#[tokio::test]
async fn failures_are_told_apart() {
    type Play = Box<dyn Fn() -> Answer + Send + Sync>;
    let authority = Authority::new();
    let bomb = gzip(&vec![0; 16 << 20]);
    let cases: Vec<(&str, Play)> = vec![
        ("unauthorized", Box::new(|| whole("401 Unauthorized", "", b"Unauthorized"))),
        ("forbidden", Box::new(|| whole("403 Forbidden", "", b"Forbidden (user=x, verb=get)"))),
        ("not_found", Box::new(|| whole("404 Not Found", "", b""))),
        ("http_status", Box::new(|| whole("503 Busy", "", b""))),
        ("invalid_body", Box::new(|| ok("<html>"))),
        ("invalid_body", Box::new(|| ok(""))),
        ("invalid_body", Box::new(|| Answer(b"\x00\x01garbage\r\n\r\n".to_vec(), Duration::ZERO, false))),
        ("invalid_body", Box::new(|| whole("200 OK", "Content-Encoding: gzip\r\n", b"no gzip at all"))),
        ("body_too_large", Box::new(move || whole("200 OK", "Content-Encoding: gzip\r\n", &bomb))),
        (
            "body_too_large",
            Box::new(|| {
                Answer(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
                    Duration::ZERO,
                    false,
                )
            }),
        ),
        (
            "connection_closed",
            Box::new(|| {
                Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnode".to_vec(), Duration::ZERO, true)
            }),
        ),
        ("connection_closed", Box::new(|| Answer(Vec::new(), Duration::ZERO, true))),
        ("slow_response", Box::new(|| Answer(ok(BODY).0, Duration::from_secs(9), false))),
    ];
    for (class, answer) in cases {
        let acceptor = authority.acceptor(&["127.0.0.1"], |_| {});
        let kubelet = Kubelet::start(Some(acceptor), move |_| answer()).await;
        let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
        bench.shared.timeout = Duration::from_millis(500);
        assert_eq!(bench.class().await, class);
        assert!(bench.scrape().await.is_err(), "{class}, again on what is left of the connection");
    }
    let plain =
        Kubelet::start(None, |_| Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Duration::ZERO, true))
            .await;
    assert_eq!(Bench::new(&authority, plain.address.port(), &["127.0.0.1"]).class().await, "plain_http");
}

#[tokio::test]
async fn messages_say_what_the_kubelet_said() {
    let authority = Authority::new();
    let cases = [
        (
            whole("403 Forbidden", "", b"Forbidden (user=system:serviceaccount:a:b, verb=get, resource=nodes, subresource(s)=[metrics])"),
            "subresource(s)=[metrics])",
        ),
        (whole("503 Busy", "", b"try later\n"), "503 (try later)"),
        (ok("<html>\n"), "it begins with \"<html>\""),
        (ok(""), "it is empty"),
        (ok("node_cpu_usage_seconds_total x\n"), "1 series are malformed"),
        (whole("403 Forbidden", "", b"you sent secret"), "answers 403; grant"),
    ];
    for (Answer(bytes, ..), expected) in cases {
        let acceptor = authority.acceptor(&["127.0.0.1"], |_| {});
        let kubelet =
            Kubelet::start(Some(acceptor), move |_| Answer(bytes.clone(), Duration::ZERO, false)).await;
        let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
        let error = bench.scrape().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} in {error}");
    }
}

const SILENCE: Duration = Duration::from_secs(60);

/// A kubelet that takes one connection; what others send is dropped.
struct OneConnection;

impl OneConnection {
    fn start(
        acceptor: TlsAcceptor,
        answer: impl Fn() -> Answer + Send + Sync + 'static,
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
            converse(acceptor.accept(tcp).await.unwrap(), &move |_| answer()).await;
            drop(listener);
        });
        (address, waiting)
    }
}

/// Fills the queue of a listener that takes no connection: what is sent to it then is dropped.
async fn fill(address: SocketAddr) -> Vec<tokio::net::TcpStream> {
    let mut waiting = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(Ok(stream)) = tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    waiting
}

#[tokio::test]
async fn packets_that_are_dropped_and_a_slow_kubelet_are_told_apart() {
    let authority = Authority::new();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let _waiting = fill(address).await;
    let mut dropped = Bench::new(&authority, address.port(), &["127.0.0.1"]);
    dropped.shared.timeout = Duration::from_millis(300);
    let error = dropped.scrape().await.unwrap_err();
    assert_eq!(error.cause(), ScrapeCause::Timeout, "{error}");
    assert!(error.to_string().starts_with(&format!("127.0.0.1:{} ", address.port())), "{error}");
    assert_eq!(dropped.target.asked().unwrap(), format!("127.0.0.1:{}", address.port()).into());
    // Refused at the preferred address says more than packets lost at another, and what it is about is told.
    let mut down = Bench::new(&authority, address.port(), &["127.0.0.2", "127.0.0.1"]);
    down.shared.timeout = Duration::from_millis(600);
    assert_eq!(down.class().await, "connection_refused");
    assert_eq!(down.target.asked().unwrap(), format!("127.0.0.2:{}", address.port()).into());
    // One that falls silent on a connection that stood, and takes no other: as where a filter comes between.
    let answer = AtomicUsize::new(0);
    let one = OneConnection::start(authority.acceptor(&["127.0.0.1"], |_| {}), move || {
        if answer.fetch_add(1, Ordering::Relaxed) == 0 { ok(BODY) } else { Answer(vec![], SILENCE, false) }
    });
    let (one, _full) = one;
    let mut silent = Bench::new(&authority, one.port(), &["127.0.0.1"]);
    silent.shared.timeout = Duration::from_millis(500);
    assert_eq!(silent.class().await, "ok");
    assert_eq!(silent.class().await, "timeout");
    // A port that takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = Bench::new(&authority, mute.local_addr().unwrap().port(), &["127.0.0.1"]);
    slow.shared.timeout = Duration::from_millis(300);
    assert_eq!(slow.class().await, "slow_response");
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let authority = Authority::new();
    let kubelet = Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), |request| {
        if request.contains("Bearer renewed\r\n") { ok(BODY) } else { whole("401 Unauthorized", "", b"no") }
    })
    .await;
    let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
    assert_eq!(bench.class().await, "unauthorized");
    std::fs::write(&bench.token, "renewed").unwrap();
    assert_eq!(bench.class().await, "ok");
    std::fs::write(&bench.token, "bad\r\nX-Header: 1").unwrap();
    // It is looked at once a second at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    bench.shared.token.as_ref().unwrap().expire();
    assert_eq!(bench.class().await, "ok", "a damaged file leaves the last good token");
    assert_eq!(kubelet.connections(), 1);
}

#[tokio::test]
async fn a_client_certificate_that_is_renewed_is_shown_on_another_connection() {
    let authority = Authority::new();
    let expired = Arc::new(AtomicBool::new(false));
    let refuses = expired.clone();
    let kubelet = Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), move |request| {
        assert!(!request.contains("Authorization"), "{request}");
        if refuses.load(Ordering::Relaxed) { whole("401 Unauthorized", "", b"no") } else { ok(BODY) }
    })
    .await;
    let mut bench = Bench::new(&authority, kubelet.address.port(), &["127.0.0.1"]);
    let file = |name| bench.token.with_file_name(name);
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
    let pins = bench.shared.findings.pins.clone();
    bench.shared.tls = Tls::new(&KubeletTls::Verify { ca_file }, &credentials, Duration::from_secs(15), pins);
    bench.shared.token = None;
    assert_eq!((bench.class().await, bench.class().await, kubelet.connections()), ("ok", "ok", 1));
    // It was not renewed in time.
    expired.store(true, Ordering::Relaxed);
    assert_eq!((bench.class().await, kubelet.connections()), ("unauthorized", 1));
    renew();
    expired.store(false, Ordering::Relaxed);
    assert_eq!((bench.class().await, bench.class().await, kubelet.connections()), ("ok", "ok", 2));
    // It was. Files are looked at in doubt once a second at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    renew();
    bench.shared.tls.expire();
    assert_eq!((bench.class().await, bench.class().await, kubelet.connections()), ("ok", "ok", 3));
    // Half of a pair is no reason to let go of what works.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    bench.shared.tls.expire();
    assert_eq!((bench.class().await, kubelet.connections()), ("ok", 3));
}

/// A kubelet that samples its containers at each request, its node every 10 s.
async fn live_kubelet(authority: &Authority) -> Kubelet {
    Kubelet::start(Some(authority.acceptor(&["127.0.0.1"], |_| {})), |_| {
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
async fn the_whole_run_from_a_node_that_appears_to_one_that_goes() {
    let authority = Authority::new();
    let kubelet = live_kubelet(&authority).await;
    let files = tempfile::tempdir().unwrap();
    let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
    std::fs::write(&ca_file, &authority.pem).unwrap();
    std::fs::write(&token, "secret").unwrap();
    let directory = Arc::new(Directory::new());
    let resolution = Duration::from_secs(15);
    let store = Arc::new(Store::new(directory.clone(), store::Config::new(resolution)));
    let metrics = Metrics::default();
    let config = Config {
        resolution,
        timeout: Duration::from_secs(1),
        tls: KubeletTls::Verify { ca_file },
        credentials: Credentials::TokenFile(token),
    };
    let findings = Findings::default();
    let failures = &findings.failures;
    let run = super::run(config, directory.clone(), store.clone(), metrics.clone(), findings.clone());
    let running = tokio::spawn(run);
    directory.begin_nodes();
    directory.begin_pods();
    directory.apply_pod("n", "p", "u", Labels::default());
    directory.apply_node(node(kubelet.address.port(), &["127.0.0.1"]));
    directory.apply_node(Node { name: "dead".into(), ..node(kubelet.address.port(), &["127.0.0.2"]) });
    directory.end_nodes();
    directory.end_pods();
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
    // The dead node is asked every 5 s, for some 10 s by now.
    let failed = count("metrics_server_scrape_failures_total{reason=\"connection_refused\"}");
    assert!((1..=3).contains(&failed), "{}", text());
    assert_eq!(count("metrics_server_kubelet_request_total{success=\"false\"}"), failed);
    assert!(text().contains("kubelet_last_request_time_seconds{node=\"worker-1\"}"), "{}", text());
    assert_eq!(kubelet.connections(), 1);
    directory.delete_node("worker-1");
    directory.delete_node("dead");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!text().contains("node=\""), "series of nodes that went are pruned: {}", text());
    assert_eq!(store.pod("n", "p", &mut |_| {}), Lookup::Unmeasured);
    assert_eq!(store.coverage().nodes, 0);
    assert!(failures.list().is_empty(), "a node that is gone fails no more");
    running.abort();
}
