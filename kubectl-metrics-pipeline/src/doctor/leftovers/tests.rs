use super::*;
use crate::doctor::doctor;
use crate::doctor::tests::{bare, of};
use kube::core::DynamicObject;

fn api_service(ours: bool) -> DynamicObject {
    let manager = if ours { "metrics-pipeline-operator" } else { "Helm" };
    of(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1.metrics.k8s.io", "labels": { "app.kubernetes.io/managed-by": manager } },
        "spec": { "service": { "name": "metrics-core", "namespace": "ns" } },
    }))
}

/// A cluster without an operator, and with a MetricsPipeline.
fn left_behind(deleting: bool, finalizers: &[&str]) -> Checks {
    let mut checks = bare();
    let deleted = deleting.then_some("2026-01-01T00:00:00Z");
    checks.snapshot.pipelines = Ok(vec![Pipeline::read(of(json!({
        "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
        "metadata": { "name": "cluster", "uid": "u", "finalizers": finalizers, "deletionTimestamp": deleted },
    })))]);
    checks.api_services = Ok(vec![api_service(true)]);
    checks.leftovers =
        Ok(Leftovers { deletions: vec!["kubectl delete clusterroles".to_owned()], ..Leftovers::default() });
    checks
}

fn leftovers(checks: &Checks) -> TreeNode {
    let tree = doctor(checks);
    tree.children.iter().find(|node| node.title == "leftovers").expect("the check").clone()
}

#[test]
fn a_pipeline_that_waits_for_a_missing_operator_has_the_way_out_in_order() {
    let node = leftovers(&left_behind(true, &["example.com/hold", crds::FINALIZER]));
    assert_eq!(node.severity, Severity::Error);
    assert_eq!(node.children.len(), 1, "metrics-core still needs its roles: {node:?}");
    let text = &node.children[0].text;
    let commands: Vec<_> = text.lines().filter(|line| line.starts_with("`kubectl")).collect();
    assert_eq!(
        commands,
        [
            "`kubectl delete apiservice v1.metrics.k8s.io`",
            r#"`kubectl patch metricspipeline cluster --type=merge --patch '{"metadata":{"finalizers":["example.com/hold"]}}'`"#,
        ]
    );
    assert!(text.contains("--set pipeline.create=false"), "{text}");
    let pipeline = doctor(&left_behind(true, &[crds::FINALIZER]));
    assert!(
        pipeline.children.iter().all(|node| !node.text.contains("None exists")),
        "one exists: {pipeline:?}"
    );
}

#[test]
fn a_pipeline_without_an_operator_is_a_warning_and_is_deleted_before_its_finalizer() {
    let node = leftovers(&left_behind(false, &[crds::FINALIZER]));
    assert_eq!(node.severity, Severity::Warning);
    let text = &node.children[0].text;
    let commands: Vec<_> = text.lines().filter(|line| line.starts_with("`kubectl")).collect();
    assert_eq!(
        commands,
        [
            "`kubectl delete apiservice v1.metrics.k8s.io`",
            "`kubectl delete metricspipeline cluster --wait=false`",
            r#"`kubectl patch metricspipeline cluster --type=merge --patch '{"metadata":{"finalizers":[]}}'`"#,
        ]
    );
}

#[test]
fn no_command_is_printed_twice() {
    let mut checks = left_behind(true, &[crds::FINALIZER]);
    checks.leftovers = Ok(Leftovers {
        dead_api_services: vec![("v1.metrics.k8s.io".to_owned(), "ns/metrics-core".to_owned())],
        ..Leftovers::default()
    });
    let node = leftovers(&checks);
    let text: String = node.children.iter().map(|child| child.text.as_str()).collect();
    assert_eq!(text.matches("kubectl delete apiservice v1.metrics.k8s.io").count(), 1, "{text}");
    assert!(text.contains("kubectl patch metricspipeline cluster"), "{text}");
}

#[test]
fn an_api_service_without_its_service_is_an_error() {
    let mut checks = bare();
    checks.leftovers = Ok(Leftovers {
        dead_api_services: vec![("v1.metrics.k8s.io".to_owned(), "ns/metrics-core".to_owned())],
        deletions: Vec::new(),
    });
    let node = leftovers(&checks);
    assert_eq!(node.severity, Severity::Error);
    assert!(node.children[0].text.contains("Service ns/metrics-core"), "{node:?}");
    assert!(node.children[0].text.contains("`kubectl delete apiservice v1.metrics.k8s.io`"), "{node:?}");
}

#[test]
fn roles_and_bindings_without_a_pipeline_are_a_warning_with_the_commands() {
    let mut checks = bare();
    checks.snapshot.pipelines = Ok(Vec::new());
    checks.leftovers =
        Ok(Leftovers { deletions: vec!["kubectl delete clusterroles".to_owned()], ..Leftovers::default() });
    let node = leftovers(&checks);
    assert_eq!(node.severity, Severity::Warning);
    assert!(node.children[0].text.contains("`kubectl delete clusterroles`"), "{node:?}");
}

#[test]
fn nothing_is_left_in_a_bare_cluster_or_beside_an_operator() {
    let has_node = |checks: &Checks| doctor(checks).children.iter().any(|node| node.title == "leftovers");
    assert!(!has_node(&bare()));
    let mut checks = left_behind(true, &[crds::FINALIZER]);
    checks.api_services = Ok(vec![api_service(false)]);
    let patch_only = leftovers(&checks);
    assert!(!patch_only.children[0].text.contains("delete apiservice"), "foreign: {patch_only:?}");
    checks.snapshot.operators = Ok(vec![of(json!({
        "metadata": { "name": "o", "namespace": "ns" }, "spec": { "replicas": 1, "selector": {}, "template": {} },
    }))]);
    assert!(!has_node(&checks));
}
