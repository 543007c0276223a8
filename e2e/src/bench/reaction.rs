//! The time until a HorizontalPodAutoscaler reacts to a load, with metrics-core and with metrics-server.
//!
//! Both run as processes in the cluster's network, one after the other, with the same kubelet and the same
//! controllers at their usual intervals. An idle pod starts to use a whole core; the time ends when the autoscaler
//! wants more replicas.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::servers::{self, Server};
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::Cluster;
use crate::testbed::images::{self, BUSYBOX};
use crate::testbed::kubectl::Client;
use crate::wait::Pending;

const NAMESPACE: &str = "reaction";
const NAME: &str = "step";
/// The sync period of the autoscaler's controller; most kubelets sample at the same interval.
const PERIOD: Duration = Duration::from_secs(15);
/// The timeout of each wait.
const TIMEOUT: Duration = Duration::from_secs(180);

/// One server with one scrape interval.
#[derive(Clone, Debug)]
pub struct Case {
    /// The server and its scrape interval, for the table.
    pub name: String,
    /// Seconds from the load to the scaling decision, one for each step.
    pub seconds: Vec<f64>,
}

/// The measured times.
#[derive(Clone, Debug, Default)]
pub struct ReactionTimes(pub Vec<Case>);

impl fmt::Display for ReactionTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| seconds from the load to the scaling decision | steps | min | median | max |")?;
        writeln!(f, "|---|---:|---:|---:|---:|")?;
        for case in &self.0 {
            let mut seconds = case.seconds.clone();
            seconds.sort_by(f64::total_cmp);
            let middle = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
            let least = seconds.first().copied().unwrap_or(f64::NAN);
            let most = seconds.last().copied().unwrap_or(f64::NAN);
            writeln!(f, "| {} | {} | {least:.1} | {middle:.1} | {most:.1} |", case.name, seconds.len())?;
        }
        Ok(())
    }
}

/// Measures `steps` times with each server, on a cluster that is otherwise idle.
///
/// # Errors
/// If a step does not complete in time.
pub fn run(cluster: &Cluster, steps: u32, progress: &Progress) -> Result<ReactionTimes> {
    let metrics_core = servers::metrics_core(progress)?;
    let metrics_server = binaries::metrics_server(progress)?;
    let client = cluster.client();
    progress.step("an idle pod and its autoscaler created", |_| {
        cluster.load(&images::busybox()?)?;
        client.apply(&workload())
    })?;
    let mut report = ReactionTimes::default();
    for (program, port, resolution) in
        [(&metrics_core, 4443, "5s"), (&metrics_server, 4444, "15s"), (&metrics_core, 4445, "15s")]
    {
        let address = SocketAddr::from((cluster.node().address, port));
        let directory = cluster.layout().data.join(format!("reaction-{port}"));
        fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        let server = Server::start(cluster, &directory, program, address, resolution)?;
        client.apply(&registration(address))?;
        let program = program.file_name().map_or(program.as_path(), Path::new);
        let mut case = Case { name: format!("{}, {resolution}", program.display()), seconds: Vec::new() };
        for step in 0..steps {
            let seconds = progress.step(&format!("{}: step {}", case.name, step + 1), |shown| {
                let seconds = one(&client, step)?;
                shown.note(format!("{seconds:.1} s"));
                Ok::<_, Error>(seconds)
            })?;
            progress.say(format!("{}: {seconds:.1} s", case.name));
            case.seconds.push(seconds);
        }
        drop(server);
        report.0.push(case);
    }
    Ok(report)
}

/// Measures one step, from an idle pod to the scaling decision.
fn one(client: &Client, step: u32) -> Result<f64> {
    // Each step has a new pod.
    client.run(&["-n", NAMESPACE, "scale", "deployment", NAME, "--replicas=1"])?;
    client.run(&["-n", NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0"])?;
    let pod = client.wait_for("the autoscaler sees one idle pod", TIMEOUT, |client| {
        let pods = client.get(&["-n", NAMESPACE, "pods"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let [pod] = pods.as_slice() else { return Err(Pending(format!("{} pods", pods.len()))) };
        let hpa = client.get(&["-n", NAMESPACE, "hpa", NAME])?;
        let seen = &hpa["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
        let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
        match (seen.as_u64(), hpa["status"]["desiredReplicas"].as_u64(), ready) {
            (Some(0..5), Some(1), true) => {
                Ok(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            }
            _ => Err(Pending(hpa["status"].to_string())),
        }
    })?;
    // The pod must have had a rate for a whole period. Then the golden ratio spreads the starts
    // of the steps over the period.
    thread::sleep(PERIOD + PERIOD.mul_f64((f64::from(step) * 0.618_034).fract()));
    client.run(&["-n", NAMESPACE, "exec", &pod, "--", "touch", "/tmp/load"])?;
    let begun = Instant::now();
    client.wait_for("the autoscaler wants two replicas", TIMEOUT, |client| {
        let hpa = client.get(&["-n", NAMESPACE, "hpa", NAME])?;
        match hpa["status"]["desiredReplicas"].as_u64() {
            Some(2..) => Ok(begun.elapsed().as_secs_f64()),
            _ => Err(Pending(hpa["status"].to_string())),
        }
    })
}

/// Returns a Deployment of one pod that idles until a file exists, and its autoscaler.
fn workload() -> String {
    let container = json!({
        "name": NAME,
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "until [ -e /tmp/load ]; do sleep 0.1; done; while :; do :; done"],
        "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "400m"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    let labels = json!({"app": NAME});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "namespace": NAMESPACE},
             "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container],
                         "volumes": [{"name": "tmp", "emptyDir": {}}]}}}},
            {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
             "metadata": {"name": NAME, "namespace": NAMESPACE},
             "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
                "minReplicas": 1, "maxReplicas": 2,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}},
        ],
    })
    .to_string()
}

/// Returns an APIService of the Metrics API whose backend is the server at `address`.
fn registration(address: SocketAddr) -> String {
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
             "spec": {"ports": [{"port": 443, "targetPort": address.port()}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
             "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
             "addressType": "IPv4",
             "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
             "ports": [{"port": address.port(), "protocol": "TCP"}]},
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
             "metadata": {"name": "v1beta1.metrics.k8s.io"},
             "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": metadata, "insecureSkipTLSVerify": true}},
        ],
    })
    .to_string()
}
