//! Tests the scraper against a fake kubelet: TLS, replayed bodies, delays, garbage.

mod certificates;
mod connections;
mod credentials;
mod failures;
#[allow(clippy::cast_possible_truncation)]
mod faulty_samples;
mod full_run;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::buffers::BufferPool;
use super::resolver::Resolver;
use super::target::Target;
use super::tls::TlsConfigs;
use super::{Credentials, Error, Findings, KubeletTls, ScrapeContext, ScrapeMetrics};
use crate::ingest::discover::{Address, AddressType, Node};
use crate::ingest::store::{self, PutSummary, Store, StoreDirectory, Ticket};
use crate::memory::MemoryBudget;
use crate::model::labels::Labels;
use crate::watched_file::Source;

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
    acceptor_of(certificate.der().clone(), key)
}

fn acceptor_of(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate], key);
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
        respond: impl Fn(&str) -> FakeResponse + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, respond) = (connections.clone(), Arc::new(respond));
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, respond) = (acceptor.clone(), respond.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                serve_connection(stream, &*respond).await;
                            }
                        }
                        None => serve_connection(tcp, &*respond).await,
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
        let tls = |ca| if insecure { KubeletTls::Insecure } else { KubeletTls::Verify { ca } };
        Self::with_tls(ca, node, tls, Findings::default())
    }

    /// Pins keys, with the pins in `findings`.
    fn pinning(ca: &TestCa, node: Node, findings: &Findings) -> Self {
        Self::with_tls(ca, node, |ca| KubeletTls::Pin { ca }, findings.clone())
    }

    fn with_tls(ca: &TestCa, node: Node, tls: impl FnOnce(Source) -> KubeletTls, findings: Findings) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (ca_file, token) = (files.path().join("ca.crt"), files.path().join("token"));
        std::fs::write(&ca_file, &ca.pem).unwrap();
        std::fs::write(&token, "secret\n").unwrap();
        let kubelet = tls(ca_file.into());
        let directory = Arc::new(StoreDirectory::new());
        let store = Arc::new(Store::new(directory.clone(), store::StoreConfig::new(Duration::from_secs(15))));
        let node = Arc::new(node);
        let ticket = store.insert_node(&node);
        let shared = ScrapeContext {
            timeout: Duration::from_secs(2),
            tls: TlsConfigs::new(
                &kubelet,
                &Credentials::Token(token.clone().into()),
                Duration::from_secs(15),
                findings.pins.clone(),
            ),
            token: Some(super::tls::token(token.clone().into())),
            first_address_only: super::first_address_only(
                &kubelet,
                &Credentials::Token(token.clone().into()),
            ),
            resolver: Resolver::default(),
            pool: BufferPool::new(MemoryBudget::new(256 << 20), Duration::from_millis(500)),
            directory,
            store,
            metrics: ScrapeMetrics::default(),
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
        cpu_millicores: 0,
    }
}
