//! Whether lists of pods fail during an upgrade of the chart, a rollback and another upgrade.
//!
//! A client lists all pods through kube-apiserver ten times a second. In each step the operator is killed as soon as it has
//! changed metrics-core, so that another one completes the rollout.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::completeness::lister::{Limits, Lister};
use crate::command;
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::cluster::Cluster;
use crate::testbed::kubectl::Client;
use crate::testbed::{binaries, pipeline};

/// The namespace of the workloads.
const LOAD: &str = "load";
/// The timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(240);
/// The time after each step in which the lists continue.
const PAUSE: Duration = Duration::from_secs(5);
/// Any usage: the values are not the subject here.
const ANY: Limits = Limits { nanocores: u64::MAX, bytes: u64::MAX };

/// A version of the chart with its values. Its images are loaded.
#[derive(Clone, Debug)]
pub struct Release {
    /// What it is, for the table.
    pub title: String,
    /// The directory of the chart.
    pub chart: PathBuf,
    /// Helm's arguments for the values.
    pub values: Vec<String>,
    /// A field of the Deployment of metrics-core, as JSON pointer, and the value that this version gives it.
    pub shown_by: (&'static str, Value),
}

/// The results as a table.
#[derive(Clone, Debug, Default)]
pub struct Upgrades {
    rows: Vec<[String; 4]>,
    /// A line for each list that failed.
    pub failed: Vec<String>,
}

impl fmt::Display for Upgrades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| step | lists | failed | seconds until settled |\n|---|---:|---:|---:|")?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for line in &self.failed {
            writeln!(f, "\n{line}")?;
        }
        Ok(())
    }
}

/// Installs `from`, upgrades to `to`, rolls back, and upgrades again. `manifest` is applied after the installation, if `from` does
/// not create a MetricsPipeline.
///
/// # Errors
/// If the pipeline does not become Ready in time after a step.
pub fn run(
    cluster: &Cluster,
    from: &Release,
    to: &Release,
    manifest: Option<&str>,
    progress: &Progress,
) -> Result<Upgrades> {
    let client = cluster.client();
    let helm = binaries::helm(progress)?;
    let upgrade = |release: &Release| {
        let mut upgrade = client.command(&helm);
        upgrade.args(["upgrade", "--install", "metrics-pipeline"]).arg(&release.chart);
        upgrade.args(["--namespace", pipeline::NAMESPACE, "--create-namespace", "--timeout", "3m"]);
        command::output(upgrade.args(&release.values))
    };
    let rollback = || {
        let mut rollback = client.command(&helm);
        let arguments = ["--namespace", pipeline::NAMESPACE, "--timeout", "3m"];
        command::output(rollback.args(["rollback", "metrics-pipeline"]).args(arguments))
    };
    progress.step(&format!("{} is installed and Ready", from.title), |_| {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}});
        client.apply(&namespace.to_string())?;
        client.apply(&pipeline::idle_deployment(LOAD))?;
        upgrade(from)?;
        if let Some(manifest) = manifest {
            client.apply(manifest)?;
        }
        settled(&client, from)
    })?;
    let mut found = Upgrades::default();
    let lister = Lister::start(cluster, ANY)?;
    std::thread::sleep(PAUSE);
    lister.take();
    let steps = [
        (format!("upgrade to {}", to.title), to),
        (format!("rollback to {}", from.title), from),
        (format!("upgrade to {} again", to.title), to),
    ];
    for (number, (title, release)) in steps.into_iter().enumerate() {
        let began = Instant::now();
        if number == 1 {
            rollback()?
        } else {
            upgrade(release)?
        };
        client.wait_for("the operator has changed metrics-core", TIMEOUT, |client| {
            let deployment = deployment(client)?;
            if shows(&deployment, release) { Ok(()) } else { Err(deployment["spec"].to_string().into()) }
        })?;
        kill_operators(&client)?;
        settled(&client, release)?;
        let seconds = began.elapsed().as_secs_f64();
        progress.say(format!("{title}: settled after {seconds:.0} s"));
        std::thread::sleep(PAUSE);
        let seen = lister.take();
        found.failed.extend(seen.failed.iter().map(|line| format!("{title}: {line}")));
        let counts = [seen.lists as usize, seen.failed.len()].map(|count| count.to_string());
        let [lists, failed] = counts;
        found.rows.push([title, lists, failed, format!("{seconds:.0}")]);
    }
    lister.stop()?;
    Ok(found)
}

fn deployment(client: &Client) -> Result<Value> {
    client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])
}

fn shows(deployment: &Value, release: &Release) -> bool {
    let (pointer, value) = &release.shown_by;
    deployment.pointer(pointer) == Some(value)
}

/// Kills the operators as a crash of their node would.
fn kill_operators(client: &Client) -> Result<()> {
    let selector = "app.kubernetes.io/name=metrics-pipeline-operator";
    let delete = ["delete", "pods", "-l", selector, "--grace-period=0", "--force", "--wait=false"];
    client.run(&[&["-n", pipeline::NAMESPACE][..], &delete].concat())?;
    Ok(())
}

/// Waits until the MetricsPipeline is Ready with its current generation, and all replicas of metrics-core are those of the
/// release.
fn settled(client: &Client, release: &Release) -> Result<()> {
    client.wait_for(&format!("{} is rolled out", release.title), TIMEOUT, |client| {
        let object = client.get(&["metricspipelines", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let rows = pipeline::conditions(&object);
        let ready = rows.iter().find(|[kind, ..]| kind == "Ready");
        if !current || ready.is_none_or(|[_, status, ..]| status != "True") {
            return Err(format!("{ready:?}").into());
        }
        let deployment = deployment(client)?;
        if shows(&deployment, release) && is_rolled_out(&deployment) {
            Ok(())
        } else {
            Err(deployment["status"].to_string().into())
        }
    })
}

fn is_rolled_out(deployment: &Value) -> bool {
    let (status, wanted) = (&deployment["status"], &deployment["spec"]["replicas"]);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "readyReplicas"].iter().all(|field| status[field] == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_with_old_replicas_or_an_old_status_is_not_rolled_out() {
        let deployment = |observed: u8, replicas: u8, updated: u8| {
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": 2}})
        };
        assert!(is_rolled_out(&deployment(2, 2, 2)));
        assert!(!is_rolled_out(&deployment(1, 2, 2)));
        assert!(!is_rolled_out(&deployment(2, 3, 2)));
        assert!(!is_rolled_out(&deployment(2, 2, 1)));
    }

    #[test]
    fn prints_a_row_for_each_step_and_the_failed_lists() {
        let row = ["upgrade", "900", "1", "40"].map(str::to_owned);
        let found = Upgrades { rows: vec![row], failed: vec!["upgrade: after 3.0 s: 503".into()] };
        let text = found.to_string();
        assert!(text.contains("| upgrade | 900 | 1 | 40 |") && text.contains("after 3.0 s: 503"), "{text}");
    }
}
