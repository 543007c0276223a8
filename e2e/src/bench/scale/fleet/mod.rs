//! Thousands of kubelets in one process: it listens once and tells the nodes apart by the address that is dialled.
//!
//! Each has a serving certificate of its own for its address, wants a client certificate of the cluster, and writes
//! its body anew for each request, gzipped when asked and in chunks, as a real kubelet does. It speaks HTTP/1.1 only.
//! It is told what to do on standard input, a command a line, and answers `stats` on standard output.

mod body;

use std::cell::RefCell;
use std::io::{self, BufRead as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use libdeflater::{CompressionLvl, Compressor};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use self::body::Kubelet;
use super::population::{Population, address, node_at, node_name};
use super::tls::{chain, invalid, key};
use crate::error::{Doing as _, Error, Result};
use crate::testbed::pki::{Authority, Subject};

/// A kubelet's port.
pub const PORT: u16 = 10250;
/// How long a slow node takes.
const SLOW: Duration = Duration::from_secs(9);
/// What Go writes at once, by its buffers: a chunk, and a TLS record.
const CHUNK: usize = 2048;
const RECORD: usize = 4096;

/// What the fleet did since it was started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered.
    pub requests: u64,
    /// Bytes of the answers, on the wire but for TLS.
    pub wire_bytes: u64,
    /// Bytes of the bodies before gzip.
    pub body_bytes: u64,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static WIRE: AtomicU64 = AtomicU64::new(0);
static BODY: AtomicU64 = AtomicU64::new(0);
/// So many of a hundred nodes fail.
static FAULTS: AtomicU32 = AtomicU32::new(0);

/// How a node fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Its packets are lost (done by the firewall, not here).
    BlackHole,
    /// It answers after 9 s.
    Slow,
    /// It answers with noise.
    Garbage,
}

/// How a node fails when so many of a hundred do: the kinds take turns.
#[must_use]
pub fn fault(node: u32, percent: u32) -> Option<Fault> {
    let kinds = [Fault::BlackHole, Fault::Slow, Fault::Garbage];
    (node % 100 < percent).then(|| kinds[((node / 100 * percent + node % 100) % 3) as usize])
}

/// Runs until standard input ends. `pki` holds `ca.crt` and `ca.key`.
pub fn run(population: Population, pki: &Path) -> Result<()> {
    let authority = Authority::keep(pki, "ca", "")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the fleet".into())?;
    std::thread::spawn(obey);
    tokio::task::LocalSet::new().block_on(&runtime, serve(population, &authority))
}

/// Does what standard input says; ends the process with it.
#[allow(clippy::exit)]
fn obey() {
    for line in io::stdin().lock().lines().map_while(io::Result::ok) {
        if line == "stats" {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let stats = Stats {
                connections: load(&CONNECTIONS),
                requests: load(&REQUESTS),
                wire_bytes: load(&WIRE),
                body_bytes: load(&BODY),
            };
            let text = serde_json::to_string(&stats).unwrap_or_default();
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        } else if let Some(percent) = line.strip_prefix("faults ").and_then(|text| text.parse().ok()) {
            FAULTS.store(percent, Ordering::Relaxed);
        }
    }
    std::process::exit(0);
}

struct Fleet {
    population: Population,
    authority: Authority,
    key: String,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    nodes: RefCell<Vec<Option<Rc<Node>>>>,
}

struct Node {
    number: u32,
    kubelet: Kubelet,
    tls: TlsAcceptor,
}

async fn serve(population: Population, authority: &Authority) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(authority.certificate())?);
    let verifier = WebPkiClientVerifier::builder(roots.into()).build().map_err(invalid)?;
    let fleet = Rc::new(Fleet {
        population,
        authority: authority.clone(),
        key: rcgen::KeyPair::generate()?.serialize_pem(),
        verifier,
        nodes: RefCell::new((0..population.nodes).map(|_| None).collect()),
    });
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((std::net::Ipv4Addr::UNSPECIFIED, PORT).into())?;
        socket.listen(16_384)
    };
    let listener = listen().doing(|| format!("listen on port {PORT}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let fleet = fleet.clone();
        tokio::task::spawn_local(async move {
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let _ = fleet.connection(stream).await;
        });
    }
}

