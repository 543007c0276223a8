use std::collections::BTreeMap;
use std::sync::Arc;

use crds::MetricsPipelineSpec;
use serde_json::{Value, json};

use super::*;
use crate::common::ManagedObject;
use crate::observe::{Found, FrontProxyMap, ReplicaReport, ReportError, Served};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn ca(name: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate").pem()
}

fn map(change: &[(&str, Option<&str>)]) -> FrontProxyMap {
    let mut data: BTreeMap<String, String> = [
        ("client-ca-file", ca("clients")),
        ("requestheader-client-ca-file", ca("proxies")),
        ("requestheader-allowed-names", r#"["aggregator"]"#.to_owned()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.to_owned()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for (key, value) in change {
        match value {
            Some(value) => data.insert((*key).to_owned(), (*value).to_owned()),
            None => data.remove(*key),
        };
    }
    FrontProxyMap::Found(data)
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn replica(more: Value) -> ReplicaReport {
    let mut report = json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:10:00Z",
        "nodes": { "known": 1, "covered": 1, "failing": 0 } });
    for (key, value) in more.as_object().expect("an object") {
        report[key] = value.clone();
    }
    ReplicaReport {
        pod: "metrics-core-1".to_owned(),
        uid: "u".to_owned(),
        ready: true,
        report: Ok(Arc::new(serde_json::from_value(report).expect("a report"))),
        failures: 0,
    }
}

/// Returns the state of a pipeline whose APIServices are unavailable with this message.
fn unavailable(message: &str) -> Observed {
    let mut observed = Observed {
        nodes: Some(1),
        served: Served::ErrorResponse { code: 503, message: "service unavailable".to_owned() },
        front_proxy: map(&[]),
        network_policies: Some(Vec::new()),
        ..Observed::default()
    };
    for object in ManagedObject::API_SERVICES {
        let found = json!({
            "metadata": { "name": object.name(), "labels": { "app.kubernetes.io/managed-by": "metrics-pipeline-operator" } },
            "spec": { "groupPriorityMinimum": 1, "versionPriority": 1 },
            "status": { "conditions": [{ "type": "Available", "status": "False",
                "reason": "FailedDiscoveryCheck", "message": message }] },
        });
        observed
            .objects
            .insert(object, Found::Present(Box::new(serde_json::from_value(found).expect("an object"))));
    }
    observed
}

fn served() -> Observed {
    let mut observed = unavailable("");
    for found in observed.objects.values_mut() {
        if let Found::Present(object) = found {
            object.data["status"]["conditions"][0]["status"] = json!("True");
        }
    }
    observed.served = Served::Succeeded { nodes: 1 };
    observed.replicas = vec![replica(json!({ "lastFrontProxyRequest": "2026-01-01T00:09:59Z" }))];
    observed
}

fn of(observed: &Observed) -> Diagnosis {
    let spec = MetricsPipelineSpec::default();
    let mut observed = observed.clone();
    observed.derive_facts();
    diagnose(DiagnosisInput { namespace: "ns", spec: &spec, observed: &observed, now: now() })
}

fn refused(cause: &str, last: &str) -> Value {
    json!([{ "cause": cause, "count": 7, "last": last, "examples": [{
        "commonName": "aggregator", "issuer": "CN=a CA", "client": "10.0.0.1", "forApi": true,
        "message": "refused", "last": last }] }])
}

const SWALLOWED: &str = r#"["X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User"]"#;

fn reason(cause: Option<&Cause>) -> Option<(Reason, Severity)> {
    cause.map(|cause| (cause.reason, cause.severity))
}

fn front_proxy(observed: &Observed) -> Option<(Reason, Severity)> {
    let diagnosis = of(observed);
    assert_eq!(diagnosis.path, None, "one cause only");
    reason(diagnosis.front_proxy.as_ref())
}

#[test]
fn a_healthy_pipeline_has_no_cause() {
    assert_eq!(of(&served()), Diagnosis::default());
}

