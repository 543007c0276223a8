//! metrics-core is resized with the cluster, without failed requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::suite::{Suite, TestEnv, failed};
use e2e::testbed::pipeline;
use e2e::{Client, Result, check};
use serde_json::{Value, json};

use super::{MINUTE, TIMEOUT, condition, metrics_core, metrics_core_pods, operator, patch_spec, ready};

mod in_place;
mod older;
mod rollouts;

/// `spec.nanny.scaleUpDelay` and `scaleDownDelay` in this group.
const UP: Duration = Duration::from_secs(5);
const DOWN: Duration = Duration::from_secs(20);
/// Pods have their new size within this time after a delay.
const PROMPT: Duration = Duration::from_secs(10);
/// The number of nodes that are added and removed.
const NODES: usize = 20;
/// Memory for one node and for 21 by the group's formula: 40Mi + 4Mi × 5, and × 22.
const SMALL: &str = "60Mi";
const LARGE: &str = "128Mi";

pub(super) fn add(suite: &mut Suite, prepare: fn(&TestEnv) -> Result<()>) {
    let group = suite.group_with("nanny", Vec::new(), Some(prepare));
    in_place::add(suite, &group);
    let group = suite.group_with("nanny-rollout", Vec::new(), Some(prepare));
    rollouts::add(suite, &group);
    older::add(suite, prepare);
}

/// The spec of the group's MetricsPipeline, with short delays.
pub(super) fn spec() -> Value {
    json!({"nanny": {
        "estimator": "Exponential", "cpu": "40m", "extraCpu": "0.5m", "memory": "40Mi", "extraMemory": "4Mi",
        "minClusterSize": 5, "scaleUpDelay": "5s", "scaleDownDelay": "20s",
    }})
}

/// Nodes without a kubelet, on which no pod is scheduled.
fn add_nodes(client: &Client) -> Result<()> {
    let nodes: Vec<_> = (0..NODES)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("fake-{number}"), "labels": {"fake": "node"}},
                "spec": {"unschedulable": true, "taints": [{"key": "fake", "effect": "NoSchedule"}]}})
        })
        .collect();
    client.apply(&json!({"apiVersion": "v1", "kind": "List", "items": nodes}).to_string())?;
    Ok(())
}

fn remove_nodes(client: &Client) -> Result<()> {
    client.delete(&["nodes", "-l", "fake=node"])?;
    Ok(())
}

/// Returns the one running pod.
fn pod(client: &Client) -> Result<Value> {
    let [name, _, _] = metrics_core(client)?;
    client.get(&["-n", pipeline::NAMESPACE, "pod", &name])
}

/// Waits until the running pod has this memory in effect; returns the pod and the time.
fn wait_for_memory(client: &Client, memory: &str, timeout: Duration) -> Result<(Value, Duration)> {
    let began = Instant::now();
    let pod = client.wait_for(&format!("metrics-core has {memory}"), timeout, |client| {
        let pod = pod(client)?;
        let (spec, actual) = (&pod["spec"]["containers"][0], &pod["status"]["containerStatuses"][0]);
        let has = |resources: &Value| {
            resources["requests"]["memory"] == memory && resources["limits"]["memory"] == memory
        };
        if has(&spec["resources"]) && has(&actual["resources"]) {
            Ok(pod)
        } else {
            Err(format!("spec {}, actual {}", spec["resources"], actual["resources"]).into())
        }
    })?;
    Ok((pod, began.elapsed()))
}

fn template(client: &Client) -> Result<Value> {
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    Ok(deployment["spec"]["template"].clone())
}

fn check_same_pod(before: &Value, after: &Value) -> Result<()> {
    check!(before["metadata"]["uid"] == after["metadata"]["uid"], "another pod");
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    check!(restarts(after) == 0, "restarted {} times", restarts(after));
    Ok(())
}

