//! Thousands of kubelets in one process, behind one listener.
//!
//! Each has a serving certificate for its own address, requires a client certificate of the cluster, and writes a new
//! body for each request, gzipped if the client accepts it, as a real kubelet does. The process reads commands from
//! standard input, one on each line, and writes the response to `stats` to standard output.

mod exposition;

use std::cell::RefCell;
use std::io::{self, BufRead as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::exposition::Exposition;
use super::population::{Population, address, node_at, node_name};
use crate::error::{Doing as _, Error, Result};
use crate::testbed::fake_kubelet::{self, Framing, KubeletConnection, TEXT_FORMAT};
use crate::testbed::pki::{Authority, Subject};
use crate::testbed::tls::{chain, invalid, key};

/// The port of a kubelet.
pub const PORT: u16 = 10250;
/// The response time of a slow node.
const SLOW: Duration = Duration::from_secs(9);
/// The body of a node that returns garbage.
static GARBAGE: [u8; 20_000] = [0xfe; 20_000];

/// What the fleet did since its start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests answered completely.
    pub requests: u64,
    /// Bytes of the responses, without TLS.
    pub wire_bytes: u64,
    /// Bytes of the bodies before gzip.
    pub body_bytes: u64,
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static WIRE: AtomicU64 = AtomicU64::new(0);
static BODY: AtomicU64 = AtomicU64::new(0);
/// The share of failing nodes in percent.
static FAILING: AtomicU32 = AtomicU32::new(0);

/// How a node fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeFailure {
    /// Its packets are dropped (by the firewall, not here).
    BlackHole,
    /// It responds after 9 s.
    Slow,
    /// It returns garbage.
    Garbage,
}

/// Returns how a node fails if `percent` of the nodes do; the kinds take turns.
#[must_use]
pub fn node_failure(node: u32, percent: u32) -> Option<NodeFailure> {
    let kinds = [NodeFailure::BlackHole, NodeFailure::Slow, NodeFailure::Garbage];
    (node % 100 < percent).then(|| kinds[((node / 100 * percent + node % 100) % 3) as usize])
}

/// Serves until standard input ends. `pki` contains `ca.crt` and `ca.key`.
pub fn run(population: Population, pki: &Path) -> Result<()> {
    let authority = Authority::keep(pki, "ca", "")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the fleet".into())?;
    std::thread::spawn(obey);
    tokio::task::LocalSet::new().block_on(&runtime, serve(population, &authority))
}

/// Executes the commands from standard input, and ends the process at its end.
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
            FAILING.store(percent, Ordering::Relaxed);
        }
    }
    std::process::exit(0);
}

struct Fleet {
    population: Population,
    authority: Authority,
    key: String,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    nodes: RefCell<Vec<Option<Rc<FleetNode>>>>,
}

struct FleetNode {
    number: u32,
    exposition: Exposition,
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
    let connection = |stream| {
        let fleet = fleet.clone();
        async move {
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let _ = fleet.connection(stream).await;
        }
    };
    fake_kubelet::serve(fake_kubelet::listen(PORT)?, connection).await;
    Ok(())
}

impl Fleet {
    fn node(&self, stream: &TcpStream) -> Result<Rc<FleetNode>> {
        let local = stream.local_addr().doing(|| "read the local address".into())?;
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
        let node = Rc::new(FleetNode {
            number,
            exposition: Exposition::new(self.population, number),
            tls: TlsAcceptor::from(Arc::new(config)),
        });
        self.nodes.borrow_mut()[number as usize] = Some(node.clone());
        Ok(node)
    }

    async fn connection(&self, stream: TcpStream) -> Result<()> {
        let node = self.node(&stream)?;
        let doing = || "serve a connection".to_owned();
        let mut connection = KubeletConnection::accept(stream, &node.tls).await.doing(doing)?;
        while let Some(request) = connection.request().await.doing(doing)? {
            let failure = node_failure(node.number, FAILING.load(Ordering::Relaxed));
            if failure == Some(NodeFailure::Slow) {
                tokio::time::sleep(SLOW).await;
            }
            let written = if request.method != "GET" || request.path != "/metrics/resource" {
                connection.respond(404, "text/plain", b"", Framing::Length).await
            } else if failure == Some(NodeFailure::Garbage) {
                BODY.fetch_add(GARBAGE.len() as u64, Ordering::Relaxed);
                connection.respond(200, TEXT_FORMAT, &GARBAGE, Framing::Chunks).await
            } else {
                let mut body = Vec::with_capacity(64 * 1024);
                node.exposition.write(&mut body);
                BODY.fetch_add(body.len() as u64, Ordering::Relaxed);
                let framing = if request.accepts_gzip { Framing::GzipChunks } else { Framing::Chunks };
                connection.respond(200, TEXT_FORMAT, &body, framing).await
            };
            WIRE.fetch_add(written.doing(doing)? as u64, Ordering::Relaxed);
            REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributes_failures_over_the_kinds() {
        let of = |percent| (0..1000).filter_map(|node| node_failure(node, percent)).collect::<Vec<_>>();
        assert_eq!((of(0).len(), of(1).len(), of(10).len()), (0, 10, 100));
        for kind in [NodeFailure::BlackHole, NodeFailure::Slow, NodeFailure::Garbage] {
            assert!((33..=34).contains(&of(10).iter().filter(|fault| **fault == kind).count()));
        }
    }
}