#[test]
fn each_rejection_of_the_proxy_certificate_has_a_cause() {
    for (code, expected) in [
        ("cn_not_allowed", Reason::ProxyNameNotAllowed),
        ("unknown_ca", Reason::ProxyCertificateUnknownCA),
        ("expired", Reason::ProxyCertificateExpired),
        ("not_yet_valid", Reason::ProxyCertificateExpired),
        ("not_for_clients", Reason::ProxyCertificateInvalid),
        ("no_username", Reason::UsernameHeadersMissing),
    ] {
        let mut observed = unavailable("bad status from https://10.0.0.9:4443: 401");
        let refused = refused(code, "2026-01-01T00:09:40Z");
        observed.replicas = vec![replica(json!({ "refusedCredentials": refused }))];
        assert_eq!(front_proxy(&observed), Some((expected, Severity::Fault)), "{code}");
        let message = of(&observed).front_proxy.expect("a cause").message();
        assert!(message.contains("CN=aggregator") && message.contains("provider"), "{message}");
    }
}

#[test]
fn distinguishes_malformed_flags_from_missing_headers() {
    let mut observed = unavailable("401");
    let refused = refused("no_username", "2026-01-01T00:09:50Z");
    observed.replicas = vec![replica(json!({ "refusedCredentials": refused }))];
    observed.front_proxy = map(&[
        ("requestheader-extra-headers-prefix", Some(SWALLOWED)),
        ("requestheader-username-headers", Some("[]")),
        ("requestheader-group-headers", Some("null")),
        ("requestheader-allowed-names", Some("[]")),
    ]);
    assert_eq!(front_proxy(&observed), Some((Reason::RequestHeaderFlagsMalformed, Severity::Fault)));
    // Reported even before the first request.
    observed.replicas.clear();
    assert_eq!(front_proxy(&observed), Some((Reason::RequestHeaderFlagsMalformed, Severity::Fault)));
    assert_eq!(
        reason(
            of(&Observed { front_proxy: observed.front_proxy.clone(), ..Observed::default() })
                .front_proxy
                .as_ref()
        ),
        Some((Reason::RequestHeaderFlagsMalformed, Severity::Fault))
    );
}

#[test]
fn stale_config_map_values_are_a_warning_while_requests_succeed() {
    let mut observed = served();
    observed.front_proxy = map(&[("requestheader-extra-headers-prefix", Some(SWALLOWED))]);
    assert_eq!(front_proxy(&observed), Some((Reason::StaleConfiguration, Severity::Warning)));
    // A correct value from before does not hide a rejection: recent requests decide.
    let mut observed = unavailable("401");
    let refused = refused("cn_not_allowed", "2026-01-01T00:09:50Z");
    observed.replicas = vec![replica(
        json!({ "refusedCredentials": refused, "lastFrontProxyRequest": "2026-01-01T00:09:00Z" }),
    )];
    assert_eq!(front_proxy(&observed), Some((Reason::ProxyNameNotAllowed, Severity::Fault)));
}

#[test]
fn an_accepted_request_after_a_rejection_clears_the_front_proxy() {
    let mut observed = unavailable("Get \"https://10.0.0.9:4443/apis\": context deadline exceeded");
    let refused = refused("cn_not_allowed", "2026-01-01T00:09:20Z");
    observed.replicas = vec![replica(
        json!({ "refusedCredentials": refused, "lastFrontProxyRequest": "2026-01-01T00:09:50Z" }),
    )];
    let diagnosis = of(&observed);
    assert_eq!(diagnosis.front_proxy, None);
    assert_eq!(reason(diagnosis.path.as_ref()), Some((Reason::Unreachable, Severity::Fault)));
}

#[test]
fn one_of_several_kube_apiservers_does_not_clear_another() {
    let with = |client: &str, words: &str| {
        let mut observed = unavailable(words);
        let accepted = json!({ "commonName": "front-proxy-client", "issuer": "CN=a CA", "client": client });
        observed.replicas = vec![replica(json!({
            "refusedCredentials": refused("expired", "2026-01-01T00:09:40Z"),
            "lastFrontProxyRequest": "2026-01-01T00:09:50Z", "lastFrontProxy": accepted,
        }))];
        reason(of(&observed).front_proxy.as_ref())
    };
    let words = "bad status from https://10.0.0.9:4443/apis: 401";
    assert_eq!(with("10.0.0.2", words), Some((Reason::ProxyCertificateExpired, Severity::Fault)));
    assert_eq!(with("10.0.0.1", words), None);
    assert_eq!(with("10.0.0.2", "context deadline exceeded"), None);
}