/// Runs `work` while `kubectl top pods` runs once a second; every run must succeed.
fn without_failed_requests(env: &TestEnv, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (done, client) = (Arc::new(AtomicBool::new(false)), env.client.clone());
    let over = Arc::clone(&done);
    let requesting = thread::spawn(move || {
        let (mut succeeded, mut failures) = (0_usize, Vec::new());
        // A minimum number of runs: on a busy machine one takes seconds.
        while !over.load(Ordering::Relaxed) || succeeded + failures.len() < 4 {
            match client.run(&["top", "pods", "-A"]) {
                Ok(_) => succeeded += 1,
                Err(error) => failures.push(error.to_string()),
            }
            thread::sleep(Duration::from_secs(1));
        }
        (succeeded, failures)
    });
    let result = work();
    done.store(true, Ordering::Relaxed);
    let (succeeded, failures) =
        requesting.join().map_err(|_| failed("the requesting thread panicked".into()))?;
    result?;
    check!(
        failures.is_empty(),
        "{} of {} requests failed: {failures:?}",
        failures.len(),
        succeeded + failures.len()
    );
    env.progress.say(format!("kubectl top succeeded {succeeded} times without a failure"));
    Ok(())
}

/// Restores one node, the small size and the spec of the group.
fn settle(client: &Client) -> Result<()> {
    remove_nodes(client)?;
    let whole = json!([{"op": "replace", "path": "/spec", "value": spec()}]).to_string();
    client.run(&["patch", "mpl", pipeline::NAME, "--type=json", "-p", &whole])?;
    wait_for_memory(client, SMALL, DOWN * 3 + PROMPT)?;
    ready(client)?;
    only_pod(client, TIMEOUT, |_| true).map(drop)
}

/// Waits until there is exactly one pod of metrics-core, ready and with the desired size.
fn only_pod(client: &Client, timeout: Duration, is_right: impl Fn(&Value) -> bool) -> Result<Value> {
    client.wait_for("one pod of metrics-core is left, as it should be", timeout, |client| {
        let pods = metrics_core_pods(client)?;
        match pods.as_slice() {
            [pod]
                if condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
                    && is_right(pod) =>
            {
                Ok(pod.clone())
            }
            pods => {
                let seen = |pod: &Value| {
                    format!("{} {} {}", pod["metadata"]["name"], pod["status"]["phase"], resources(pod))
                };
                Err(pods.iter().map(seen).collect::<Vec<_>>().join("; ").into())
            }
        }
    })
}

/// Returns the resources of a pod's container.
fn resources(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["resources"]
}

/// Returns the messages of the events with a reason.
fn events(client: &Client, reason: &str) -> Result<Vec<String>> {
    let selector = format!("reason={reason}");
    let events = client.get(&["events", "-A", "--field-selector", &selector])?;
    let say = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    Ok(events["items"].as_array().into_iter().flatten().map(say).collect())
}

/// Returns how often the Deployment's template has changed.
fn revision(client: &Client) -> Result<i64> {
    let deployment = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    let revision = deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
    Ok(revision.and_then(|revision| revision.parse().ok()).unwrap_or(0))
}

/// Waits until a condition has a status and a reason; returns its message.
fn await_condition(
    client: &Client,
    kind: &str,
    status: &str,
    reason: &str,
    timeout: Duration,
) -> Result<String> {
    client.wait_for(&format!("{kind} is {status} {reason}"), timeout, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let found = condition(&object, kind).cloned().unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            return Ok(found["message"].as_str().unwrap_or_default().to_owned());
        }
        Err(found.to_string().into())
    })
}

/// Returns the method by which the size was last applied.
fn applied(client: &Client) -> Result<Value> {
    Ok(client.get(&["mpl", pipeline::NAME])?["status"]["nanny"]["applied"].clone())
}

/// Waits until metrics are served by the current spec. The pipeline is not Ready: most nodes are fake and have no
/// metrics.
fn is_served(client: &Client) -> Result<()> {
    client.wait_for("metrics are served", TIMEOUT, |client| {
        let object = client.get(&["mpl", pipeline::NAME])?;
        let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let holds = |kind| condition(&object, kind).is_some_and(|condition| condition["status"] == "True");
        if current && holds("DeploymentAvailable") && holds("MetricsServed") {
            return Ok(());
        }
        Err(object["status"].to_string().into())
    })
}
