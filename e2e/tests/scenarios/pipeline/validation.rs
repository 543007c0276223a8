//! An invalid MetricsPipeline is rejected with a message that names the field, or reported by a condition.

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::pipeline;
use e2e::{Result, check};
use serde_json::{Value, json};

use super::{MINUTE, condition};

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "rejects_invalid_specs_and_names_the_field",
        Needs::Cluster,
        rejects_invalid_specs_and_names_the_field,
    );
}

/// A group of its own: the operator writes status for a second MetricsPipeline, and the calm cluster must have no
/// writes.
pub(super) fn add_second(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "reports_a_conflict_for_a_second_pipeline",
        Needs::Cluster,
        reports_a_conflict_for_a_second_pipeline,
    );
}

fn rejects_invalid_specs_and_names_the_field(env: &TestEnv) -> Result<()> {
    let create = |spec: &Value| {
        let manifest = pipeline::manifest("invalid", spec);
        env.client.with_manifest(&["create", "--dry-run=server", "--validate=strict"], &manifest)
    };
    for (spec, words) in [invalid_metrics_core(), invalid_nanny(), invalid_rest()].concat() {
        match create(&spec) {
            Err(error) if error.to_string().contains(words) => {}
            Err(error) => return Err(failed(format!("{spec}: rejected without {words:?}: {error}"))),
            Ok(_) => return Err(failed(format!("{spec} is accepted"))),
        }
    }
    valid().iter().try_for_each(|spec| create(spec).map(drop))
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn core(fields: Value) -> Value {
    json!({"metricsCore": fields})
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn issuer(reference: Value) -> Value {
    json!({"certificates": {"source": "CertManager", "certManager": {"issuerRef": reference}}})
}

/// Specs, each with a text of the error.
fn invalid_metrics_core() -> Vec<(Value, &'static str)> {
    vec![
        (core(json!({"metricResolution": "-5s"})), "spec.metricsCore.metricResolution"),
        (core(json!({"metricResolution": "100ms"})), "must be a duration from 1s to 10m"),
        (core(json!({"metricResolution": "soon"})), "spec.metricsCore.metricResolution"),
        (core(json!({"kubelet": {"addressTypes": ["Postbox"]}})), "spec.metricsCore.kubelet.addressTypes[0]"),
        (core(json!({"kubelet": {"addressTypes": []}})), "spec.metricsCore.kubelet.addressTypes"),
        (core(json!({"kubelet": {"port": 0}})), "spec.metricsCore.kubelet.port"),
        (core(json!({"replicas": 0})), "spec.metricsCore.replicas"),
        (core(json!({"resources": {"requests": {"cpu": "-1"}}})), "spec.metricsCore.resources.requests.cpu"),
        (
            core(json!({"resources": {"requests": {"memory": "lots"}}})),
            "spec.metricsCore.resources.requests.memory",
        ),
        (
            core(json!({"kubelet": {"tls": {"mode": "Insecure", "certificateAuthority": {"name": "x"}}}})),
            "certificateAuthority: must be absent with mode Insecure",
        ),
        (
            core(json!({"kubelet": {"tls": {"certificateAuthority": {"name": "metrics-core"}}}})),
            "name: the operator manages the ConfigMap of this name",
        ),
        (
            json!({"certificates": {"source": "Secret", "secretRef": {"name": "metrics-core-serving"}}}),
            "name: the operator manages the Secret of this name",
        ),
        (
            core(json!({"podMetadata": {"labels": {"app.kubernetes.io/managed-by": "a"}}})),
            "spec.metricsCore.podMetadata.labels: Invalid value: app.kubernetes.io/managed-by",
        ),
        (
            core(json!({"podMetadata": {"labels": {"-team": "a"}}})),
            "spec.metricsCore.podMetadata.labels: Invalid value: keys must be qualified names",
        ),
        (core(json!({"strategy": {}})), "spec.metricsCore.strategy.type"),
        (
            core(json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}})),
            "rollingUpdate: must be absent with type Recreate",
        ),
        (
            core(
                json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}}}),
            ),
            "maxUnavailable: must not be 0 if maxSurge is 0",
        ),
        (
            core(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": -1}}})),
            "spec.metricsCore.strategy.rollingUpdate.maxSurge",
        ),
        (core(json!({"imageDigest": "sha256:0"})), "spec.metricsCore.imageDigest"),
        (
            core(json!({"image": "a@sha256:0", "imageDigest": format!("sha256:{}", "0".repeat(64))})),
            "imageDigest: must be absent if image contains a digest",
        ),
        (core(json!({"securePort": 0})), "spec.metricsCore.securePort"),
        (
            core(json!({"extraArgs": ["--max-watches=3", "--metric-resolution=5s"]})),
            "--metric-resolution: can't be set here; set spec.metricsCore.metricResolution instead",
        ),
        (
            core(json!({"extraArgs": ["-kubelet_insecure_tls"]})),
            "--kubelet-insecure-tls: can't be set here; set spec.metricsCore.kubelet.tls.mode instead",
        ),
        (
            core(json!({"extraArgs": ["-la=b"]})),
            "--node-selector: can't be set here; set spec.metricsCore.kubelet.nodeSelector instead",
        ),
    ]
}

