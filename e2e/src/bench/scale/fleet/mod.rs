//! Thousands of kubelets in one process, behind one listener.
//!
//! Each has a serving certificate for its own address, requires a client certificate of the cluster, and writes a new
//! body for each request, gzipped if the client accepts it, as a real kubelet does. The process reads commands from
//! standard input, one on each line, and writes the response to `stats` to standard output.
//!
//! ```text
//! sampling    when a container is sampled
//! samples     the pods of a kubelet and their samples
//! anomaly     what can be wrong with them
//! exposition  the text
//! hostile     responses that attack the client
//! ```

mod anomaly;
mod exposition;
mod hostile;
pub(super) mod samples;
mod sampling;

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

pub use self::anomaly::Anomaly;
pub use self::hostile::HostileResponse;
use self::samples::KubeletState;
pub(super) use self::sampling::hash;
use super::population::{Pod, Population, address, node_at, node_name};
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::KubeletKind;
use crate::testbed::fake_kubelet::{self, Framing, KubeletConnection, TEXT_FORMAT};
use crate::testbed::pki::{Authority, Subject};
use crate::testbed::tls::{chain, invalid, key};

/// The port of a kubelet.
pub const PORT: u16 = 10250;
/// The number of nodes without a Node object at first, for node churn; their numbers follow those of the population.
pub const SPARE_NODES: u32 = 1000;
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

/// The kubelets to serve.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FleetSpec {
    /// The nodes and their pods.
    pub population: Population,
    /// The kind of all kubelets.
    pub kubelet: KubeletKind,
    /// The directory with `ca.crt` and `ca.key`.
    pub pki: PathBuf,
}

/// A change of one kubelet while the fleet runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A container ends and starts again.
    Restart {
        /// The pod.
        pod: Pod,
        /// The place of the container in [`super::population::CONTAINERS`].
        container: usize,
        /// The time until its start, in milliseconds.
        after_ms: u64,
    },
    /// A pod starts.
    AddPod {
        /// The pod.
        pod: Pod,
        /// The time until its start, in milliseconds.
        after_ms: u64,
    },
    /// A pod ends.
    RemovePod {
        /// The pod.
        pod: Pod,
    },
    /// The node boots; it has no pods then.
    Boot,
    /// The responses become anomalous, or normal again.
    Inject {
        /// What they have.
        anomaly: Option<Anomaly>,
    },
    /// The responses attack the client, or become normal again.
    Attack {
        /// How they do.
        response: Option<HostileResponse>,
    },
}

/// Serves until standard input ends.
pub fn run(spec: FleetSpec) -> Result<()> {
    let authority = Authority::keep(&spec.pki, "ca", "")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the fleet".into())?;
    let (changes, requested) = mpsc::unbounded_channel();
    std::thread::spawn(move || obey(&changes));
    tokio::task::LocalSet::new().block_on(&runtime, serve(spec, &authority, requested))
}

/// Executes the commands from standard input, and ends the process at its end.
#[allow(clippy::exit)]
fn obey(changes: &mpsc::UnboundedSender<(u32, Change)>) {
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
        } else if let Some(change) =
            line.strip_prefix("change ").and_then(|text| serde_json::from_str(text).ok())
        {
            let _ = changes.send(change);
        }
    }
    std::process::exit(0);
}

struct Fleet {
    spec: FleetSpec,
    authority: Authority,
    key: String,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    nodes: RefCell<Vec<Option<Rc<FleetNode>>>>,
}

struct FleetNode {
    number: u32,
    hostile: Cell<Option<HostileResponse>>,
    state: RefCell<KubeletState>,
    tls: TlsAcceptor,
}

async fn serve(
    spec: FleetSpec,
    authority: &Authority,
    mut changes: mpsc::UnboundedReceiver<(u32, Change)>,
) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(authority.certificate())?);
    let verifier = WebPkiClientVerifier::builder(roots.into()).build().map_err(invalid)?;
    let fleet = Rc::new(Fleet {
        authority: authority.clone(),
        key: rcgen::KeyPair::generate()?.serialize_pem(),
        verifier,
        nodes: RefCell::new((0..spec.population.nodes + SPARE_NODES).map(|_| None).collect()),
        spec,
    });
    let of_changes = fleet.clone();
    tokio::task::spawn_local(async move {
        while let Some((node, change)) = changes.recv().await {
            if let Err(error) = of_changes.change(node, &change) {
                eprintln!("node {node}, {change:?}: {error}");
            }
        }
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
    /// Returns the node that a connection dialed.
    fn dialed(&self, stream: &TcpStream) -> Result<Rc<FleetNode>> {
        let local = stream.local_addr().doing(|| "read the local address".into())?;
        let IpAddr::V4(local) = local.ip() else { return Err(Error::Invalid("not IPv4".into())) };
        self.node(node_at(local).ok_or_else(|| Error::Invalid(format!("no node at {local}")))?)
    }

    fn node(&self, number: u32) -> Result<Rc<FleetNode>> {
        match self.nodes.borrow().get(number as usize) {
            Some(Some(node)) => return Ok(node.clone()),
            Some(None) => {}
            None => return Err(Error::Invalid(format!("no node {number}"))),
        }
        let subject = Subject::server(&node_name(number), &[&node_name(number)], &[address(number).into()]);
        let certificate = self.authority.issue_for(&subject, &self.key)?;
        let config = ServerConfig::builder()
            .with_client_cert_verifier(self.verifier.clone())
            .with_single_cert(chain(&certificate)?, key(&self.key)?)
            .map_err(invalid)?;
        let node = Rc::new(FleetNode {
            number,
            hostile: Cell::new(None),
            state: RefCell::new(KubeletState::new(self.spec.population, number, self.spec.kubelet, now_ms())),
            tls: TlsAcceptor::from(Arc::new(config)),
        });
        self.nodes.borrow_mut()[number as usize] = Some(node.clone());
        Ok(node)
    }

    fn change(&self, number: u32, change: &Change) -> Result<()> {
        let (node, now_ms) = (self.node(number)?, now_ms());
        let mut state = node.state.borrow_mut();
        match *change {
            Change::Restart { pod, container, after_ms } => state.restart(pod, container, now_ms + after_ms),
            Change::AddPod { pod, after_ms } => state.add(pod, now_ms + after_ms),
            Change::RemovePod { pod } => state.remove(pod),
            Change::Boot => {
                *state = KubeletState::booted(self.spec.population, number, self.spec.kubelet, now_ms);
            }
            Change::Inject { anomaly } => state.inject(anomaly, now_ms),
            Change::Attack { response } => node.hostile.set(response),
        }
        Ok(())
    }

    async fn connection(&self, stream: TcpStream) -> Result<()> {
        let node = self.dialed(&stream)?;
        let doing = || "serve a connection".to_owned();
        let mut connection = KubeletConnection::accept(stream, &node.tls).await.doing(doing)?;
        while let Some(request) = connection.request().await.doing(doing)? {
            if let Some(response) = node.hostile.get() {
                REQUESTS.fetch_add(1, Ordering::Relaxed);
                return response.send(connection).await.doing(doing);
            }
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
                exposition::write(&mut body, &node.state.borrow_mut().samples(now_ms()));
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

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
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
