//! Whether every pod has its metrics, and true ones, while replicas of metrics-core are replaced and containers restart.
//!
//! The pipeline is installed on a real cluster. A client lists all pods through kube-apiserver ten times a second. A list
//! is incomplete if it lacks a pod that ran for a minute.

mod disruptions;
mod lister;
mod restarts;
mod starts;

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

pub use self::disruptions::Disruption;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::cluster::{Cluster, KubeletKind};
use crate::testbed::kubectl::Client;
use crate::testbed::{binaries, images, pipeline};

/// The namespace of the workloads.
const LOAD: &str = "load";
/// The selector of metrics-core's pods.
const METRICS_CORE_PODS: &str = "app.kubernetes.io/name=metrics-core";
/// The timeout until the pipeline is Ready after any change.
const READY: Duration = Duration::from_secs(240);

/// What is measured.
#[derive(Clone, Debug)]
pub struct CompletenessPlan {
    /// Number of disruptions of each kind, with two replicas.
    pub disruptions: u32,
    /// Number of starts of an only replica.
    pub starts: u32,
    /// Number of restarts of containers that use CPU.
    pub restarts: u32,
}

/// The results as a table.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    rows: Vec<[String; 5]>,
    /// What must not happen; empty if there was nothing.
    pub problems: Vec<String>,
}

impl fmt::Display for Completeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| while | lists | incomplete | failed | result |\n|---|---:|---:|---:|---|")?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for problem in &self.problems {
            writeln!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl Completeness {
    /// Adds what a client has seen meanwhile.
    fn add(&mut self, title: &str, seen: &lister::Seen, result: String) {
        let [lists, incomplete, failed] =
            [seen.lists as usize, seen.incomplete.len(), seen.failed.len()].map(|count| count.to_string());
        self.rows.push([title.to_owned(), lists, incomplete, failed, result]);
    }

    /// Adds the lists that lack a pod to the problems.
    fn require_complete(&mut self, title: &str, seen: &lister::Seen) {
        let lines = seen.incomplete.iter().take(5).map(|line| format!("{title}: incomplete: {line}"));
        self.problems.extend(lines);
    }
}

/// Installs the pipeline and measures.
///
/// # Errors
/// If the pipeline does not become Ready in time.
pub fn run(cluster: &Cluster, plan: &CompletenessPlan, progress: &Progress) -> Result<Completeness> {
    let client = cluster.client();
    progress.step("the pipeline is installed and Ready", |_| install(cluster, progress))?;
    let mut found = Completeness::default();
    if plan.disruptions > 0 {
        disruptions::measure(cluster, plan.disruptions, &mut found, progress)?;
    }
    if plan.starts > 0 || plan.restarts > 0 {
        replicas(&client, 1)?;
    }
    if plan.starts > 0 {
        for kubelet in [KubeletKind::Cached, KubeletKind::OnDemand] {
            cluster.restart_kubelet_as(kubelet, &progress.clone().quiet())?;
            starts::measure(cluster, plan.starts, &mut found, progress)?;
        }
        cluster.restart_kubelet_as(KubeletKind::Cached, &progress.clone().quiet())?;
    }
    if plan.restarts > 0 {
        restarts::measure(cluster, plan.restarts, &mut found, progress)?;
    }
    Ok(found)
}

fn install(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let (built, helm) = (images::for_scenarios(progress)?, binaries::helm(progress)?);
    let client = cluster.client();
    cluster.load(&images::busybox()?)?;
    pipeline::load(cluster, &built)?;
    pipeline::install(&client, &helm, &built)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}});
    client.apply(&namespace.to_string())?;
    client.apply(&pipeline::idle_deployment(LOAD))?;
    client.run(&["-n", LOAD, "scale", "deployment", "idle", "--replicas=8"])?;
    client.apply(&pipeline::busy_deployment(LOAD))?;
    client.apply(&pipeline::manifest(pipeline::NAME, &json!({"metricsCore": {"replicas": 2}})))?;
    ready(&client)
}

/// Sets the number of replicas and waits until they serve.
fn replicas(client: &Client, count: u32) -> Result<()> {
    let patch = json!({"spec": {"metricsCore": {"replicas": count}}}).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch])?;
    ready(client)?;
    serving(client, count).map(drop)
}

/// Waits until the MetricsPipeline is Ready with its current generation.
fn ready(client: &Client) -> Result<()> {
    client.wait_for("the MetricsPipeline is Ready", READY, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let rows = pipeline::conditions(&object);
        match rows.iter().find(|[kind, ..]| kind == "Ready") {
            Some([_, status, ..]) if status == "True" && current => Ok(()),
            row => Err(format!("{row:?}").into()),
        }
    })
}

/// Waits until exactly `count` pods of metrics-core exist and all are ready; returns their names, sorted.
fn serving(client: &Client, count: u32) -> Result<Vec<String>> {
    client.wait_for(&format!("{count} pods of metrics-core serve"), READY, |client| {
        let pods = client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", METRICS_CORE_PODS])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
            pod["metadata"]["deletionTimestamp"].is_null()
                && ready.any(|condition| condition["status"] == "True")
        };
        if pods.len() != count as usize || !pods.iter().all(is_ready) {
            return Err(format!("{} pods", pods.len()).into());
        }
        let mut names: Vec<_> =
            pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        Ok(names)
    })
}

/// Returns the first of the names.
fn first(names: &[String]) -> Result<&str> {
    names.first().map(String::as_str).ok_or_else(|| Error::Invalid("no pod of metrics-core".into()))
}

/// Returns "median … s, worst … s" of seconds.
fn summary(seconds: &[f64]) -> String {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let worst = sorted.last().copied().unwrap_or(f64::NAN);
    format!("median {median:.1} s, worst {worst:.1} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_row_for_each_measurement_and_the_incomplete_lists() {
        let seen = lister::Seen {
            lists: 1200,
            incomplete: vec!["after 3.0 s: load/idle-1".into()],
            failed: vec!["503".into()],
            implausible: Vec::new(),
        };
        let mut found = Completeness::default();
        found.add("20 rollouts", &seen, summary(&[3.0, 1.0, 2.0]));
        found.require_complete("20 rollouts", &seen);
        let text = found.to_string();
        assert!(text.contains("| 20 rollouts | 1200 | 1 | 1 | median 2.0 s, worst 3.0 s |"), "{text}");
        assert!(text.contains("20 rollouts: incomplete: after 3.0 s: load/idle-1"), "{text}");
    }
}