#[test]
fn distinguishes_a_missing_certificate_from_a_missing_aggregation_layer() {
    let anonymous = json!({ "lastAnonymousRequest": "2026-01-01T00:09:50Z" });
    let mut observed = unavailable("bad status from https://10.0.0.9:4443/apis: 403");
    observed.replicas = vec![replica(anonymous)];
    assert_eq!(front_proxy(&observed), Some((Reason::ProxyCertificateMissing, Severity::Fault)));
    observed.front_proxy = map(&[("requestheader-client-ca-file", None)]);
    assert_eq!(front_proxy(&observed), Some((Reason::AggregationLayerNotConfigured, Severity::Fault)));
    observed.front_proxy = FrontProxyMap::Absent;
    assert_eq!(front_proxy(&observed), Some((Reason::AggregationLayerNotConfigured, Severity::Fault)));
}

#[test]
fn reports_missing_group_headers() {
    let mut observed = unavailable("bad status: 403");
    observed.front_proxy = map(&[("requestheader-group-headers", Some("[]"))]);
    observed.replicas = vec![replica(json!({ "lastFrontProxyRequest": "2026-01-01T00:09:50Z" }))];
    assert_eq!(front_proxy(&observed), Some((Reason::GroupHeadersMissing, Severity::Fault)));
}

#[test]
fn empty_allowed_names_are_a_warning_only_with_a_shared_ca() {
    let shared = ca("one for all");
    let mut observed = served();
    observed.front_proxy = map(&[("requestheader-allowed-names", Some("[]"))]);
    assert_eq!(front_proxy(&observed), None);
    observed.front_proxy = map(&[
        ("requestheader-allowed-names", Some("[]")),
        ("client-ca-file", Some(&shared)),
        ("requestheader-client-ca-file", Some(&shared)),
    ]);
    assert_eq!(front_proxy(&observed), Some((Reason::AnyClientMayImpersonate, Severity::Warning)));
}

#[test]
fn one_of_several_api_servers_is_a_warning() {
    let mut observed = served();
    let refused = refused("cn_not_allowed", "2026-01-01T00:09:55Z");
    observed.replicas = vec![replica(
        json!({ "refusedCredentials": refused, "lastFrontProxyRequest": "2026-01-01T00:09:59Z" }),
    )];
    assert_eq!(front_proxy(&observed), None, "a rejection from before requests succeeded is resolved");
    observed.succeeding_since = Some("2026-01-01T00:05:00Z".parse().expect("a time"));
    assert_eq!(front_proxy(&observed), Some((Reason::ProxyNameNotAllowed, Severity::Warning)));
    observed.served_in_doubt = true;
    assert_eq!(front_proxy(&observed), None, "the next request decides");
}

#[test]
fn warns_before_the_proxy_certificate_expires() {
    let mut observed = served();
    observed.replicas = vec![replica(json!({ "lastFrontProxyRequest": "2026-01-01T00:09:59Z",
        "lastFrontProxy": { "commonName": "aggregator", "issuer": "CN=x", "notAfter": "2026-01-05T00:00:00Z" } }))];
    assert_eq!(front_proxy(&observed), Some((Reason::ProxyCertificateExpired, Severity::Warning)));
}

#[test]
fn names_the_network_policy_that_blocks_or_rules_policies_out() {
    let mut observed =
        unavailable("Get \"https://10.0.0.9:4443\": net/http: request canceled (Client.Timeout exceeded)");
    observed.replicas = vec![replica(json!({}))];
    let path = of(&observed).path.expect("a cause");
    assert_eq!(path.reason, Reason::Unreachable);
    assert!(
        path.evidence.contains("NetworkPolicy is not the cause") && path.evidence.contains("so they run"),
        "{}",
        path.evidence
    );
    let policy = json!({ "metadata": { "name": "default-deny", "namespace": "ns" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } });
    observed.network_policies = Some(vec![serde_json::from_value(policy).expect("a policy")]);
    let path = of(&observed).path.expect("a cause");
    assert_eq!(path.reason, Reason::BlockedByNetworkPolicy);
    assert!(path.summary.contains("NetworkPolicy ns/default-deny"), "{}", path.summary);
}

