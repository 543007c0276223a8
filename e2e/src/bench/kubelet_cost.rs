//! What a scrape costs the node: CPU of the kubelet, of containerd and of its shims per request of `/metrics/resource`.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::scale::usage;
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, KubeletKind};
use crate::testbed::http::Request;
use crate::testbed::images::{self, BUSYBOX};
use crate::testbed::pki::Subject;

const NAMESPACE: &str = "kubelet-cost";
/// The number of containers of each pod.
const CONTAINERS_PER_POD: u32 = 5;
/// The longest time from a kubelet's start to cAdvisor's second sample of a container.
const SECOND_SAMPLE: Duration = Duration::from_secs(35);
/// The time between two scrapes: often enough to stand out from the kubelet's own work.
const SCRAPES: Duration = Duration::from_millis(250);

/// What is measured.
#[derive(Clone, Debug)]
pub struct KubeletCostPlan {
    /// The kinds of kubelet.
    pub kubelets: Vec<KubeletKind>,
    /// The numbers of containers on the node.
    pub containers: Vec<u32>,
    /// The time for which the node is measured with scrapes, and the same without.
    pub duration: Duration,
    /// The number of measurements of each, in turns.
    pub rounds: u32,
}

/// The cost with one kind of kubelet and a number of containers.
#[derive(Clone, Debug)]
struct Cost {
    kubelet: KubeletKind,
    containers: u32,
    bytes: usize,
    /// CPU per scrape in milliseconds: of the kubelet, and of containerd with its shims.
    kubelet_ms: f64,
    containerd_ms: f64,
    /// The time until the response, in milliseconds.
    latency_ms: f64,
}

/// The costs as a table.
#[derive(Clone, Debug, Default)]
pub struct KubeletCosts(Vec<Cost>);

impl fmt::Display for KubeletCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| kubelet | containers | response, kB | kubelet CPU per scrape, ms | containerd and shims, ms | millicores at 15 s | \
             response after, ms |\n|---|---:|---:|---:|---:|---:|---:|"
        )?;
        for cost in &self.0 {
            let bytes = u32::try_from(cost.bytes).unwrap_or(u32::MAX);
            let millicores = (cost.kubelet_ms + cost.containerd_ms) / 15.0;
            writeln!(
                f,
                "| {} | {} | {:.0} | {:.1} | {:.1} | {millicores:.2} | {:.0} |",
                cost.kubelet,
                cost.containers,
                f64::from(bytes) / 1e3,
                cost.kubelet_ms,
                cost.containerd_ms,
                cost.latency_ms
            )?;
        }
        Ok(())
    }
}

/// Measures on a cluster that is otherwise idle.
///
/// # Errors
/// If the pods do not run in time, or the kubelet does not respond.
pub fn run(cluster: &Cluster, plan: &KubeletCostPlan, progress: &Progress) -> Result<KubeletCosts> {
    let client = cluster.client();
    cluster.load(&images::busybox()?)?;
    client.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string(),
    )?;
    let mut costs = KubeletCosts::default();
    for containers in &plan.containers {
        let pods = containers.div_ceil(CONTAINERS_PER_POD);
        client.apply(&deployment(pods).to_string())?;
        progress.step(&format!("{containers} containers run"), |step| {
            client.wait_for("all pods run", Duration::from_secs(600), |client| {
                let deployment = client.get(&["-n", NAMESPACE, "deployment", "idle"])?;
                let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or_default();
                step.note(format!("{ready} of {pods} pods"));
                if ready == u64::from(pods) { Ok(()) } else { Err(format!("{ready} of {pods}").into()) }
            })
        })?;
        for kubelet in &plan.kubelets {
            cluster.restart_kubelet_as(*kubelet, &progress.clone().quiet())?;
            thread::sleep(SECOND_SAMPLE);
            let cost = measure(cluster, plan, *kubelet, pods * CONTAINERS_PER_POD)?;
            progress.say(format!("{cost:?}"));
            costs.0.push(cost);
        }
    }
    Ok(costs)
}

