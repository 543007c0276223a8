mod discovery;

use super::*;
use crate::nanny::{Population, RecommendedSize, Size, SizeReason};
use crate::observe::{Found, ReplicaReport, Served};
use crate::plan::{MaintainPlan, Sizing};
use crate::settings::Settings;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn sizing() -> Sizing {
    let recommended = RecommendedSize {
        size: Size { cpu: 20, memory: 64 << 20 },
        population: 3,
        reason: SizeReason::InitialEstimate(Population::Nodes(3)),
        changed: None,
    };
    let wanted = json!({ "requests": { "cpu": "20m", "memory": "64Mi" }, "limits": { "memory": "64Mi" } });
    Sizing {
        recommended: Some(recommended),
        wanted: Some(serde_json::from_value(wanted).expect("resources")),
        template: None,
        template_from: None,
        rollout_blocker: None,
        reverts_rollout: false,
    }
}

fn plan() -> MaintainPlan {
    let spec = MetricsPipelineSpec::default();
    let certificates =
        crate::plan::certificates::plan(&spec, &Settings::default(), &Observed::default(), now())
            .expect("a plan");
    MaintainPlan { certificates: Some(certificates), sizing: sizing(), ..MaintainPlan::default() }
}

fn put(observed: &mut Observed, object: ManagedObject, status: &Value) {
    let found = json!({
        "metadata": { "name": object.name(), "generation": 2, "labels": { "app.kubernetes.io/managed-by": "metrics-pipeline-operator" } },
        "spec": { "selector": {}, "template": {}, "groupPriorityMinimum": 1, "versionPriority": 1 },
        "status": status,
    });
    observed
        .objects
        .insert(object, Found::Present(Box::new(serde_json::from_value(found).expect("an object"))));
}

fn healthy() -> Observed {
    let mut observed =
        Observed { nodes: Some(3), served: Served::Succeeded { nodes: 3 }, ..Observed::default() };
    let deployment =
        json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 });
    put(&mut observed, ManagedObject::Deployment, &deployment);
    for object in ManagedObject::API_SERVICES {
        put(&mut observed, object, &available("True", "Passed", "all checks passed"));
    }
    observed.replicas = vec![replica(&json!({ "known": 3, "covered": 3, "failing": 0 }), &json!([]))];
    observed
}

fn replica(nodes: &Value, scrapes: &Value) -> ReplicaReport {
    let report = json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:10:00Z", "nodes": nodes,
        "scrapes": scrapes, "lastFrontProxyRequest": "2026-01-01T00:09:58Z" });
    ReplicaReport {
        pod: "metrics-core-1".to_owned(),
        uid: "u".to_owned(),
        ready: true,
        report: Ok(std::sync::Arc::new(serde_json::from_value(report).expect("a report"))),
        failures: 0,
    }
}

fn refused(nodes: usize) -> Value {
    json!([{ "cause": "connection_refused", "nodes": nodes, "examples": [
        { "node": "node-7", "address": "10.0.0.7:10250", "message": "refuses connections", "since": "2026-01-01T00:09:50Z" }] }])
}

#[test]
fn certificate_not_issued_is_a_warning_while_the_previous_one_is_valid() {
    let mut plan = plan();
    plan.not_issued = Some(Problem::new(Reason::CertificateNotIssued, "cert-manager has not issued it."));
    let conditions = evaluated(&healthy(), &plan, &BTreeMap::new());
    assert_eq!(
        short(&conditions, "CertificatesReady"),
        (ConditionStatus::True, Reason::CertificateNotIssued)
    );
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::CertificateNotIssued));
    let message = &conditions["CertificatesReady"].message;
    assert!(
        message.contains("not issued it. metrics-core continues to serve the previous certificate"),
        "{message}"
    );
    plan.not_issued = Some(Problem::new(Reason::PermissionMissing, "denied."));
    let conditions = evaluated(&healthy(), &plan, &BTreeMap::new());
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::PermissionMissing));
}