#[test]
fn reports_a_serving_certificate_mismatch_on_x509_errors() {
    let mut observed =
        unavailable("tls: failed to verify certificate: x509: certificate signed by unknown authority");
    observed.replicas = vec![replica(json!({}))];
    observed.replicas[0].report = Err(ReportError::Untrusted("UnknownIssuer".to_owned()));
    let path = of(&observed).path.expect("a cause");
    assert_eq!(path.reason, Reason::ServingCertificateMismatch);
    assert!(path.evidence.contains("pod metrics-core-1 (UnknownIssuer)"), "{}", path.evidence);
}

#[test]
fn an_unknown_cause_reports_what_was_ruled_out() {
    let mut observed = unavailable("bad status from https://10.0.0.9:4443/apis: 401");
    observed.replicas = vec![replica(json!({}))];
    observed.replicas[0].report = Err(ReportError::Timeout);
    let cause = of(&observed).front_proxy.expect("a cause");
    assert_eq!(cause.reason, Reason::ReportUnavailable);
    assert!(cause.evidence.contains("so it is not the cause"), "{}", cause.evidence);
    let mut observed = unavailable("bad status from https://10.0.0.9:4443/apis: 500");
    observed.replicas = vec![replica(json!({ "lastFrontProxyRequest": "2026-01-01T00:09:59Z" }))];
    let path = of(&observed).path.expect("a cause");
    assert!(path.summary.contains("unknown") && path.evidence.contains("neither"), "{}", path.message());
}

#[test]
fn every_kubelet_cause_has_a_remedy() {
    for cause in ScrapeCause::ALL {
        if *cause == ScrapeCause::NodeDeleted {
            continue;
        }
        let mut observed = served();
        let scrapes = json!([{ "cause": cause, "nodes": 1, "examples": [{ "node": "node-1",
            "address": "10.0.0.1:10250", "message": "words", "since": "2026-01-01T00:00:00Z" }] }]);
        observed.replicas =
            vec![replica(json!({ "nodes": { "known": 1, "covered": 0, "failing": 1 }, "scrapes": scrapes }))];
        let found = of(&observed).kubelets.expect("a cause");
        assert!(found.summary.contains("1 node (node-1)"), "{}", found.summary);
        assert!(found.remedy.len() > 20 && found.message().ends_with('.'), "{}", found.message());
    }
}

#[test]
fn every_sample_cause_has_evidence_and_a_remedy() {
    let mut reasons = std::collections::BTreeSet::new();
    for cause in SampleCause::ALL {
        let mut observed = served();
        let samples = json!([{ "cause": cause, "nodes": 1, "count": 1, "examples": [{ "node": "node-1",
            "count": 1, "message": "words", "since": "2026-01-01T00:00:00Z" }] }]);
        observed.replicas = vec![replica(json!({ "samples": samples }))];
        let found = of(&observed);
        assert_eq!(found.kubelets, None);
        let found = found.samples.expect("a cause");
        assert!(found.summary.contains("1 node (node-1)"), "{}", found.summary);
        assert!(found.evidence.contains("for node node-1: \"words\"."), "{}", found.evidence);
        assert!(found.remedy.len() > 20 && found.message().ends_with('.'), "{}", found.message());
        assert!(reasons.insert(found.reason.as_str()), "{cause} has a reason of its own");
        assert_eq!(name_of_code(cause.as_str()).0 == found.reason, cause.as_str() != "other");
    }
}

#[test]
fn diagnosis_page_has_reason_and_severity_of_every_sample_cause() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnosis.md");
    let page = std::fs::read_to_string(page).expect("the page");
    for cause in SampleCause::ALL.iter().filter(|cause| **cause != SampleCause::Other) {
        let start = format!("| `{cause}` | ");
        let row = page.lines().find(|line| line.starts_with(&start)).expect("a row");
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let reason = samples::name(*cause).0;
        assert!(cells[2].starts_with(&format!("`NodesCovered`, `{reason}`")), "{row}");
        let severity = match samples::severity(*cause) {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
        };
        assert!(cells[3].starts_with(severity), "{row}");
    }
}

