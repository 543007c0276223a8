//! metrics-core under attack and outage, for an hour: its clients, kubelets and kube-apiserver misbehave, one kind after
//! the other and then all together, while well-behaved clients list at a fixed rate.
//!
//! ```text
//! phase          what attacks or fails, in order
//! attack         attacks on the port, in a process of their own
//! control_plane  outages of kube-apiserver
//! confined       metrics-core in a cgroup with the nanny's limit (limit), on one CPU
//! clients        well-behaved clients and probes
//! monitor        memory, CPU and metrics, once a second
//! judge          the figures of each phase, and what must not happen
//! report, chart  the page
//! ```
//!
//! The kubelets and the control plane are those of [`scale`](super::scale).

pub mod attack;
mod chart;
mod clients;
mod confined;
mod control_plane;
mod judge;
mod limit;
mod monitor;
mod phase;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use self::attack::{AttackSpec, Attackers};
pub use self::chart::svg;
use self::clients::{Clients, JSON, Log, PODS, count};
use self::confined::{Confined, PORT};
pub use self::judge::PhaseFigures;
use self::judge::{Span, judge};
pub use self::limit::nanny_limit;
pub use self::monitor::Second;
use self::monitor::{Seconds, megabytes};
pub use self::phase::{Outage, Phase};
pub use self::report::{page, table};
use crate::bench::scale::Population;
use crate::bench::scale::env::BenchEnv;
use crate::bench::scale::fleet::{Change, HostileResponse};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::KubeletKind;
use crate::testbed::http::Connection;
use crate::testbed::pki::Subject;
use crate::testbed::tls;

/// The time within which all pods must have metrics after the start, on a busy machine.
const START: Duration = Duration::from_secs(300);
/// The time after the start until metrics-core uses what it uses in the long run.
const WARM_UP: Duration = Duration::from_secs(30);
/// The time within which metrics-core must know the cluster again after an outage.
const RECOVERY: Duration = Duration::from_secs(90);
/// One node of this many attacks. The last good samples of its pods are served for a minute, so that lists have this part
/// less afterwards.
const HOSTILE_NODES: u32 = 10;

/// A run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HostilePlan {
    /// The name of the environment.
    pub name: String,
    /// Number of nodes.
    pub nodes: u32,
    /// Pods on each node.
    pub pods_per_node: u32,
    /// How long the whole run should take, in minutes.
    pub minutes: u32,
    /// The phases.
    pub phases: Vec<Phase>,
    /// The memory limit in bytes.
    pub limit: u64,
    /// The CPU of metrics-core alone; `None` if the machine has only one.
    pub cpu: Option<usize>,
    /// metrics-core.
    pub program: PathBuf,
    /// The directory of etcd and kube-apiserver.
    pub binaries: PathBuf,
}

/// The outcome of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HostileOutcome {
    /// The figures of each phase.
    pub phases: Vec<PhaseFigures>,
    /// The whole run, second by second.
    pub seconds: Vec<Second>,
    /// p99 of the direct lists in each second, ms.
    pub direct_p99_ms: Vec<f64>,
    /// Failed requests in each second: direct lists and probes, then aggregated lists.
    pub failed: (Vec<f64>, Vec<f64>),
}

impl HostilePlan {
    fn population(&self) -> Population {
        Population { nodes: self.nodes, pods_per_node: self.pods_per_node }
    }
}

