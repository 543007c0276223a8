//! The pipeline as users have it: installed with Helm, one MetricsPipeline, something to measure.

mod access;
mod answers;
mod approval;
mod autoscaling;
mod bindings;
mod cert_manager;
mod chart;
mod clients;
mod front_proxy;
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

use e2e::scenario::{Needs, Stand, Suite};
use e2e::{Client, Result, binaries, images, pipeline};
use serde_json::{Value, json};

/// Where the load stands that the scenarios measure.
const LOAD: &str = "load";
/// A selector of the operator's pods.
const OPERATORS_PODS: &str = "app.kubernetes.io/name=metrics-pipeline-operator";
const MINUTE: Duration = Duration::from_secs(60);
/// How long the pipeline may take to be Ready again after anything, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn add(suite: &mut Suite) {
    // One cluster where all is well and nobody disturbs it…
    let calm = suite.group_with("pipeline", Vec::new(), Some(prepare_busy));
    suite.add(&calm, "a_settled_operator_is_quiet", Needs::OurCluster, quiet::a_settled_operator_is_quiet);
    answers::add(suite, &calm);
    autoscaling::add(suite, &calm);
    clients::add(suite, &calm);
    watch::add(suite, &calm);
    validation::add(suite, &calm);
    chart::add(suite, &calm);
    // …and one where things break.
    let rough = suite.group_with("recovery", Vec::new(), Some(prepare));
    // Forged credentials are told of in a condition, so they are none for the calm cluster.
    access::add(suite, &rough);
    validation::add_second(suite, &rough);
    recovery::add(suite, &rough);
    bindings::add(suite, &rough);
    watch::add_rough(suite, &rough);
    lifecycle::add(suite, &rough);
    rotation::add(suite);
    cert_manager::add(suite);
    front_proxy::add(suite);
    kubelets::add(suite);
    approval::add(suite);
    // …and those whose size changes.
    nanny::add(suite, prepare_sized);
}

/// The same with a nanny that is quick.
fn prepare_sized(stand: &Stand) -> Result<()> {
    install(stand, &nanny::spec(), &pipeline::idle_deployment(LOAD))
}

/// Installs the pipeline and waits until it is Ready.
fn prepare(stand: &Stand) -> Result<()> {
    install(stand, &json!({}), &pipeline::idle_deployment(LOAD))
}

/// The same with something to scale.
fn prepare_busy(stand: &Stand) -> Result<()> {
    install(stand, &json!({}), &pipeline::busy_deployment(LOAD))
}

fn install(stand: &Stand, spec: &Value, load: &str) -> Result<()> {
    let cluster = stand.ours()?;
    let built = images::for_scenarios(&stand.progress)?;
    let helm = binaries::helm(&stand.progress)?;
    pipeline::load(cluster, &built)?;
    pipeline::install(&stand.client, &helm, &built)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LOAD}});
    stand.client.apply(&namespace.to_string())?;
    stand.client.apply(load)?;
    stand.client.apply(&pipeline::manifest(pipeline::NAME, spec))?;
    ready(&stand.client)
}

/// Waits until the MetricsPipeline is Ready as of its present generation.
fn ready(client: &Client) -> Result<()> {
    client.wait_for("the MetricsPipeline is Ready", PATIENCE, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        match condition(&object, "Ready") {
            Some(ready) if ready["status"] == "True" && current => Ok(()),
            _ => Err(object["status"].to_string().into()),
        }
    })
}

/// A condition of an object.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The running pod of metrics-core: its name, address and UID.
fn metrics_core(client: &Client) -> Result<[String; 3]> {
    running_pod(client, "app.kubernetes.io/name=metrics-core")
}

/// The running pod of the operator: its name, address and UID.
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