#[test]
fn few_failing_nodes_do_not_block_ready_and_many_do() {
    let with = |known: usize, failing: usize| {
        let mut observed = healthy();
        observed.nodes = Some(known);
        observed.served = Served::Succeeded { nodes: known - failing };
        let nodes = json!({ "known": known, "covered": known - failing, "failing": failing });
        observed.replicas = vec![replica(&nodes, &refused(failing))];
        evaluated(&observed, &plan(), &BTreeMap::new())
    };
    let one = with(1000, 1);
    assert_eq!(short(&one, "KubeletsReachable"), (ConditionStatus::False, Reason::KubeletConnectionRefused));
    assert_eq!(short(&one, "NodesCovered"), (ConditionStatus::False, Reason::WaitingForDependency));
    assert_eq!(short(&one, "MetricsServed"), (ConditionStatus::True, Reason::AsExpected));
    assert_eq!(short(&one, "Ready"), (ConditionStatus::True, Reason::KubeletConnectionRefused));
    assert!(one["Ready"].message.contains("node-7"), "{}", one["Ready"].message);
    for (known, failing) in [(1, 1), (3, 2), (100, 99), (1000, 101)] {
        assert_eq!(
            short(&with(known, failing), "Ready"),
            (ConditionStatus::False, Reason::KubeletConnectionRefused),
            "{known} {failing}"
        );
    }
}

/// A pipeline of which no pod is ready, because all kubelets fail.
fn without_fresh_metrics() -> Observed {
    let mut observed = healthy();
    observed.served = Served::ErrorResponse { code: 503, message: "service unavailable".to_owned() };
    let deployment =
        json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 0 });
    put(&mut observed, ManagedObject::Deployment, &deployment);
    for object in ManagedObject::API_SERVICES {
        put(&mut observed, object, &available("False", "MissingEndpoints", "no endpoints"));
    }
    let pod = json!({ "metadata": { "name": "metrics-core-1" }, "status": { "phase": "Running", "containerStatuses": [{
        "name": "metrics-core", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } }] } });
    observed.pods = vec![serde_json::from_value(pod).expect("a pod")];
    observed.replicas = vec![replica(&json!({ "known": 3, "covered": 0, "failing": 3 }), &refused(3))];
    observed.replicas[0].ready = false;
    observed
}

#[test]
fn kubelets_that_fail_explain_unready_replicas_and_missing_endpoints() {
    let conditions = evaluated(&without_fresh_metrics(), &plan(), &BTreeMap::new());
    for condition in ["DeploymentAvailable", "APIServiceAvailable", "MetricsServed"] {
        assert_eq!(
            short(&conditions, condition),
            (ConditionStatus::False, Reason::WaitingForDependency),
            "{condition}"
        );
    }
    for condition in ["DeploymentAvailable", "APIServiceAvailable"] {
        let message = &conditions[condition].message;
        assert!(message.contains("See KubeletsReachable"), "{message}");
    }
    assert_eq!(
        short(&conditions, "KubeletsReachable"),
        (ConditionStatus::False, Reason::KubeletConnectionRefused)
    );
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::KubeletConnectionRefused));
    assert!(conditions["Ready"].message.contains("node-7"), "{}", conditions["Ready"].message);
}

#[test]
fn samples_that_are_all_faulty_explain_unready_replicas() {
    let mut observed = without_fresh_metrics();
    let nodes = json!({ "known": 3, "covered": 0, "failing": 0 });
    let mut replica = replica(&nodes, &json!([]));
    let mut report = serde_json::to_value(&**replica.report.as_ref().expect("a report")).expect("JSON");
    report["samples"] = issues("timestamps_stalled", 3);
    replica.report = Ok(std::sync::Arc::new(serde_json::from_value(report).expect("a report")));
    replica.ready = false;
    observed.replicas = vec![replica];
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    for condition in ["DeploymentAvailable", "APIServiceAvailable"] {
        let message = &conditions[condition].message;
        assert!(message.contains("See NodesCovered"), "{message}");
    }
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::KubeletTimestampsStalled));
}

#[test]
fn kubelets_do_not_explain_unready_replicas_that_have_metrics_or_another_cause() {
    let ready = |observed: &Observed| short(&evaluated(observed, &plan(), &BTreeMap::new()), "Ready");
    // One node responds, so the replica has metrics and is unready for another reason.
    let mut observed = without_fresh_metrics();
    observed.replicas = vec![replica(&json!({ "known": 3, "covered": 1, "failing": 2 }), &refused(2))];
    observed.replicas[0].ready = false;
    assert_eq!(ready(&observed), (ConditionStatus::False, Reason::PodsNotReady));
    // A replica is ready.
    let mut observed = without_fresh_metrics();
    observed.replicas.push(replica(&json!({ "known": 3, "covered": 3, "failing": 0 }), &json!([])));
    assert_eq!(ready(&observed), (ConditionStatus::False, Reason::PodsNotReady));
    // The container crashes.
    let mut observed = without_fresh_metrics();
    let crash = json!({ "name": "metrics-core", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } });
    let status = observed.pods[0].status.as_mut().expect("a status");
    status.container_statuses = Some(vec![serde_json::from_value(crash).expect("a status")]);
    assert_eq!(ready(&observed), (ConditionStatus::False, Reason::CrashLoopBackOff));
}