fn invalid_nanny() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"nanny": {"cpu": "-1m"}}), "spec.nanny.cpu"),
        (json!({"nanny": {"extraCpu": "1Z"}}), "spec.nanny.extraCpu"),
        (json!({"nanny": {"memory": 0}}), "spec.nanny.memory"),
        (json!({"nanny": {"extraMemory": "17Ti"}}), "spec.nanny.extraMemory"),
        (json!({"nanny": {"extraCpu": "1001"}}), "spec.nanny.extraCpu"),
        (json!({"nanny": {"cpu": "1 core"}}), "spec.nanny.cpu"),
        (json!({"nanny": {"memory": "0Mi"}}), "spec.nanny.memory"),
        (json!({"nanny": {"threshold": 100}}), "spec.nanny.threshold"),
        (json!({"nanny": {"threshold": -1}}), "spec.nanny.threshold"),
        (json!({"nanny": {"minClusterSize": 1}}), "spec.nanny.minClusterSize"),
        (json!({"nanny": {"minClusterSize": 100_001}}), "spec.nanny.minClusterSize"),
        (json!({"nanny": {"scaleUpDelay": "25h"}}), "must be a duration from 0s to 24h"),
        (json!({"nanny": {"scaleDownDelay": "-1s"}}), "spec.nanny.scaleDownDelay"),
        (
            json!({"nanny": {"min": {"memory": "2Gi"}, "max": {"memory": "1Gi"}}}),
            "min.memory: must not exceed max.memory",
        ),
        (json!({"nanny": {"min": {"cpu": 2}, "max": {"cpu": "1999m"}}}), "min.cpu: must not exceed max.cpu"),
        (json!({"nanny": {"min": {"cpu": "much"}}}), "spec.nanny.min.cpu"),
        (json!({"nanny": {"max": {"memory": "-1Gi"}}}), "spec.nanny.max.memory"),
        (json!({"nanny": {"limits": "None"}}), "spec.nanny.limits"),
        (json!({"nanny": {"scalingMode": "PodProportional"}}), "spec.nanny.scalingMode"),
        (json!({"nanny": {"estimator": "Guess"}}), "spec.nanny.estimator"),
        (json!({"nanny": {"mode": "Maybe"}}), "spec.nanny.mode"),
    ]
}

