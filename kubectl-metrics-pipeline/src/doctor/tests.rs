use std::collections::BTreeMap;

use super::*;
use crate::checks::Version;
use crate::leftovers::Leftovers;
use crate::snapshot::{FetchError, Snapshot};
use crds::ConditionType;
use jiff::{SignedDuration, Timestamp};
use operator::inspect::Unreadable;
use serde_json::{Value, json};

pub(super) fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

/// A cluster without the operator.
pub(super) fn bare() -> Checks {
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
        api_services: Ok(Vec::new()),
        lease: Ok(None),
        pod_security: Ok(None),
        kubelets: Ok(Vec::new()),
        leftovers: Ok(Leftovers::default()),
        now: now(),
    }
}

/// A cluster with a running operator, where the condition `failing` is False.
fn installed(failing: ConditionType) -> Checks {
    let conditions: Vec<_> = ConditionType::ALL
        .into_iter()
        .map(|kind| {
            let (status, reason) = if kind == failing { ("False", "RequestHeaderFlagsMalformed") } else { (kind.normal_status(), "AsExpected") };
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
    let found = tree.children.iter().find(|child| child.title == title);
    found.unwrap_or_else(|| panic!("no check {title}: {tree:?}"))
}

#[test]
fn with_a_running_operator_its_conditions_are_the_checks() {
    let tree = doctor(&installed(ConditionType::AggregationLayerReady));
    assert_eq!(tree.severity, Severity::Error);
    assert_eq!(check(&tree, "AggregationLayerReady").severity, Severity::Error);
    assert!(
        tree.children.iter().all(|child| child.title != "aggregation layer"),
        "the operator's diagnosis is the only one: {tree:?}"
    );
    assert_eq!(tree.text, format!("{} checks, 1 with findings", tree.children.len()));
}

#[test]
fn with_a_stale_lease_the_checks_replace_the_conditions() {
    let mut checks = installed(ConditionType::MetricsServed);
    checks.lease = Ok(Some(now() - SignedDuration::from_mins(5)));
    let tree = doctor(&checks);
    assert_eq!(check(&tree, "operator").severity, Severity::Error);
    assert!(check(&tree, "operator").text.contains("60 s"), "{tree:?}");
    assert_eq!(check(&tree, "conditions").severity, Severity::Unknown);
    assert_eq!(check(&tree, "aggregation layer").severity, Severity::Error);
}

#[test]
fn before_the_installation_the_cluster_is_checked() {
    let mut checks = bare();
    let malformed = r#"["X-Remote-Extra- --requestheader-group-headers=X-Remote-Group"]"#;
    checks.front_proxy = FrontProxyMap::Found(BTreeMap::from([(
        "requestheader-extra-headers-prefix".to_owned(),
        malformed.to_owned(),
    )]));
    checks.api_services = Ok(vec![of(json!({
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
    let is_malformed = |child: &TreeNode| {
        child.title == "request_header_flags_malformed" && child.severity == Severity::Error
    };
    assert!(layer.children.iter().any(is_malformed), "{layer:?}");
    let api_services = check(&tree, "APIServices of metrics.k8s.io");
    assert_eq!(api_services.severity, Severity::Warning);
    assert!(api_services.text.contains("kube-system/metrics-server"), "{api_services:?}");
    let severities: Vec<_> = check(&tree, "kubelets").children.iter().map(|child| child.severity).collect();
    assert_eq!(severities, [Severity::Ok, Severity::Warning, Severity::Error]);
    assert!(check(&tree, "MetricsPipeline").text.contains("helm install"));
    assert!(tree.children.iter().all(|child| child.title != "operator"), "not installed yet: {tree:?}");
}

#[test]
fn an_old_cluster_is_an_error_and_a_failed_read_is_unknown() {
    let mut checks = bare();
    checks.version = Ok(Version { number: (1, 32), text: "v1.32.0".to_owned() });
    let error = Unreadable { forbidden: true, message: "configmaps is forbidden".to_owned() };
    checks.front_proxy = FrontProxyMap::Unreadable(error);
    let tree = doctor(&checks);
    assert_eq!(check(&tree, "Kubernetes").severity, Severity::Error);
    assert_eq!(check(&tree, "aggregation layer").severity, Severity::Unknown);
    assert!(check(&tree, "aggregation layer").text.contains("configmaps is forbidden"), "{tree:?}");
}

/// The check of the Pod Security level, with this label of the namespace.
fn pod_security_of(level: Option<&str>, host_network: bool) -> TreeNode {
    let mut checks = installed(ConditionType::AggregationLayerReady);
    checks.snapshot.namespace = Some("ns".to_owned());
    checks.pod_security = Ok(level.map(str::to_owned));
    let pipelines = checks.snapshot.pipelines.as_mut().expect("pipelines");
    let spec = pipelines[0].spec.as_mut().expect("a spec");
    spec.metrics_core.scheduling.host_network = host_network;
    check(&doctor(&checks), "Pod Security").clone()
}

#[test]
fn names_the_command_that_enforces_the_restricted_level() {
    for (level, enforced) in [(None, "no level"), (Some("baseline"), "the level baseline")] {
        let node = pod_security_of(level, false);
        assert_eq!(node.severity, Severity::Ok);
        assert!(node.text.contains(enforced), "{}", node.text);
        let command =
            "`kubectl label namespace ns pod-security.kubernetes.io/enforce=restricted --overwrite`";
        assert!(node.text.ends_with(command), "{}", node.text);
    }
    let restricted = pod_security_of(Some("restricted"), false);
    assert_eq!(restricted.text, "Namespace ns enforces the level restricted.");
}

#[test]
fn warns_about_a_level_that_rejects_the_host_network() {
    for level in ["baseline", "restricted"] {
        let node = pod_security_of(Some(level), true);
        assert_eq!(node.severity, Severity::Warning, "{level}");
        assert!(node.text.contains("enforce=privileged --overwrite"), "{}", node.text);
    }
    for level in [None, Some("privileged")] {
        assert_eq!(pod_security_of(level, true).severity, Severity::Ok, "{level:?}");
    }
}

#[test]
fn level_that_cannot_be_read_is_unknown_and_without_an_operator_it_is_left_out() {
    let mut checks = installed(ConditionType::AggregationLayerReady);
    checks.snapshot.namespace = Some("ns".to_owned());
    checks.pod_security = Err(FetchError { not_found: false, message: "forbidden".to_owned() });
    assert_eq!(check(&doctor(&checks), "Pod Security").severity, Severity::Unknown);
    checks.snapshot.operators = Ok(Vec::new());
    assert!(doctor(&checks).children.iter().all(|node| node.title != "Pod Security"));
}
