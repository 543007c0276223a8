//! etcd and kube-apiserver with thousands of nodes and pods, and the kubelets, in a network of their own.
//!
//! There are no controllers: the node lifecycle controller would evict all pods.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::fleet::{Change, FleetSpec, NodeFailure, Stats, node_failure};
use super::population::{Pod, Population, address};
use super::seed;
use crate::command;
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::component::Component;
use crate::testbed::cluster::control_plane::{self, Authorities};
use crate::testbed::cluster::{FlagChange, KubeletKind, Layout, server};
use crate::testbed::http::{Request, Response};
pub use crate::testbed::isolated::{Process, prepare, remove};
use crate::testbed::process::MARK;

const TIMEOUT: Duration = Duration::from_secs(600);

/// The environment of the measurements: the control plane and the fleet.
pub struct BenchEnv {
    /// The directories of its files.
    pub layout: Layout,
    /// Its certificate authorities.
    pub authorities: Authorities,
    fleet: FleetProcess,
    _etcd: Process,
    apiserver: Process,
    binaries: PathBuf,
}

impl BenchEnv {
    /// Starts the control plane with the population and the fleet; runs inside the network.
    pub async fn start(
        name: &str,
        population: Population,
        kubelet: KubeletKind,
        binaries: &Path,
        progress: &Progress,
    ) -> Result<Self> {
        let layout = Layout::new(name)?;
        let authorities = control_plane::prepare(&layout)?;
        let etcd = seed::filled_etcd(&layout, population, binaries, progress).await?;
        let mut apiserver = start_apiserver(&layout, binaries)?;
        let began = Instant::now();
        let readyz = Request::get(format!("{}/readyz", server())).timeout(Duration::from_secs(5));
        while let Err(error) = readyz.fetch().await.and_then(Response::ok) {
            apiserver.check()?;
            if began.elapsed() > TIMEOUT {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        progress.say(format!("kube-apiserver is ready ({:.1} s)", began.elapsed().as_secs_f64()));
        let fleet = FleetProcess::start(&layout, population, kubelet)?;
        let binaries = binaries.to_owned();
        Ok(Self { layout, authorities, fleet, _etcd: etcd, apiserver, binaries })
    }

    /// Returns the process of kube-apiserver.
    pub fn apiserver(&mut self) -> &mut Process {
        &mut self.apiserver
    }

    /// Starts kube-apiserver again; kills the process that still runs.
    pub fn restart_apiserver(&mut self) -> Result<()> {
        self.apiserver.kill();
        self.apiserver = start_apiserver(&self.layout, &self.binaries)?;
        Ok(())
    }

    /// Returns the fleet.
    pub fn fleet(&mut self) -> &mut FleetProcess {
        &mut self.fleet
    }
}

fn start_apiserver(layout: &Layout, binaries: &Path) -> Result<Process> {
    let changes = [
        FlagChange::remove("audit-policy-file"),
        FlagChange::remove("audit-log-path"),
        FlagChange::remove("audit-log-maxsize"),
        FlagChange::set("disable-admission-plugins", "ServiceAccount"),
    ];
    start(layout, &control_plane::apiserver(layout, binaries, &changes))
}

pub(super) fn start(layout: &Layout, component: &Component) -> Result<Process> {
    Process::component(layout, component)
}

/// The process that serves all kubelets: this program with another argument.
pub struct FleetProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    population: Population,
    faults: u32,
}

impl FleetProcess {
    fn start(layout: &Layout, population: Population, kubelet: KubeletKind) -> Result<Self> {
        let spec = serde_json::to_string(&FleetSpec { population, kubelet, pki: layout.pki() });
        let me = std::env::current_exe().doing(|| "find this program".into())?;
        let mut child = Command::new(me)
            .arg("fleet")
            .arg(spec.doing(|| "encode the fleet's specification".into())?)
            .env(MARK, &layout.run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| "start the fleet".into())?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Invalid("the fleet has no pipes".into()));
        };
        let dead = "add table inet bench; add set inet bench dead { type ipv4_addr; }; \
                    add chain inet bench input { type filter hook input priority 0; }; \
                    add rule inet bench input ip daddr @dead drop";
        command::output(Command::new("nft").arg(dead))?;
        Ok(Self { child, input, output: BufReader::new(output), population, faults: 0 })
    }

    /// Returns the pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the nodes and their pods.
    #[must_use]
    pub fn population(&self) -> Population {
        self.population
    }

    /// Returns what the fleet did so far.
    pub fn stats(&mut self) -> Result<Stats> {
        writeln!(self.input, "stats").doing(|| "read the statistics of the fleet".into())?;
        let mut line = String::new();
        self.output.read_line(&mut line).doing(|| "read the statistics of the fleet".into())?;
        serde_json::from_str(&line).doing(|| format!("decode the fleet's statistics {line:?}"))
    }

    /// Changes the kubelet of a node.
    pub fn change(&mut self, node: u32, change: &Change) -> Result<()> {
        let change = serde_json::to_string(&(node, change)).doing(|| "encode a change".into())?;
        writeln!(self.input, "change {change}").doing(|| "send a command to the fleet".into())
    }

    /// Lets `percent` of the nodes fail.
    pub fn fail(&mut self, percent: u32) -> Result<()> {
        self.faults = percent;
        writeln!(self.input, "faults {percent}").doing(|| "send a command to the fleet".into())?;
        let black = (0..self.population.nodes)
            .filter(|node| node_failure(*node, percent) == Some(NodeFailure::BlackHole))
            .map(|node| address(node).to_string())
            .collect::<Vec<_>>();
        let mut rules = "flush set inet bench dead".to_owned();
        if !black.is_empty() {
            rules.push_str("; add element inet bench dead { ");
            rules.push_str(&black.join(", "));
            rules.push_str(" }");
        }
        command::output(Command::new("nft").arg(&rules)).map(drop)
    }

    /// Returns whether the node of a pod responds correctly.
    #[must_use]
    pub fn is_healthy(&self, pod: Pod) -> bool {
        node_failure(self.population.node_of(pod), self.faults).is_none()
    }
}

impl Drop for FleetProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