/// Returns the conditions with `known` nodes, of which `covered` have metrics, and these sample issues.
fn with_samples(known: usize, covered: usize, samples: &Value) -> BTreeMap<&'static str, Condition> {
    let mut observed = healthy();
    observed.nodes = Some(known);
    let nodes = json!({ "known": known, "covered": covered, "failing": 0 });
    let mut replica = replica(&nodes, &json!([]));
    let mut report = serde_json::to_value(&**replica.report.as_ref().expect("a report")).expect("JSON");
    report["samples"] = samples.clone();
    replica.report = Ok(std::sync::Arc::new(serde_json::from_value(report).expect("a report")));
    observed.replicas = vec![replica];
    observed.uncovered_since = (covered < known).then(|| "2026-01-01T00:05:00Z".parse().expect("a time"));
    evaluated(&observed, &plan(), &BTreeMap::new())
}

fn issues(cause: &str, nodes: usize) -> Value {
    json!([{ "cause": cause, "nodes": nodes, "count": nodes, "examples": [
        { "node": "node-7", "count": 1, "message": "found it", "since": "2026-01-01T00:09:00Z" }] }])
}

#[test]
fn faulty_samples_of_whole_nodes_block_ready_by_their_share() {
    for (cause, reason) in [
        ("resource_scrape_error", Reason::KubeletScrapeErrors),
        ("no_containers", Reason::KubeletContainersMissing),
    ] {
        for (known, affected, ready) in
            [(1, 1, false), (3, 1, true), (3, 2, false), (1000, 100, true), (1000, 101, false)]
        {
            let conditions = with_samples(known, known, &issues(cause, affected));
            assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::False, reason));
            assert_eq!(short(&conditions, "KubeletsReachable"), (ConditionStatus::True, Reason::AsExpected));
            let status = if ready { ConditionStatus::True } else { ConditionStatus::False };
            assert_eq!(short(&conditions, "Ready"), (status, reason), "{cause}: {affected} of {known}");
            let message = &conditions["NodesCovered"].message;
            assert!(message.contains("node-7") && message.contains("found it"), "{message}");
        }
    }
    // Two Nodes with one address: one of them is the right one.
    let conditions = with_samples(3, 3, &issues("duplicate_address", 2));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::KubeletAddressConflict));
    let conditions = with_samples(4, 4, &issues("duplicate_address", 4));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::KubeletAddressConflict));
}

#[test]
fn faulty_samples_of_single_pods_never_block_ready() {
    for (cause, reason) in [
        ("zero_usage", Reason::KubeletZeroUsage),
        ("pods_missing", Reason::PodsMissing),
        ("timestamps_stalled", Reason::KubeletTimestampsStalled),
        ("implausible_usage", Reason::KubeletUsageImplausible),
    ] {
        let conditions = with_samples(3, 3, &issues(cause, 3));
        assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::False, reason));
        assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, reason));
        // Unless nodes have no metrics at all. The cause of the samples explains it.
        let conditions = with_samples(3, 1, &issues(cause, 3));
        assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, reason));
        let message = &conditions["NodesCovered"].message;
        assert!(message.ends_with("1 of 3 nodes have metrics."), "{message}");
    }
}

#[test]
fn clock_skew_and_duplicate_series_are_warnings() {
    for (cause, reason) in
        [("clock_skew", Reason::KubeletClockSkew), ("duplicate_series", Reason::KubeletSeriesDuplicated)]
    {
        let conditions = with_samples(3, 3, &issues(cause, 3));
        assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::True, reason));
        assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, reason));
        // Beside a fault, the warning is named in the message.
        let conditions = with_samples(3, 2, &issues(cause, 3));
        assert_eq!(short(&conditions, "NodesCovered"), (ConditionStatus::False, Reason::NodeMetricsMissing));
        let message = &conditions["NodesCovered"].message;
        assert!(
            message.contains("3 nodes (such as node-7)") || message.contains("3 containers on 3"),
            "{message}"
        );
    }
}

