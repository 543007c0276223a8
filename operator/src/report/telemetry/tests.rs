use super::*;
use crate::common::ManagedObject;

#[test]
fn deleted_pipeline_leaves_no_metrics() {
    let telemetry = Telemetry::default();
    let status: MetricsPipelineStatus = serde_json::from_value(serde_json::json!({ "conditions": [{
        "type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] }))
    .expect("a status");
    telemetry.conditions("a", &status);
    telemetry.conditions("b", &status);
    telemetry.keep_only(["b"].into_iter());
    let text = telemetry.encode();
    assert!(text.contains("metricspipeline=\"b\"") && !text.contains("metricspipeline=\"a\""), "{text}");
}

#[test]
fn cause_is_exposed_while_it_lasts() {
    let telemetry = Telemetry::default();
    let with = |reason: &str| -> MetricsPipelineStatus {
        serde_json::from_value(
            serde_json::json!({ "conditions": [{ "type": "KubeletsReachable", "status": "False",
            "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] }),
        )
        .expect("a status")
    };
    let shown = || -> Vec<String> {
        let text = telemetry.encode();
        text.lines().filter(|line| line.starts_with("metrics_pipeline_cause{")).map(str::to_owned).collect()
    };
    telemetry.conditions("a", &with("KubeletConnectionRefused"));
    assert_eq!(
        shown(),
        [
            "metrics_pipeline_cause{metricspipeline=\"a\",type=\"KubeletsReachable\",reason=\"KubeletConnectionRefused\"} 1"
        ]
    );
    telemetry.conditions("b", &with("KubeletTimeout"));
    telemetry.conditions("a", &with("WaitingForDependency"));
    assert!(shown().len() == 1 && shown()[0].contains("KubeletTimeout"), "{:?}", shown());
    telemetry.keep_only(["a"].into_iter());
    assert!(shown().is_empty());
}

#[test]
fn certificates_are_removed_with_the_last_pipeline() {
    let telemetry = Telemetry::default();
    let spec = crds::MetricsPipelineSpec::default();
    let now = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
    let plan = crate::plan::certificates::plan(
        &spec,
        &crate::settings::Settings::default(),
        &crate::observe::Observed::default(),
        now,
    );
    telemetry.certificates(Some(&plan.expect("a plan")), None);
    telemetry.keep_only(["a"].into_iter());
    assert!(telemetry.encode().contains("certificate=\"ca\""));
    telemetry.keep_only(std::iter::empty());
    assert!(!telemetry.encode().contains("certificate=\"ca\""));
}

#[test]
fn metrics_have_the_documented_names() {
    let telemetry = Telemetry::default();
    telemetry.reconciled(true, Duration::from_millis(3));
    telemetry.wrote(ManagedObject::Deployment, "apply");
    telemetry.set_leader(true);
    let text = telemetry.encode();
    for line in [
        "metrics_pipeline_operator_reconciles_total{result=\"success\"} 1",
        "metrics_pipeline_operator_reconcile_duration_seconds_count 1",
        "metrics_pipeline_operator_writes_total{kind=\"Deployment\",name=\"metrics-core\",verb=\"apply\"} 1",
        "metrics_pipeline_operator_leader 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}