fn invalid_rest() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"certificates": {"servingValidity": "72h", "caValidity": "24h"}}),
            "must not exceed caValidity",
        ),
        (
            json!({"certificates": {"source": "CertManager"}}),
            "certManager: is required with source CertManager",
        ),
        (
            json!({"certificates": {"certManager": {"issuerRef": {"name": "a"}}}}),
            "certManager: is required with source CertManager",
        ),
        (issuer(json!({})), "spec.certificates.certManager.issuerRef.name"),
        (issuer(json!({"name": "Not a name"})), "spec.certificates.certManager.issuerRef.name"),
        (issuer(json!({"name": "a", "kind": "Secret"})), "kind: must be Issuer or ClusterIssuer"),
        (json!({"apiService": {"adoption": "Sometimes"}}), "spec.apiService.adoption"),
        (
            json!({"commonMetadata": {"labels": {"app.kubernetes.io/name": "a"}}}),
            "spec.commonMetadata.labels: Invalid value: app.kubernetes.io/name",
        ),
        (
            json!({"commonMetadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}}}),
            "rbac.authorization.k8s.io/: keys with this prefix are reserved",
        ),
        (
            json!({"commonMetadata": {"annotations": {"metrics-pipeline.dev/a": "b"}}}),
            "metrics-pipeline.dev/: keys with this prefix are reserved",
        ),
        (json!({"commonMetadata": {"labels": {"a": "no value"}}}), "spec.commonMetadata.labels.a"),
        (
            json!({"commonMetadata": {"labels": {"my team": "a"}}}),
            "spec.commonMetadata.labels: Invalid value: keys must be qualified names",
        ),
        (
            json!({"commonMetadata": {"annotations": {"example.com/a/b": "c"}}}),
            "spec.commonMetadata.annotations: Invalid value: keys must be qualified names",
        ),
        (
            json!({"commonMetadata": {"annotations": {"a": "b".repeat(4097)}}}),
            "spec.commonMetadata.annotations.a",
        ),
        (json!({"nonsense": true}), "spec.nonsense"),
    ]
}

fn valid() -> Vec<Value> {
    vec![
        json!({}),
        json!({"nanny": {"mode": "Recommend", "estimator": "Linear", "cpu": 1, "extraCpu": "0.5m", "extraMemory": "4Mi",
            "scaleUpDelay": "0s", "scaleDownDelay": "24h", "min": {"cpu": 1}, "max": {"cpu": "1000m", "memory": "1Gi"}}}),
        core(
            json!({"metricResolution": "1s", "replicas": 2, "kubelet": {"port": 10250, "tls": {"mode": "Insecure"}}}),
        ),
        core(json!({"resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"memory": "1Gi"}}})),
        json!({"commonMetadata": {"labels": {"team": "a", "x.y/z": ""},
            "annotations": {"note": "any text", "Example.com/Note": ""}}}),
        core(json!({
            "imageDigest": format!("sha256:{}", "0".repeat(64)),
            "podMetadata": {"annotations": {"mesh/inject": "false"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"}},
            "extraArgs": ["--max-watches=3", "-v=4", "-logtostderr"],
        })),
        core(json!({"strategy": {"type": "Recreate"}, "securePort": 10250})),
        issuer(json!({"name": "a"})),
        issuer(json!({"name": "a.b", "kind": "ClusterIssuer"})),
        issuer(json!({"name": "a", "kind": "AWSPCAIssuer", "group": "awspca.cert-manager.io"})),
    ]
}

fn reports_a_conflict_for_a_second_pipeline(env: &TestEnv) -> Result<()> {
    env.client.apply(&pipeline::manifest("second", &json!({})))?;
    let seen = env.client.wait_for("the second MetricsPipeline is a Conflict", MINUTE, |client| {
        let object = client.get(&["mpl", "second"])?;
        match condition(&object, "Ready") {
            Some(ready) if ready["status"] == "False" && ready["reason"] == "Conflict" => Ok(object),
            _ => Err(object["status"].to_string().into()),
        }
    });
    env.client.delete(&["mpl", "second"])?;
    let seen = seen?;
    let conditions = pipeline::conditions(&seen);
    check!(conditions.len() >= 6, "not all conditions are there from the first visit: {conditions:?}");
    check!(
        conditions.iter().all(|[_, _, reason, message]| !reason.is_empty() && !message.is_empty()),
        "{conditions:?}"
    );
    let named = conditions.iter().any(|row| row[0] == "Ready" && row[3].contains(pipeline::NAME));
    check!(named, "the message does not name the one that is served: {conditions:?}");
    super::ready(&env.client)
}