#[test]
fn faults_of_samples_come_before_warnings_and_name_the_others() {
    let mut observed = served();
    let issues = |cause: &str, nodes: usize, count: usize| {
        json!({ "cause": cause, "nodes": nodes, "count": count, "examples": [
            { "node": "node-1", "message": "words", "since": "2026-01-01T00:00:00Z" }] })
    };
    let samples = json!([
        issues("cause_of_a_newer_version", 7, 7),
        issues("duplicate_series", 5, 6),
        issues("zero_usage", 2, 4)
    ]);
    observed.replicas = vec![replica(json!({ "samples": samples }))];
    let cause = of(&observed).samples.expect("a cause");
    assert_eq!((cause.reason, cause.severity), (Reason::KubeletZeroUsage, Severity::Fault));
    assert!(cause.summary.contains("4 containers on 2 nodes (such as node-1)"), "{}", cause.summary);
    assert!(
        cause.evidence.ends_with(
            "Other causes: cause_of_a_newer_version: 7 nodes (such as node-1); duplicate_series: 6 containers on 5 \
             nodes (such as node-1)."
        ),
        "{}",
        cause.evidence
    );
    // A metrics-core that is newer than the operator.
    observed.replicas = vec![replica(json!({ "samples": [issues("cause_of_a_newer_version", 7, 7)] }))];
    let cause = of(&observed).samples.expect("a cause");
    assert_eq!((cause.reason, cause.severity), (Reason::KubeletSamplesFaulty, Severity::Warning));
    assert!(cause.summary.contains("(cause_of_a_newer_version): 7 nodes"), "{}", cause.summary);
}

#[test]
fn an_unknown_ca_lists_three_remedies_in_order() {
    let mut observed = served();
    observed.pending_kubelet_csrs = Some(2);
    let scrapes = json!([{ "cause": "tls_unknown_ca", "nodes": 1, "examples": [{ "node": "node-1",
        "message": "words", "since": "2026-01-01T00:00:00Z" }] }]);
    observed.replicas =
        vec![replica(json!({ "nodes": { "known": 1, "covered": 0, "failing": 1 }, "scrapes": scrapes }))];
    let message = of(&observed).kubelets.expect("a cause").message();
    let at = |part: &str| message.find(part).unwrap_or_else(|| panic!("{part} in {message}"));
    assert!(at("serverTLSBootstrap") < at("to Pin") && at("to Pin") < at("Insecure"));
    assert!(message.contains("2 CertificateSigningRequests"), "{message}");
}

