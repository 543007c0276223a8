//! The pipeline as users have it: installed with Helm, one MetricsPipeline, workloads to measure.

mod access;
mod admission;
mod answers;
mod approval;
mod autoscaling;
mod bindings;
mod cert_manager;
mod chart;
mod clients;
mod front_proxy;
mod hooks;
mod kube_rs;
mod kubelets;
mod lifecycle;
mod nanny;
mod quiet;
mod recovery;
mod rotation;
mod validation;
mod watch;

use std::time::Duration;

use e2e::suite::{Needs, Suite, TestEnv};
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::{binaries, images, pipeline};
use e2e::{Client, Result};
use serde_json::{Value, json};

use crate::workloads;

/// The namespace of the workloads that the scenarios measure.
const LOAD: &str = "load";
/// The selector of metrics-core's pods.
const METRICS_CORE_PODS: &str = "app.kubernetes.io/name=metrics-core";
/// The selector of the operator's pods.
const OPERATORS_PODS: &str = "app.kubernetes.io/name=metrics-pipeline-operator";
const MINUTE: Duration = Duration::from_secs(60);
/// The timeout until the pipeline is Ready again after any change, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn add(suite: &mut Suite) {
    // One cluster that no scenario disturbs…
    let calm = suite.group_with("pipeline", KubeletKind::Cached, Vec::new(), Some(prepare_busy));
    suite.add(
        &calm,
        "settled_operator_sends_no_writes",
        Needs::OurCluster,
        quiet::settled_operator_sends_no_writes,
    );
    answers::add(suite, &calm);
    autoscaling::add(suite, &calm);
    clients::add(suite, &calm);
    watch::add(suite, &calm);
    validation::add(suite, &calm);
    chart::add(suite, &calm);
    admission::add(suite, &calm);
    workloads::add_cached(suite, &calm);
    // …one in which components are killed…
    let rough = suite.group_with("recovery", KubeletKind::Cached, Vec::new(), Some(prepare));
    // A condition reports forged credentials, so this is not for the calm cluster.
    access::add(suite, &rough);
    validation::add_second(suite, &rough);
    recovery::add(suite, &rough);
    bindings::add(suite, &rough);
    watch::add_rough(suite, &rough);
    lifecycle::add(suite, &rough);
    rotation::add(suite);
    cert_manager::add(suite);
    front_proxy::add(suite);
    hooks::add(suite);
    kubelets::add(suite);
    approval::add(suite);
    // …and those whose size changes.
    nanny::add(suite, prepare_sized);
}

/// Does the same with a nanny that has short delays.
fn prepare_sized(env: &TestEnv) -> Result<()> {
    // Some scenarios use the node's network.
    let values = ["admissionPolicy.hostNetwork=true"];
    install(env, &values, &nanny::spec(), &pipeline::idle_deployment(LOAD))
}

/// Installs the pipeline and waits until it is Ready.
fn prepare(env: &TestEnv) -> Result<()> {
    install(env, &[], &json!({}), &pipeline::idle_deployment(LOAD))
}

/// Does the same with a workload to scale, and with watch.
fn prepare_busy(env: &TestEnv) -> Result<()> {
    install(env, &[], &json!({"metricsCore": {"watch": "Enabled"}}), &pipeline::busy_deployment(LOAD))
}

fn install(env: &TestEnv, values: &[&str], spec: &Value, load: &str) -> Result<()> {
    let cluster = env.own_cluster()?;
    let built = images::for_scenarios(&env.progress)?;
    let helm = binaries::helm(&env.progress)?;
    pipeline::load(cluster, &built)?;
    pipeline::install_with(&env.client, &helm, &built, values)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}});
    env.client.apply(&namespace.to_string())?;
    env.client.apply(load)?;
    env.client.apply(&pipeline::manifest(pipeline::NAME, spec))?;
    ready(&env.client)
}

/// Waits until the MetricsPipeline is Ready with its current generation.
fn ready(client: &Client) -> Result<()> {
    client.wait_for("the MetricsPipeline is Ready", TIMEOUT, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        match condition(&object, "Ready") {
            Some(ready) if ready["status"] == "True" && current => Ok(()),
            _ => Err(object["status"].to_string().into()),
        }
    })
}

/// Returns a condition of an object.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Returns all pods of metrics-core in any state.
fn metrics_core_pods(client: &Client) -> Result<Vec<Value>> {
    let pods = client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", METRICS_CORE_PODS])?;
    Ok(pods["items"].as_array().cloned().unwrap_or_default())
}

/// Merges into the spec of the MetricsPipeline.
#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn patch_spec(client: &Client, spec: Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Returns the running pod of metrics-core: its name, address and UID.
fn metrics_core(client: &Client) -> Result<[String; 3]> {
    running_pod(client, METRICS_CORE_PODS)
}

/// Returns the running pod of the operator: its name, address and UID.
fn operator(client: &Client) -> Result<[String; 3]> {
    running_pod(client, OPERATORS_PODS)
}

fn running_pod(client: &Client, selector: &str) -> Result<[String; 3]> {
    client.wait_for(&format!("a running pod with {selector}"), MINUTE, |client| {
        let pods = client.get(&["-n", pipeline::NAMESPACE, "pods", "-l", selector])?;
        let running = pods["items"].as_array().into_iter().flatten().find(|pod| {
            pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        running
            .map(|pod| [&pod["metadata"]["name"], &pod["status"]["podIP"], &pod["metadata"]["uid"]].map(text))
            .filter(|[_, address, _]| !address.is_empty())
            .ok_or_else(|| {
                format!("{} pods, none running", pods["items"].as_array().map_or(0, Vec::len)).into()
            })
    })
}
