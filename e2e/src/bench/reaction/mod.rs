//! The time until a HorizontalPodAutoscaler reacts to a load, with metrics-core and with metrics-server.
//!
//! The servers run as processes in the cluster's network, one after the other, with the same kubelet and the same
//! controllers. Idle pods start to use CPU; the time ends when their autoscaler wants more replicas. Several pods, each
//! with an autoscaler, take turns in parallel: they mostly wait.

mod lane;
mod objects;
mod times;

use std::fs;
use std::net::SocketAddr;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use self::lane::{Lane, Observed, Observer};
pub use self::times::{Measured, ReactionTimes};
use crate::bench::servers::{self, Server};
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::{Cluster, KubeletKind};
use crate::testbed::images;

const NAMESPACE: &str = "reaction";
/// The time between two reads of pods and autoscalers.
const POLL: Duration = Duration::from_millis(250);
/// The first port of the servers.
const PORT: u16 = 4443;

/// A server with a scrape interval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    /// Whether it is metrics-server instead of metrics-core.
    pub metrics_server: bool,
    /// The scrape interval, for example `15s`; metrics-server accepts none below `10s`.
    pub interval: String,
}

impl FromStr for Case {
    type Err = String;

    /// `metrics-core@INTERVAL` or `metrics-server@INTERVAL`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let case = |metrics_server, interval: &str| Self { metrics_server, interval: interval.to_owned() };
        match text.split_once('@') {
            Some(("metrics-core", interval)) => Ok(case(false, interval)),
            Some(("metrics-server", interval)) => Ok(case(true, interval)),
            _ => {
                Err("write metrics-core@INTERVAL or metrics-server@INTERVAL, for example metrics-core@15s"
                    .into())
            }
        }
    }
}

impl Case {
    fn name(&self) -> String {
        format!("{}, {}", if self.metrics_server { "metrics-server" } else { "metrics-core" }, self.interval)
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct ReactionPlan {
    /// Number of measurements with each server and each kind of kubelet.
    pub steps: u32,
    /// Number of autoscalers in parallel.
    pub autoscalers: u32,
    /// The kinds of kubelet, one after the other.
    pub kubelets: Vec<KubeletKind>,
    /// The servers, one after the other.
    pub cases: Vec<Case>,
}

/// Measures on a cluster that is otherwise idle.
///
/// # Errors
/// If a step does not complete in time.
pub fn run(cluster: &Cluster, plan: &ReactionPlan, progress: &Progress) -> Result<ReactionTimes> {
    let metrics_core = servers::metrics_core(progress)?;
    let wanted = plan.cases.iter().any(|case| case.metrics_server);
    let metrics_server = wanted.then(|| binaries::metrics_server(progress)).transpose()?;
    let client = cluster.client();
    progress.step("idle pods and their autoscalers created", |_| {
        cluster.load(&images::busybox()?)?;
        client.apply(&objects::workloads(plan.autoscalers))
    })?;
    let observer = Observer::new(cluster)?;
    let mut times = ReactionTimes::default();
    let mut port = PORT;
    for kubelet in &plan.kubelets {
        progress.step(&format!("the kubelet is {kubelet}"), |_| {
            cluster.restart_kubelet_as(*kubelet, &progress.clone().quiet())
        })?;
        for case in &plan.cases {
            let program = if case.metrics_server { metrics_server.as_ref() } else { None };
            let address = SocketAddr::from((cluster.node().address, port));
            let directory = cluster.layout().data.join(format!("reaction-{port}"));
            port += 1;
            fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
            let program = program.unwrap_or(&metrics_core);
            let server = Server::start(cluster, &directory, program, address, &case.interval)?;
            client.apply(&objects::registration(address))?;
            let title = format!("{}, {kubelet} kubelet", case.name());
            let seconds = steps(cluster, &observer, plan, &title, progress)?;
            drop(server);
            times.0.push(Measured { case: case.name(), kubelet: *kubelet, seconds });
        }
    }
    Ok(times)
}

/// Measures all steps with the server that is registered; returns the seconds of each.
fn steps(
    cluster: &Cluster,
    observer: &Observer<'_>,
    plan: &ReactionPlan,
    title: &str,
    progress: &Progress,
) -> Result<Vec<f64>> {
    let client = cluster.client();
    let lanes = plan.autoscalers.min(plan.steps);
    let mut lanes = (0..lanes).map(|number| Lane::start(&client, number)).collect::<Result<Vec<_>>>()?;
    let (mut begun, mut seconds) = (0, Vec::new());
    let mut failed_since: Option<Instant> = None;
    while seconds.len() < plan.steps as usize {
        thread::sleep(POLL);
        let states = match observer.observe() {
            Ok(states) => states,
            // The API server may be slow on a busy machine.
            Err(error)
                if failed_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(30) =>
            {
                return Err(error);
            }
            Err(_) => continue,
        };
        failed_since = None;
        for lane in &mut lanes {
            let state = states.of(lane.name()).unwrap_or_default();
            if let Some(result) = lane.advance(&client, &state, &mut begun, plan.steps)? {
                seconds.push(result);
                progress.say(format!("{title}: step {} of {}: {result:.1} s", seconds.len(), plan.steps));
            }
        }
    }
    Ok(seconds)
}

impl Observed {
    fn of(&self, name: &str) -> Option<lane::State> {
        self.0.get(name).cloned()
    }
}

/// Returns the error of a lane that waits for too long.
fn timeout(what: String, after: Duration, state: &lane::State) -> Error {
    Error::Timeout { what, after, last: format!("{state:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_server_and_interval() {
        let case: Case = "metrics-server@15s".parse().unwrap();
        assert_eq!(case.name(), "metrics-server, 15s");
        assert_eq!("metrics-core@1s".parse::<Case>().unwrap().name(), "metrics-core, 1s");
        assert!("other@1s".parse::<Case>().is_err() && "metrics-core".parse::<Case>().is_err());
    }
}