#[test]
fn a_kubelet_without_a_certificate_names_pending_requests_and_how_to_approve_them() {
    let mut observed = served();
    let scrapes = json!([{ "cause": "tls_no_certificate", "nodes": 1, "examples": [{ "node": "node-1",
        "message": "words", "since": "2026-01-01T00:00:00Z" }] }]);
    observed.replicas =
        vec![replica(json!({ "nodes": { "known": 1, "covered": 0, "failing": 1 }, "scrapes": scrapes }))];
    observed.pending_kubelet_csrs = Some(3);
    let cause = of(&observed).kubelets.expect("a cause");
    assert_eq!((cause.reason, cause.severity), (Reason::KubeletCertificateMissing, Severity::Fault));
    let message = cause.message();
    assert!(message.starts_with("The kubelet has no serving certificate yet: 1 node (node-1)."), "{message}");
    for words in
        ["3 CertificateSigningRequests", "kubectl certificate approve NAME", "csrApproval.enabled=true"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    // Why the operator itself did not approve it.
    let refusal =
        ("csr-1".to_owned(), "it requests a, which is not in status.addresses of Node node-1".to_owned());
    observed.csrs_not_approved.insert("node-1".to_owned(), refusal);
    observed.csrs_not_approved.insert("node-0".to_owned(), ("csr-0".to_owned(), "another".to_owned()));
    let message = of(&observed).kubelets.expect("a cause").message();
    assert!(message.contains("The operator did not approve csr-1: it requests a, which"), "{message}");
    observed.pending_kubelet_csrs = Some(0);
    let message = of(&observed).kubelets.expect("a cause").message();
    assert!(message.contains("No CertificateSigningRequest of a kubelet is pending"), "{message}");
}

#[test]
fn a_slow_response_counts_only_if_all_nodes_are_slow() {
    let with = |cause: &str, known: usize| {
        let scrapes = json!([{ "cause": cause, "nodes": 1, "examples": [{ "node": "node-1",
            "message": "words", "since": "2026-01-01T00:09:55Z" }] }]);
        let mut observed = served();
        observed.replicas = vec![replica(
            json!({ "nodes": { "known": known, "covered": known - 1, "failing": 1 }, "scrapes": scrapes }),
        )];
        of(&observed).kubelets
    };
    assert_eq!(with("slow_response", 5), None);
    assert!(with("slow_response", 1).is_some());
    assert!(with("timeout", 5).is_some(), "a connection timeout does not depend on the load of a kubelet");
}

#[test]
fn an_unverified_kubelet_is_a_visible_warning() {
    let mut spec = MetricsPipelineSpec::default();
    spec.metrics_core.kubelet.tls.mode = crds::KubeletTlsMode::Insecure;
    let observed = served();
    let diagnosis =
        diagnose(DiagnosisInput { namespace: "ns", spec: &spec, observed: &observed, now: now() });
    assert_eq!(
        reason(diagnosis.kubelets.as_ref()),
        Some((Reason::KubeletCertificatesNotVerified, Severity::Warning))
    );
}

#[test]
fn the_message_does_not_depend_on_how_a_single_request_fails() {
    let with = |failed: Served| {
        let observed = unavailable("Get \"https://10.96.0.9:443/apis\": context deadline exceeded");
        of(&Observed { served: failed, ..observed }).path.expect("a cause").message()
    };
    let slow = with(Served::Failed { message: "no response within 5 s".into() });
    let refused =
        with(Served::ErrorResponse { code: 503, message: "error trying to reach service: timed out".into() });
    assert_eq!(slow, refused);
    assert!(slow.contains("context deadline exceeded"), "{slow}");
}

#[test]
fn the_message_does_not_contain_volatile_details() {
    let at = |port: u32, time: &str| {
        let mut observed = unavailable(&format!(
            "failing or missing response from https://10.244.0.3:4443/apis: Get \"https://10.244.0.3:4443/apis\": read tcp \
             10.99.0.1:{port}->10.244.0.3:4443: read: connection reset by peer after 5.00{port}s"
        ));
        observed.served =
            Served::Failed { message: format!("stream error: stream ID {port}; INTERNAL_ERROR") };
        let message = format!(
            "TLS: current time {time} is after 2021-01-01T00:00:00Z (read tcp 10.244.0.3:{port}->10.99.0.1:10250)"
        );
        observed.replicas = vec![replica(json!({
            "nodes": { "known": 1, "covered": 0, "failing": 1 },
            "scrapes": [{ "cause": "tls_other", "nodes": 1, "examples": [{ "node": "node-1",
                "address": "10.99.0.1:10250", "message": message, "since": "2026-01-01T00:00:00Z" }] }],
        }))];
        of(&observed)
    };
    let one = at(40_001, "2026-01-01T00:09:58Z");
    assert_eq!(one, at(51_234, "2026-01-01T00:09:59Z"));
    assert!(one.path.is_some() && one.kubelets.is_some(), "{one:?}");
}

#[test]
fn the_message_does_not_depend_on_the_replica() {
    let asked = |address: &str| {
        let mut observed = unavailable(&format!("bad status from https://{address}:4443/apis: 500"));
        let pod = |ip: &str| serde_json::from_value(json!({ "status": { "podIP": ip } })).expect("a pod");
        observed.pods = vec![pod("10.0.0.9"), pod("10.0.0.10"), pod("fd00::1")];
        of(&observed)
    };
    let one = asked("10.0.0.9");
    assert!(
        one.path.as_ref().is_some_and(|cause| cause.evidence.contains("https://POD:4443/apis")),
        "{one:?}"
    );
    assert_eq!(one, asked("10.0.0.10"));
    assert_eq!(one, asked("[fd00::1]"));
}
