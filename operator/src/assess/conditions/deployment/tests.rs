use super::*;
use crate::observe::{Found, Observed};
use crate::plan::MaintainPlan;
use crds::MetricsPipelineSpec;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NO_MEMORY: &str = "0/1 nodes are available: 1 Insufficient memory.";
const NO_PORT: &str =
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

/// A new pod that asks for so much memory and could not be placed for a minute, in the scheduler's words; beside an
/// old one that has 64Mi and was asked to have `asked`.
fn pods(says: &str, asked: &str) -> Vec<Pod> {
    let resources = |memory: &str| json!({ "requests": { "memory": memory } });
    let pod = |name: &str, asked: &str, status: Value| {
        json!({
            "metadata": { "name": name, "uid": name, "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r" }] },
            "spec": { "containers": [{ "name": "metrics-core", "resources": resources(asked) }] },
            "status": status,
        })
    };
    let old = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }], "containerStatuses": [{
        "name": "metrics-core", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "resources": resources("64Mi") }] });
    let new = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "message": says,
        "lastTransitionTime": "2026-01-01T00:09:00Z" }] });
    let both = json!([pod("old", asked, old), pod("new", "128Mi", new)]);
    serde_json::from_value(both).expect("pods")
}

/// What is said while a rollout waits: so many of the replicas that are wanted are available.
fn evaluated(host_network: bool, pods: Vec<Pod>, available: i32, wanted: i32) -> Condition {
    let mut spec = MetricsPipelineSpec::default();
    spec.metrics_core.scheduling.host_network = host_network;
    spec.metrics_core.replicas = wanted;
    let mut observed = Observed { pods, ..Observed::default() };
    let deployment = json!({
        "metadata": { "name": "metrics-core", "generation": 2 },
        "spec": { "selector": {}, "template": {} },
        "status": { "observedGeneration": 2, "replicas": available + 1, "updatedReplicas": 1, "availableReplicas": available },
    });
    let found = Found::Present(Box::new(serde_json::from_value(deployment).expect("an object")));
    observed.objects.insert(ManagedObject::Deployment, found);
    let plan = MaintainPlan::default();
    let failed = BTreeMap::new();
    evaluate(Evidence {
        namespace: "ns",
        spec: &spec,
        observed: &observed,
        plan: &plan,
        failed: &failed,
        now: now(),
    })
}

fn short(condition: &Condition) -> (ConditionStatus, Reason) {
    (condition.status, condition.reason)
}

#[test]
fn a_rollout_that_finds_no_room_is_named_and_the_old_pods_count() {
    for host_network in [false, true] {
        let hangs = evaluated(host_network, pods(NO_MEMORY, "64Mi"), 1, 1);
        assert_eq!(short(&hangs), (ConditionStatus::True, Reason::Unschedulable));
        assert!(
            hangs.message.contains("still serve") && hangs.message.contains(NO_MEMORY),
            "{}",
            hangs.message
        );
    }
}

#[test]
fn a_port_that_is_handed_over_is_told_with_what_it_means() {
    let one = evaluated(true, pods(NO_PORT, "64Mi"), 1, 1);
    assert_eq!(short(&one), (ConditionStatus::True, Reason::Progressing));
    assert!(one.message.contains("no metrics until the new one is ready"), "{}", one.message);
    assert!(one.message.contains("port 4443") && one.message.contains("free ports"), "{}", one.message);
    // The old one has gone.
    let gone = evaluated(true, pods(NO_PORT, "64Mi"), 0, 1);
    assert_eq!(short(&gone), (ConditionStatus::False, Reason::Progressing));
    assert!(gone.message.contains("no metrics until"), "{}", gone.message);
    let two = evaluated(true, pods(NO_PORT, "64Mi"), 2, 2);
    assert!(two.message.contains("the others serve meanwhile"), "{}", two.message);
}

#[test]
fn a_port_that_is_kept_is_a_rollout_that_hangs() {
    let kept = evaluated(true, pods(NO_PORT, "128Mi"), 1, 1);
    assert_eq!(short(&kept), (ConditionStatus::True, Reason::Unschedulable));
    assert!(kept.message.contains("No old replica goes for it"), "{}", kept.message);
    assert!(kept.message.contains("hostNetwork to false"), "{}", kept.message);
}