impl Fleet {
    fn node(&self, stream: &TcpStream) -> Result<Rc<Node>> {
        let local = stream.local_addr().doing(|| "ask for an address".into())?;
        let IpAddr::V4(local) = local.ip() else { return Err(Error::Invalid("not IPv4".into())) };
        let number = node_at(local).filter(|node| *node < self.population.nodes);
        let number = number.ok_or_else(|| Error::Invalid(format!("no node at {local}")))?;
        if let Some(Some(node)) = self.nodes.borrow().get(number as usize) {
            return Ok(node.clone());
        }
        let subject = Subject::server(&node_name(number), &[&node_name(number)], &[address(number).into()]);
        let certificate = self.authority.issue_for(&subject, &self.key)?;
        let config = ServerConfig::builder()
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(chain(&certificate)?, key(&self.key)?)
            .map_err(invalid)?;
        let node = Rc::new(Node {
            number,
            kubelet: Kubelet::new(self.population, number),
            tls: TlsAcceptor::from(Arc::new(config)),
        });
        self.nodes.borrow_mut()[number as usize] = Some(node.clone());
        Ok(node)
    }

    async fn connection(&self, stream: TcpStream) -> Result<()> {
        let node = self.node(&stream)?;
        let _ = stream.set_nodelay(true);
        let failed = |_| Error::Invalid("connection".into());
        let mut stream = node.tls.accept(stream).await.map_err(failed)?;
        let mut request = Vec::new();
        let mut answer = Vec::new();
        loop {
            request.clear();
            while !request.ends_with(b"\r\n\r\n") {
                request.reserve(1024);
                if request.len() > 16_384 || stream.read_buf(&mut request).await.map_err(failed)? == 0 {
                    return Ok(());
                }
            }
            let fault = fault(node.number, FAULTS.load(Ordering::Relaxed));
            if fault == Some(Fault::Slow) {
                tokio::time::sleep(SLOW).await;
            }
            answer.clear();
            node.answer(&request, fault == Some(Fault::Garbage), &mut answer);
            for record in answer.chunks(RECORD) {
                stream.write_all(record).await.map_err(failed)?;
            }
            stream.flush().await.map_err(failed)?;
            REQUESTS.fetch_add(1, Ordering::Relaxed);
            WIRE.fetch_add(answer.len() as u64, Ordering::Relaxed);
            // A connection that rests costs no more than it must: the fleet is not what is measured.
            (request, answer) = (Vec::new(), Vec::new());
        }
    }
}

impl Node {
    fn answer(&self, request: &[u8], garbage: bool, answer: &mut Vec<u8>) {
        let head = String::from_utf8_lossy(request).to_ascii_lowercase();
        if !head.starts_with("get /metrics/resource ") {
            answer.extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let mut body = Vec::with_capacity(64 * 1024);
        if garbage {
            body.resize(20_000, b'\xfe');
        } else {
            self.kubelet.write(&mut body);
        }
        BODY.fetch_add(body.len() as u64, Ordering::Relaxed);
        let gzip = !garbage
            && head.lines().any(|line| line.starts_with("accept-encoding:") && line.contains("gzip"));
        let body = if gzip { compress(&body) } else { body };
        answer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        if gzip {
            answer.extend_from_slice(b"Content-Encoding: gzip\r\n");
        }
        answer.extend_from_slice(
            b"Content-Type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores\r\n\
              Date: Tue, 24 Nov 2026 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for chunk in body.chunks(CHUNK) {
            let _ = write!(answer, "{:x}\r\n", chunk.len());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n\r\n");
    }
}

fn compress(body: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<Compressor> =
            RefCell::new(Compressor::new(CompressionLvl::new(4).unwrap_or_default()));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
        let size = compressor.gzip_compress(body, &mut out).unwrap_or_default();
        out.truncate(size);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_spread_over_the_kinds() {
        let of = |percent| (0..1000).filter_map(|node| fault(node, percent)).collect::<Vec<_>>();
        assert_eq!((of(0).len(), of(1).len(), of(10).len()), (0, 10, 100));
        for kind in [Fault::BlackHole, Fault::Slow, Fault::Garbage] {
            assert!((33..=34).contains(&of(10).iter().filter(|fault| **fault == kind).count()));
        }
    }
}