#[test]
fn a_missing_binding_explains_a_403_of_a_kubelet() {
    let mut observed = healthy();
    observed.served = Served::Succeeded { nodes: 0 };
    let forbidden = json!([{ "cause": "forbidden", "nodes": 3, "examples": [
        { "node": "a", "message": "403", "since": "2026-01-01T00:09:50Z" }] }]);
    observed.replicas = vec![replica(&json!({ "known": 3, "covered": 0, "failing": 3 }), &forbidden)];
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::KubeletForbidden));
    assert_eq!(short(&conditions, "MetricsServed"), (ConditionStatus::False, Reason::WaitingForDependency));
    let denied = BTreeMap::from([(
        ManagedObject::CollectorBinding,
        Problem::new(Reason::PermissionMissing, "denied."),
    )]);
    let conditions = evaluated(&observed, &plan(), &denied);
    assert_eq!(
        short(&conditions, "KubeletsReachable"),
        (ConditionStatus::False, Reason::WaitingForDependency)
    );
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::PermissionMissing));
}

#[test]
fn a_pause_that_the_operator_did_not_set_is_deployment_paused() {
    let mut observed = healthy();
    let found = json!({
        "metadata": { "name": "metrics-core", "generation": 3 },
        "spec": { "selector": {}, "template": {}, "paused": true },
        "status": { "observedGeneration": 3, "replicas": 1, "availableReplicas": 1 },
    });
    observed.objects.insert(
        ManagedObject::Deployment,
        Found::Present(Box::new(serde_json::from_value(found).expect("an object"))),
    );
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "DeploymentAvailable"), (ConditionStatus::True, Reason::DeploymentPaused));
    let message = &conditions["Ready"].message;
    assert!(message.contains("kubectl rollout resume deployment/metrics-core"), "{message}");
}

#[test]
fn unreadable_reports_do_not_block_ready() {
    let mut observed = healthy();
    observed.replicas[0].report = Err(crate::observe::ReportError::Refused(403));
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(
        short(&conditions, "KubeletsReachable"),
        (ConditionStatus::Unknown, Reason::ReportUnavailable)
    );
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::ReportUnavailable));
}

#[test]
fn unreadable_reports_name_the_remedy_of_their_error() {
    use crate::observe::{ReportError, TokenError};
    for (error, words) in [
        (
            ReportError::Unauthorized,
            ["401", "metrics-core is older than the operator", "spec.metricsCore.image"],
        ),
        (ReportError::Forbidden, ["403", "helm upgrade", "get on /report"]),
        (ReportError::Timeout, ["no response", "Allow the operator", "on port 4443"]),
        (
            ReportError::Token(TokenError::OtherAudience("/token".into())),
            ["/token", "not its only audience", "--report-token-file"],
        ),
    ] {
        let mut observed = healthy();
        observed.replicas[0].report = Err(error);
        let message = &evaluated(&observed, &plan(), &BTreeMap::new())["KubeletsReachable"].message;
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
    }
}

fn available(status: &str, reason: &str, message: &str) -> Value {
    json!({ "conditions": [{ "type": "Available", "status": status, "reason": reason, "message": message }] })
}

fn evaluated(
    observed: &Observed,
    plan: &MaintainPlan,
    failed: &BTreeMap<ManagedObject, Problem>,
) -> BTreeMap<&'static str, Condition> {
    let spec = MetricsPipelineSpec::default();
    let mut observed = observed.clone();
    observed.derive_facts();
    evaluate(Evidence { namespace: "ns", spec: &spec, observed: &observed, plan, failed, now: now() })
        .into_iter()
        .map(|condition| (condition.kind.as_str(), condition))
        .collect()
}

fn short(conditions: &BTreeMap<&'static str, Condition>, condition: &str) -> (ConditionStatus, Reason) {
    (conditions[condition].status, conditions[condition].reason)
}

#[test]
fn a_healthy_pipeline_is_ready_and_reports_its_nodes() {
    let conditions = evaluated(&healthy(), &plan(), &BTreeMap::new());
    assert_eq!(conditions.len(), ConditionType::ALL.len());
    assert!(
        conditions.values().all(|condition| condition.status == ConditionStatus::True),
        "{conditions:#?}"
    );
    assert_eq!(conditions["Ready"].message, "3 of 3 nodes have metrics.");
}

#[test]
fn ready_reports_the_failing_step() {
    let mut observed = healthy();
    put(
        &mut observed,
        ManagedObject::ApiServiceV1,
        &available("False", "FailedDiscoveryCheck", "bad status: 401"),
    );
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(
        short(&conditions, "APIServiceAvailable"),
        (ConditionStatus::False, Reason::FailedDiscoveryCheck)
    );
    assert!(conditions["Ready"].message.contains("bad status: 401"), "{}", conditions["Ready"].message);

    put(
        &mut observed,
        ManagedObject::ApiServiceV1beta1,
        &available("False", "MissingEndpoints", "no endpoints"),
    );
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "APIServiceAvailable"), (ConditionStatus::False, Reason::MissingEndpoints));

    let mut observed = healthy();
    observed.served = Served::Succeeded { nodes: 0 };
    assert_eq!(
        short(&evaluated(&observed, &plan(), &BTreeMap::new()), "Ready"),
        (ConditionStatus::False, Reason::NoMetrics)
    );
    observed.served = Served::ErrorResponse { code: 503, message: "service unavailable".to_owned() };
    assert_eq!(
        short(&evaluated(&observed, &plan(), &BTreeMap::new()), "Ready"),
        (ConditionStatus::False, Reason::RequestFailed)
    );
}