/// Runs a plan inside the network.
pub async fn run(plan: &HostilePlan, progress: &Progress) -> Result<HostileOutcome> {
    let population = plan.population();
    let mut env =
        BenchEnv::start(&plan.name, population, KubeletKind::Cached, &plan.binaries, progress).await?;
    let apiserver = control_plane::prepare()?;
    let confined = Confined::start(&env, &plan.program, apiserver, plan.limit, plan.cpu)?;
    let authority = &env.authorities.cluster;
    let masters = |name| authority.issue(&Subject::user(name, Some("system:masters")));
    let (client, attacker) = (masters("hostile-client")?, masters("hostile-attacker")?);
    let config = Arc::new(tls::client(Some(authority.certificate()), Some(&client))?);
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    control_plane::register(config.clone(), (control_plane::node_address()?, PORT).into()).await?;
    let least = |pods: u32| (pods - pods.div_ceil(HOSTILE_NODES).min(pods)) as usize;
    let pods_of_namespace = population.pods().div_ceil(population.namespaces()).min(population.pods());
    let clients = Arc::new(Clients {
        address: target,
        config,
        // The last namespace may be smaller, the first is not.
        pods_of_namespace: least(pods_of_namespace),
        pods: least(population.pods()),
    });
    await_pods(&clients, population, progress).await?;
    tokio::time::sleep(WARM_UP).await;

    let (log, seconds, mut tasks) = (Log::default(), Seconds::default(), JoinSet::new());
    let began = Instant::now();
    clients.start(began, &log, &mut tasks)?;
    let monitor =
        monitor::run(confined, clients.clone(), began, log.clone(), seconds.clone(), progress.clone());
    let monitor = tokio::spawn(monitor);
    let spec = AttackSpec { attacks: Vec::new(), target, user: (attacker.certificate, attacker.key) };
    let mut spans = Vec::new();
    for phase in &plan.phases {
        let total = Duration::from_secs(60) * plan.minutes;
        let (quiet, duration) = phase.times(total, plan.phases.len());
        let spec = AttackSpec { attacks: phase.attacks(), ..spec.clone() };
        let start = began.elapsed();
        tokio::time::sleep(quiet).await;
        progress.say(format!("{phase}: {} s", duration.as_secs()));
        let mut span = one_phase(*phase, duration, spec, &mut env, began, &seconds).await?;
        span.quiet = start;
        if monitor.is_finished() {
            break;
        }
        let figures = judge(&[span.clone()], &log.lock(), &seconds.lock(), megabytes(plan.limit));
        for line in figures.iter().map(report::line) {
            progress.say(line);
        }
        spans.push(span);
    }
    if monitor.is_finished() {
        let ended = monitor.await.map_err(|error| Error::Invalid(error.to_string()))?;
        return Err(ended.err().unwrap_or_else(|| Error::Invalid("the monitor ended".into())));
    }
    monitor.abort();
    drop(monitor.await);
    drop(tasks);
    let (sent, seconds) = (log.lock(), seconds.lock());
    Ok(HostileOutcome {
        phases: judge(&spans, &sent, &seconds, megabytes(plan.limit)),
        direct_p99_ms: judge::per_second(&sent, seconds.len()),
        failed: judge::failed_per_second(&sent, seconds.len()),
        seconds: seconds.clone(),
    })
}

/// Attacks for `duration` and then repairs what failed.
async fn one_phase(
    phase: Phase,
    duration: Duration,
    spec: AttackSpec,
    env: &mut BenchEnv,
    began: Instant,
    seconds: &Seconds,
) -> Result<Span> {
    let from = began.elapsed();
    if phase.has_hostile_kubelets() {
        turn_kubelets(env, true)?;
    }
    if let Some(outage) = phase.outage() {
        control_plane::begin(outage, env)?;
    }
    let attackers = if spec.attacks.is_empty() { None } else { Some(Attackers::start(&spec)?) };
    tokio::time::sleep(duration).await;
    let attacks = attackers.map(Attackers::stop).unwrap_or_default();
    if phase.has_hostile_kubelets() {
        turn_kubelets(env, false)?;
    }
    let until = began.elapsed();
    if let Some(outage) = phase.outage() {
        control_plane::end(outage, env)?;
        let age = || seconds.lock().last().and_then(|second| second.age_s);
        while began.elapsed() < until + RECOVERY && age().is_none_or(|age| age > judge::OLD_S) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let recovered = began.elapsed();
    Ok(Span { phase, quiet: from, from, until, recovered, attacks })
}

/// Makes one node of ten hostile, or all nodes well-behaved again.
fn turn_kubelets(env: &mut BenchEnv, hostile: bool) -> Result<()> {
    let nodes = env.fleet().population().nodes;
    for (node, response) in
        (0..nodes).step_by(HOSTILE_NODES as usize).zip(HostileResponse::ALL.iter().cycle())
    {
        let response = hostile.then_some(*response);
        env.fleet().change(node, &Change::Attack { response })?;
    }
    Ok(())
}

/// Waits until all pods have metrics.
async fn await_pods(clients: &Clients, population: Population, progress: &Progress) -> Result<()> {
    let (began, mut seen) = (Instant::now(), String::new());
    while began.elapsed() < START {
        let listed = async {
            let mut http = Connection::tls(clients.address, clients.config.clone()).await?;
            http.get(PODS, JSON).await?.ok()
        };
        seen = match listed.await {
            Ok(response) => {
                let items = count(&response.body, b"\"timestamp\":");
                if items >= population.pods() as usize {
                    progress.say(format!("all pods have metrics ({:.0} s)", began.elapsed().as_secs_f64()));
                    return Ok(());
                }
                format!("{items} pods")
            }
            Err(error) => error.to_string(),
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Err(Error::Timeout { what: "metrics of all pods".into(), after: START, last: seen })
}
