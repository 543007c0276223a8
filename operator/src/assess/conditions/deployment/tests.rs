use super::*;
use crate::observe::{Found, Observed};
use crate::plan::MaintainPlan;
use crds::{MetricsPipelineSpec, RollingUpdateSpec};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NO_MEMORY: &str = "0/1 nodes are available: 1 Insufficient memory.";
const NO_PORT: &str =
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

/// Returns a previous pod that has 64Mi and requests `asked`, and a new pod that requests 128Mi and has been unschedulable
/// for a minute with the scheduler's message `says`.
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

/// Evaluates the condition during a rollout with `available` of `wanted` replicas.
fn evaluated(host_network: bool, pods: Vec<Pod>, available: i32, wanted: i32) -> Condition {
    with_strategy(None, host_network, pods, available, wanted)
}

fn with_strategy(
    strategy: Option<StrategySpec>,
    host_network: bool,
    pods: Vec<Pod>,
    available: i32,
    wanted: i32,
) -> Condition {
    let mut spec = MetricsPipelineSpec::default();
    spec.metrics_core.strategy = strategy;
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
    let evidence = Evidence {
        namespace: "ns",
        spec: &spec,
        observed: &observed,
        generation: 1,
        rolled_out_generation: None,
        plan: &plan,
        failed: &failed,
        now: now(),
    };
    evaluate(evidence, &Diagnosis::default())
}

fn short(condition: &Condition) -> (ConditionStatus, Reason) {
    (condition.status, condition.reason)
}

#[test]
fn stays_true_with_reason_unschedulable_while_previous_pods_serve() {
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
fn reports_that_metrics_pause_while_the_port_is_handed_over() {
    let one = evaluated(true, pods(NO_PORT, "64Mi"), 1, 1);
    assert_eq!(short(&one), (ConditionStatus::True, Reason::Progressing));
    assert!(one.message.contains("no metrics until the new one is ready"), "{}", one.message);
    assert!(one.message.contains("port 4443") && one.message.contains("free ports"), "{}", one.message);
    // The previous pod has terminated.
    let gone = evaluated(true, pods(NO_PORT, "64Mi"), 0, 1);
    assert_eq!(short(&gone), (ConditionStatus::False, Reason::Progressing));
    assert!(gone.message.contains("no metrics until"), "{}", gone.message);
    let two = evaluated(true, pods(NO_PORT, "64Mi"), 2, 2);
    assert!(two.message.contains("the other replicas keep serving metrics"), "{}", two.message);
}

#[test]
fn reports_unschedulable_when_the_new_pod_would_not_fit() {
    let kept = evaluated(true, pods(NO_PORT, "128Mi"), 1, 1);
    assert_eq!(short(&kept), (ConditionStatus::True, Reason::Unschedulable));
    assert!(kept.message.contains("No previous replica is terminated"), "{}", kept.message);
    assert!(kept.message.contains("hostNetwork to false"), "{}", kept.message);
}

#[test]
fn remedy_for_a_port_depends_on_the_strategy_of_the_spec() {
    let of = |type_, bounds: Option<(i32, i32)>, available, wanted| {
        let rolling_update = bounds.map(|(surge, unavailable)| RollingUpdateSpec {
            max_surge: Some(IntOrString::Int(surge)),
            max_unavailable: Some(IntOrString::Int(unavailable)),
        });
        let strategy = Some(StrategySpec { type_, rolling_update });
        with_strategy(strategy, true, pods(NO_PORT, "64Mi"), available, wanted)
    };
    let recreate = of(StrategyType::Recreate, None, 0, 1);
    assert_eq!(short(&recreate), (ConditionStatus::False, Reason::Unschedulable));
    assert!(recreate.message.contains("Add a node with a free port, or set hostNetwork to false."));
    assert!(!recreate.message.contains("maxUnavailable"), "{}", recreate.message);

    // 25% of one replica is none.
    for bounds in [None, Some((1, 0))] {
        let stalled = of(StrategyType::RollingUpdate, bounds, 1, 1);
        assert_eq!(short(&stalled), (ConditionStatus::True, Reason::Unschedulable));
        assert!(stalled.message.contains("rollingUpdate.maxUnavailable to 1"), "{}", stalled.message);
    }

    let one = of(StrategyType::RollingUpdate, Some((1, 1)), 1, 1);
    assert_eq!(short(&one), (ConditionStatus::True, Reason::Progressing));
    assert!(one.message.contains("no metrics until the new one is ready"), "{}", one.message);
    let three = of(StrategyType::RollingUpdate, Some((0, 2)), 3, 3);
    assert_eq!(short(&three), (ConditionStatus::True, Reason::Progressing));
    assert!(three.message.contains("up to 2 previous replicas first, and the other"), "{}", three.message);
    // 25% of four replicas is one.
    let four = of(StrategyType::RollingUpdate, None, 4, 4);
    assert_eq!(short(&four), (ConditionStatus::True, Reason::Progressing));
}