#[test]
fn each_object_problem_belongs_to_its_condition() {
    let missing = |object: ManagedObject| {
        BTreeMap::from([(object, Problem::new(Reason::PermissionMissing, "cannot patch"))])
    };
    for (object, condition) in [
        (ManagedObject::CollectorRole, "AccessReady"),
        (ManagedObject::CaSecret, "CertificatesReady"),
        (ManagedObject::Deployment, "DeploymentAvailable"),
        (ManagedObject::ApiServiceV1, "APIServiceAvailable"),
    ] {
        let conditions = evaluated(&healthy(), &plan(), &missing(object));
        assert_eq!(short(&conditions, condition), (ConditionStatus::False, Reason::PermissionMissing));
        assert_eq!(conditions["Ready"].message, format!("{condition}: cannot patch"));
    }
}

#[test]
fn ready_prefers_a_cause_to_waiting_for_dependency() {
    let failed = BTreeMap::from([
        (ManagedObject::Deployment, Problem::new(Reason::WaitingForDependency, "waits")),
        (ManagedObject::ConfigMap, Problem::new(Reason::KubeletCANotFound, "no CA")),
    ]);
    let conditions = evaluated(&healthy(), &plan(), &failed);
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::KubeletCANotFound));
}

#[test]
fn previous_replicas_keep_the_deployment_available_while_a_rollout_fails() {
    let mut observed = healthy();
    let surging =
        json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1 });
    put(&mut observed, ManagedObject::Deployment, &surging);
    let pod = json!({ "metadata": { "name": "new" }, "status": { "phase": "Pending", "containerStatuses": [{
        "name": "metrics-core", "image": "x:2", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } }] } });
    observed.pods = vec![serde_json::from_value(pod).expect("a pod")];
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "DeploymentAvailable"), (ConditionStatus::True, Reason::ImagePullBackOff));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::True, Reason::ImagePullBackOff));

    let down = json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1 });
    put(&mut observed, ManagedObject::Deployment, &down);
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::ImagePullBackOff));
}

#[test]
fn failed_create_quotes_the_message_of_kubernetes() {
    let mut observed = healthy();
    let refused = json!({ "observedGeneration": 2, "conditions": [
        { "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q" }] });
    put(&mut observed, ManagedObject::Deployment, &refused);
    let conditions = evaluated(&observed, &plan(), &BTreeMap::new());
    assert_eq!(short(&conditions, "DeploymentAvailable"), (ConditionStatus::False, Reason::FailedCreate));
    assert!(conditions["Ready"].message.contains("exceeded quota: q"));
}

#[test]
fn metrics_of_a_foreign_api_service_do_not_count() {
    let mut observed = healthy();
    let foreign = json!({ "metadata": { "name": "v1beta1.metrics.k8s.io" }, "status": available("True", "Passed", "") });
    let foreign = serde_json::from_value(foreign).expect("an object");
    observed.objects.insert(ManagedObject::ApiServiceV1beta1, Found::Present(Box::new(foreign)));
    let mut plan = plan();
    plan.blocked.insert(ManagedObject::ApiServiceV1beta1, Problem::new(Reason::ForeignAPIService, "theirs"));
    let conditions = evaluated(&observed, &plan, &BTreeMap::new());
    assert_eq!(short(&conditions, "MetricsServed"), (ConditionStatus::Unknown, Reason::WaitingForDependency));
    assert_eq!(short(&conditions, "Ready"), (ConditionStatus::False, Reason::ForeignAPIService));
}

#[test]
fn every_message_ends_with_a_full_stop() {
    let served = Pipeline::for_test("old", MetricsPipelineSpec::default());
    let all = [
        conflict(&served),
        malformed("x"),
        evaluated(&Observed::default(), &plan(), &BTreeMap::new()).into_values().collect(),
    ];
    for condition in all.concat() {
        assert!(condition.message.ends_with('.'), "{}", condition.message);
    }
    assert!(conflict(&served)[0].message.contains("MetricsPipeline old"));
}
