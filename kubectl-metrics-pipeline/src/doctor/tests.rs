use std::collections::BTreeMap;

use super::*;
use crate::checks::Version;
use crate::snapshot::{FetchError, Snapshot};
use crds::ConditionType;
use jiff::Timestamp;
use operator::inspect::Unreadable;
use serde_json::{Value, json};

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

/// A cluster that has nothing of ours yet.
fn bare() -> Checks {
    let not_found = || FetchError { not_found: true, message: "404 page not found".to_owned() };
    Checks {
        snapshot: Snapshot {
            pipelines: Err(not_found()),
            operators: Ok(Vec::new()),
            pods: Ok(Vec::new()),
            api_services: Ok(Vec::new()),
            autoscalers: Ok(Vec::new()),
            namespace: None,
        },
        version: Ok(Version { number: (1, 36), text: "v1.36.3".to_owned() }),
        front_proxy: FrontProxyMap::Absent,
        registrations: Ok(Vec::new()),
        lease: Ok(None),
        kubelets: Ok(Vec::new()),
        now: now(),
    }
}

/// One where the operator serves a MetricsPipeline, of which one condition does not hold.
fn served(bad: ConditionType) -> Checks {
    let conditions: Vec<_> = ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let (status, reason) = if kind == bad { ("False", "RequestHeaderFlagsMalformed") } else { ("True", "AsExpected") };
            json!({ "type": kind.as_str(), "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" })
        })
        .collect();
    let mut checks = bare();
    checks.snapshot.pipelines = Ok(vec![Pipeline::read(of(json!({
        "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
        "metadata": { "name": "cluster", "uid": "u", "generation": 1 },
        "status": { "observedGeneration": 1, "conditions": conditions },
    })))]);
    checks.snapshot.operators = Ok(vec![of(json!({
        "metadata": { "name": "o", "namespace": "ns" }, "spec": { "replicas": 1, "selector": {}, "template": {} },
        "status": { "readyReplicas": 1 },
    }))]);
    checks.lease = Ok(Some(now()));
    checks
}

fn check<'a>(tree: &'a TreeNode, title: &str) -> &'a TreeNode {
    tree.parts.iter().find(|part| part.title == title).unwrap_or_else(|| panic!("no check {title}: {tree:?}"))
}

#[test]
fn a_working_operator_is_believed() {
    let tree = doctor(&served(ConditionType::AggregationLayerReady));
    assert_eq!(tree.severity, Severity::Bad);
    assert_eq!(check(&tree, "AggregationLayerReady").severity, Severity::Bad);
    assert!(tree.parts.iter().all(|part| part.title != "aggregation layer"), "no second opinion: {tree:?}");
    assert_eq!(tree.text, format!("{} checks, 1 has a finding", tree.parts.len()));
}

#[test]
fn a_dead_operator_is_not() {
    let mut checks = served(ConditionType::MetricsServed);
    checks.lease = Ok(Some(now() - SignedDuration::from_mins(5)));
    let tree = doctor(&checks);
    assert_eq!(check(&tree, "operator").severity, Severity::Bad);
    assert!(check(&tree, "operator").text.contains("60 s"), "{tree:?}");
    assert_eq!(check(&tree, "conditions").severity, Severity::Unknown);
    assert_eq!(
        check(&tree, "aggregation layer").severity,
        Severity::Bad,
        "what can be seen from here is said"
    );
}

#[test]
fn before_the_installation_the_ground_is_examined() {
    let mut checks = bare();
    let swallowed = r#"["X-Remote-Extra- --requestheader-group-headers=X-Remote-Group"]"#;
    checks.front_proxy = FrontProxyMap::Found(BTreeMap::from([(
        "requestheader-extra-headers-prefix".to_owned(),
        swallowed.to_owned(),
    )]));
    checks.registrations = Ok(vec![of(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1beta1.metrics.k8s.io" },
        "spec": { "service": { "name": "metrics-server", "namespace": "kube-system" } },
    }))]);
    let kubelet = |node: &str, configuration: Value| Kubelet {
        node: node.to_owned(),
        configuration: Ok(of(configuration)),
    };
    checks.kubelets = Ok(vec![
        kubelet(
            "a",
            json!({ "serverTLSBootstrap": true, "authentication": { "webhook": { "enabled": true } } }),
        ),
        kubelet("b", json!({ "authentication": { "webhook": { "enabled": true } } })),
        kubelet("c", json!({ "tlsCertFile": "/x", "authentication": { "webhook": { "enabled": false } } })),
    ]);
    let tree = doctor(&checks);
    let layer = check(&tree, "aggregation layer");
    assert!(
        layer
            .parts
            .iter()
            .any(|part| part.title == "request_header_flags_malformed" && part.severity == Severity::Bad),
        "{layer:?}"
    );
    let registrations = check(&tree, "APIServices of metrics.k8s.io");
    assert!(
        registrations.severity == Severity::Warning
            && registrations.text.contains("kube-system/metrics-server")
    );
    let marks: Vec<_> = check(&tree, "kubelets").parts.iter().map(|part| part.severity).collect();
    assert_eq!(marks, [Severity::Good, Severity::Warning, Severity::Bad]);
    assert!(check(&tree, "MetricsPipeline").text.contains("helm install"));
    assert!(tree.parts.iter().all(|part| part.title != "operator"), "nobody asked for one yet");
}

#[test]
fn an_old_cluster_is_told_so_and_what_cannot_be_read_is_unknown() {
    let mut checks = bare();
    checks.version = Ok(Version { number: (1, 32), text: "v1.32.0".to_owned() });
    let why = Unreadable { forbidden: true, message: "configmaps is forbidden".to_owned() };
    checks.front_proxy = FrontProxyMap::Unreadable(why);
    let tree = doctor(&checks);
    assert_eq!(check(&tree, "Kubernetes").severity, Severity::Bad);
    assert_eq!(check(&tree, "aggregation layer").severity, Severity::Unknown);
    assert!(check(&tree, "aggregation layer").text.contains("configmaps is forbidden"), "{tree:?}");
}
