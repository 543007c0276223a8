use super::*;
use serde_json::{Value, json};

use crate::tree::{Style, render};

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn pipeline(conditions: &Value) -> Pipeline {
    Pipeline::read(of(json!({
        "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
        "metadata": { "name": "cluster", "uid": "u", "generation": 1 },
        "status": { "observedGeneration": 1, "conditions": conditions, "nodes": { "total": 2, "covered": 2, "summary": "2/2" } },
    })))
}

/// Returns all conditions; those that `changed` does not list have their normal status.
fn conditions(changed: &[(ConditionType, &str, &str, &str)]) -> Value {
    ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let other = changed.iter().find(|(other, ..)| *other == kind);
            let (status, reason, message) =
                other.map_or((kind.normal_status(), "AsExpected", "fine"), |(_, status, reason, message)| (status, reason, message));
            json!({ "type": kind.as_str(), "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" })
        })
        .collect()
}

fn snapshot(conditions: &Value) -> Snapshot {
    let available =
        json!([{ "type": "Available", "status": "True", "reason": "Passed", "lastTransitionTime": null }]);
    Snapshot {
        pipelines: Ok(vec![pipeline(conditions)]),
        operators: Ok(vec![of(json!({
            "metadata": { "name": "metrics-pipeline", "namespace": "ns" }, "spec": { "replicas": 1, "selector": {}, "template": {} },
            "status": { "readyReplicas": 1 },
        }))]),
        pods: Ok(vec![of(json!({
            "metadata": { "name": "metrics-core-1" }, "spec": { "nodeName": "n1", "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        }))]),
        api_services: Ok(vec![of(json!({
            "metadata": { "name": "v1beta1.metrics.k8s.io" },
            "spec": { "service": { "name": "metrics-core", "namespace": "ns" }, "groupPriorityMinimum": 100, "versionPriority": 100 },
            "status": { "conditions": available },
        }))]),
        autoscalers: Ok(Vec::new()),
        namespace: Some("ns".to_owned()),
    }
}

fn text(snapshot: &Snapshot) -> String {
    render(&status(snapshot), Style { color: false, width: 100 })
}

#[test]
fn shows_every_condition_of_a_healthy_pipeline() {
    let snapshot = snapshot(&conditions(&[]));
    let tree = status(&snapshot);
    assert_eq!(tree.severity, Severity::Ok, "{}", text(&snapshot));
    let text = text(&snapshot);
    assert!(text.starts_with("✔ MetricsPipeline cluster  2 of 2 nodes have metrics\n"), "{text}");
    for kind in ConditionType::ALL.into_iter().filter(|kind| kind.is_of_pipeline()) {
        assert!(text.contains(&format!("✔ {kind}  fine")), "{kind} is missing: {text}");
    }
}

#[test]
fn a_failed_rollout_is_an_error_although_the_previous_replicas_serve() {
    let failed = (ConditionType::DeploymentAvailable, "True", "ImagePullBackOff", "They still serve.");
    let stalled =
        (ConditionType::Stalled, "True", "ImagePullBackOff", "DeploymentAvailable: They still serve.");
    let text = text(&snapshot(&conditions(&[failed, stalled])));
    assert!(text.starts_with("✖ MetricsPipeline cluster"), "{text}");
    assert!(text.contains("✖ Stalled  ImagePullBackOff: DeploymentAvailable"), "{text}");
    // A condition that is an error explains it.
    let fault = (ConditionType::MetricsServed, "False", "NoMetrics", "cause");
    let stalled = (ConditionType::Stalled, "True", "NoMetrics", "MetricsServed: cause");
    let text = self::text(&snapshot(&conditions(&[fault, stalled])));
    assert!(!text.contains("Stalled"), "{text}");
}

#[test]
fn a_rollout_in_progress_is_waiting() {
    let progress = (ConditionType::Reconciling, "True", "Progressing", "Generation 1 is being rolled out.");
    let tree = status(&snapshot(&conditions(&[progress])));
    assert_eq!(tree.severity, Severity::Waiting);
    assert_eq!(tree.text, "Generation 1 is being rolled out.");
}

#[test]
fn an_error_reaches_the_root_and_a_dependent_condition_is_waiting() {
    let snapshot = snapshot(&conditions(&[
        (ConditionType::APIServiceAvailable, "False", "FailedDiscoveryCheck", "cause. remedy"),
        (ConditionType::MetricsServed, "Unknown", "WaitingForDependency", "waits"),
    ]));
    let text = text(&snapshot);
    assert!(text.starts_with("✖ MetricsPipeline cluster"), "{text}");
    assert!(text.contains("✖ kube-apiserver") && text.contains("✔ metrics-core"), "{text}");
    assert!(text.contains("✖ APIServiceAvailable  FailedDiscoveryCheck: cause. remedy"), "{text}");
    assert!(text.contains("… MetricsServed  WaitingForDependency: waits"), "{text}");
}

#[test]
fn a_failed_read_is_unknown_and_the_rest_is_shown() {
    let mut snapshot = snapshot(&conditions(&[]));
    snapshot.autoscalers = Err(FetchError { not_found: false, message: "forbidden".to_owned() });
    let tree = status(&snapshot);
    assert_eq!(tree.severity, Severity::Unknown);
    let text = text(&snapshot);
    assert!(text.contains("? HorizontalPodAutoscalers  Could not be read: forbidden"), "{text}");
    assert!(text.contains("✔ MetricsServed"), "{text}");
}

#[test]
fn without_the_crd_the_remedy_is_to_install_the_chart() {
    let mut snapshot = snapshot(&conditions(&[]));
    snapshot.pipelines = Err(FetchError { not_found: true, message: "404".to_owned() });
    assert!(text(&snapshot).contains("helm install"));
    assert_eq!(status(&snapshot).severity, Severity::Error);
}

#[test]
fn an_autoscaler_that_cannot_read_its_metrics_is_a_warning() {
    let mut snapshot = snapshot(&conditions(&[]));
    snapshot.autoscalers = Ok(vec![of(json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "maxReplicas": 2, "scaleTargetRef": { "kind": "Deployment", "name": "web" },
                  "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization" } } }] },
        "status": { "desiredReplicas": 1, "conditions": [
            { "type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no metrics" }] },
    }))]);
    let text = text(&snapshot);
    assert!(text.contains("! shop/web  FailedGetResourceMetric: no metrics"), "{text}");
    assert!(text.contains("0 of 1 can read their metrics"), "{text}");
}