fn deployment(pods: u32) -> Value {
    let containers: Vec<_> = (0..CONTAINERS_PER_POD)
        .map(|number| {
            json!({
                "name": format!("c{number}"), "image": BUSYBOX, "imagePullPolicy": "Never",
                "command": ["/bin/sleep", "2147483647"],
                "resources": {"requests": {"cpu": "1m", "memory": "2Mi"}},
            })
        })
        .collect();
    let labels = json!({"app": "idle"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "idle", "namespace": NAMESPACE},
        "spec": {"replicas": pods, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": containers}}},
    })
}

/// The CPU of the node's programs.
#[derive(Clone, Copy, Default)]
struct NodeCpu {
    kubelet: Duration,
    containerd: Duration,
}

fn node_cpu(cluster: &Cluster) -> Result<NodeCpu> {
    let status = cluster.status();
    let pid = |name: &str| {
        let found = status.components.iter().find(|(known, _)| *known == name).and_then(|(_, pid)| *pid);
        let pid = found.and_then(|pid| u32::try_from(pid).ok());
        pid.ok_or_else(|| Error::Invalid(format!("{name} does not run")))
    };
    let (kubelet, containerd) = (pid("kubelet")?, pid("containerd")?);
    let shims: Duration = shims(cluster)?.into_iter().map(usage::cpu_of_threads).sum();
    Ok(NodeCpu { kubelet: usage::cpu(kubelet), containerd: usage::cpu(containerd) + shims })
}

/// Returns the pids of the shims: their command line has the address of the cluster's containerd.
fn shims(cluster: &Cluster) -> Result<Vec<u32>> {
    let socket = cluster.node().containerd_socket();
    let socket = socket.to_string_lossy();
    let entries = fs::read_dir("/proc").doing(|| "read /proc".into())?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_shim = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("containerd-shim") && line.contains(&*socket)
    };
    Ok(pids.filter(is_shim).collect())
}

fn measure(cluster: &Cluster, plan: &KubeletCostPlan, kubelet: KubeletKind, containers: u32) -> Result<Cost> {
    let admin = Subject::user("kubelet-cost", Some("system:masters"));
    let identity = cluster.cluster_authority()?.issue(&admin)?;
    let url = format!("https://{}:10250/metrics/resource", cluster.node().address);
    let request = Request::get(url).identity(&identity);
    let (mut quiet, mut busy) = (NodeCpu::default(), NodeCpu::default());
    let (mut scrapes, mut latency, mut bytes) = (0u32, Duration::ZERO, 0);
    for _ in 0..plan.rounds {
        let before = node_cpu(cluster)?;
        thread::sleep(plan.duration);
        quiet.add(before, node_cpu(cluster)?);
        let before = node_cpu(cluster)?;
        let began = Instant::now();
        let mut next = began;
        while began.elapsed() < plan.duration {
            let response = cluster.send(&request)?.ok()?;
            (scrapes, latency, bytes) = (scrapes + 1, latency + response.took, response.body.len());
            next += SCRAPES;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        busy.add(before, node_cpu(cluster)?);
    }
    let per_scrape = |busy: Duration, quiet: Duration| {
        (busy.as_secs_f64() - quiet.as_secs_f64()) * 1e3 / f64::from(scrapes)
    };
    Ok(Cost {
        kubelet,
        containers,
        bytes,
        kubelet_ms: per_scrape(busy.kubelet, quiet.kubelet),
        containerd_ms: per_scrape(busy.containerd, quiet.containerd),
        latency_ms: latency.as_secs_f64() * 1e3 / f64::from(scrapes),
    })
}

impl NodeCpu {
    fn add(&mut self, before: Self, after: Self) {
        self.kubelet += after.kubelet.saturating_sub(before.kubelet);
        self.containerd += after.containerd.saturating_sub(before.containerd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_cost_per_interval() {
        let cost = Cost {
            kubelet: KubeletKind::OnDemand,
            containers: 60,
            bytes: 46_000,
            kubelet_ms: 10.0,
            containerd_ms: 5.0,
            latency_ms: 20.0,
        };
        let text = KubeletCosts(vec![cost]).to_string();
        assert!(text.ends_with("| on-demand | 60 | 46 | 10.0 | 5.0 | 1.00 | 20 |\n"), "{text}");
    }
}
