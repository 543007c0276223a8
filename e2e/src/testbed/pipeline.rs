//! The pipeline as a user installs it: the chart with Helm, one MetricsPipeline, and workloads to measure.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::command;
use crate::error::{Error, Result};
use crate::testbed::cluster::Cluster;
use crate::testbed::images::{BUSYBOX, ProjectImages};
use crate::testbed::kubectl::Client;

/// The Helm release and its namespace.
pub const NAMESPACE: &str = "metrics-pipeline";
/// The MetricsPipeline that the demo and most scenarios apply.
pub const NAME: &str = "cluster";

/// Returns the directory of the chart in this checkout.
#[must_use]
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/metrics-pipeline")
}

/// Loads the project's images into the cluster's node.
pub fn load(cluster: &Cluster, images: &ProjectImages) -> Result<()> {
    cluster.load(&images.operator)?;
    cluster.load(&images.metrics_core)
}

/// Returns the chart's values for images that no registry has.
#[must_use]
pub fn values(images: &ProjectImages) -> Vec<String> {
    let tag = |reference: &str| reference.rsplit_once(':').map(|(_, tag)| tag.to_owned()).unwrap_or_default();
    [
        format!("image.registry={}", crate::testbed::images::REPOSITORY),
        format!("image.tag={}", tag(&images.operator.reference)),
        format!("metricsCore.image.registry={}", crate::testbed::images::REPOSITORY),
        format!("metricsCore.image.tag={}", tag(&images.metrics_core.reference)),
    ]
    .into_iter()
    .flat_map(|value| ["--set-string".to_owned(), value])
    .collect()
}

/// Runs `helm upgrade --install` and waits until the operator is ready.
pub fn install(client: &Client, helm: &Path, images: &ProjectImages) -> Result<String> {
    install_with(client, helm, images, &[])
}

/// The value without which the chart's hooks create and delete the MetricsPipeline; most scenarios do so themselves.
const NO_HOOKS: &str = "pipeline.create=false";

/// Runs the same with further values, each as `key=value` for `--set`.
pub fn install_with(
    client: &Client,
    helm: &Path,
    images: &ProjectImages,
    further: &[&str],
) -> Result<String> {
    let mut install = client.command(helm);
    install.args(["upgrade", "--install", "metrics-pipeline"]).arg(chart());
    install.args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "2m"]);
    install.args(values(images));
    for value in [NO_HOOKS].iter().chain(further) {
        install.args(["--set", value]);
    }
    command::output(&mut install)
}

/// Returns a MetricsPipeline with this spec.
#[must_use]
pub fn manifest(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "metrics-pipeline.dev/v1alpha1",
        "kind": "MetricsPipeline",
        "metadata": {"name": name},
        "spec": spec,
    })
    .to_string()
}

/// Returns a Deployment whose one container (`busy`) uses all of its limit of 100m, and an HPA on its CPU.
#[must_use]
pub fn busy_deployment(namespace: &str) -> String {
    let container = json!({
        "name": "busy",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", "while :; do :; done"],
        "resources": {"requests": {"cpu": "50m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "16Mi"}},
    });
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            deployment(namespace, 1, &container),
            {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
             "metadata": {"name": "busy", "namespace": namespace},
             "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
             }},
        ],
    })
    .to_string()
}

/// Returns a Deployment of two sleeping pods, for tests that need metrics but no load.
#[must_use]
pub fn idle_deployment(namespace: &str) -> String {
    let container = json!({
        "name": "idle",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["/bin/sleep", "2147483647"],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
    });
    deployment(namespace, 2, &container).to_string()
}

/// Returns a Deployment with the name of its one container.
fn deployment(namespace: &str, replicas: u32, container: &Value) -> Value {
    let name = &container["name"];
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    })
}

/// Returns the CPU that `kubectl top pods --containers` reports for the first container of that name, in millicores.
///
/// # Errors
/// If there is no such line; the error has the output.
pub fn top_millicores(client: &Client, namespace: &str, container: &str) -> Result<u32> {
    let text = client.run(&["top", "pods", "-n", namespace, "--containers", "--no-headers"])?;
    let shown = text.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let name = fields.next()?;
        let cpu = fields.next()?.strip_suffix('m')?;
        (name == container).then(|| cpu.parse().ok())?
    });
    shown.ok_or_else(|| {
        Error::Invalid(format!("kubectl top reports no container {container}: {}", text.trim()))
    })
}

/// Returns the conditions of a MetricsPipeline as a table: type, status, reason, message.
#[must_use]
pub fn conditions(pipeline: &Value) -> Vec<[String; 4]> {
    let field = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    let conditions = pipeline["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .map(|condition| ["type", "status", "reason", "message"].map(|name| field(condition, name)))
        .collect()
}
