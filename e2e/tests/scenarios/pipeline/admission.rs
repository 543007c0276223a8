//! The chart's ValidatingAdmissionPolicies on a real kube-apiserver: what the operator writes passes, and the attempts to
//! write more with its credential do not.
//!
//! Most attempts are made with the operator's user name and the group system:masters: RBAC then allows everything, so
//! that the policy alone decides. Every write is a server-side dry run, for which kube-apiserver runs admission as usual.

mod shapes;

use std::sync::Arc;

use e2e::suite::{Group, Needs, Suite, TestEnv, failed};
use e2e::testbed::pipeline;
use e2e::{Client, Result, check, command};
use serde_json::{Value, json};

use super::{MINUTE, ready};
use shapes::{JSON, MERGE, STRATEGIC, pod, shapes};

const OPERATOR: &str = "--as=system:serviceaccount:metrics-pipeline:metrics-pipeline-operator";
/// Permits everything, also to grant any permission.
const ADMINISTRATORS: &str = "--as-group=system:masters";
const DRY_RUN: &str = "--dry-run=server";

pub(super) fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(
        group,
        "admission_policies_have_no_type_warnings",
        Needs::OurCluster,
        policies_have_no_type_warnings,
    );
    suite.add(
        group,
        "admission_policies_accept_what_the_spec_can_set",
        Needs::OurCluster,
        accepts_what_the_spec_can_set,
    );
    suite.add(
        group,
        "admission_policies_refuse_other_shapes_of_metrics_core",
        Needs::OurCluster,
        refuses_other_shapes,
    );
    suite.add(
        group,
        "admission_policies_refuse_other_objects_of_the_operator",
        Needs::OurCluster,
        refuses_other_objects,
    );
    suite.add(
        group,
        "operator_has_no_permission_that_passes_the_policies_by",
        Needs::OurCluster,
        lacks_permissions,
    );
    suite.add(
        group,
        "pods_meet_the_restricted_pod_security_level",
        Needs::OurCluster,
        pods_meet_the_restricted_level,
    );
}

fn policies_have_no_type_warnings(env: &TestEnv) -> Result<()> {
    env.client.wait_for("every policy is type-checked", MINUTE, |client| {
        let selector = "app.kubernetes.io/part-of=metrics-pipeline";
        let policies = client.get(&["validatingadmissionpolicies", "-l", selector])?;
        let bindings = client.get(&["validatingadmissionpolicybindings", "-l", selector])?;
        let count = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
        if (count(&policies), count(&bindings)) != (5, 5) {
            return Err(format!("{} policies, {} bindings", count(&policies), count(&bindings)).into());
        }
        for policy in policies["items"].as_array().into_iter().flatten() {
            let (name, status) = (&policy["metadata"]["name"], &policy["status"]);
            if status["observedGeneration"] != policy["metadata"]["generation"] {
                return Err(format!("{name} is not checked: {status}").into());
            }
            let warnings = status["typeChecking"]["expressionWarnings"].as_array();
            if warnings.is_some_and(|warnings| !warnings.is_empty()) {
                return Err(format!("{name}: {status}").into());
            }
        }
        Ok(())
    })
}

fn patch_deployment(client: &Client, who: &[&str], kind: &str, patch: &Value) -> Result<String> {
    let patch = patch.to_string();
    let arguments = ["patch", "deployment", "metrics-core", "-n", pipeline::NAMESPACE, "-o", "json"];
    client.run(&[&arguments, who, &[kind, DRY_RUN, "-p", &patch]].concat())
}

/// The labels, placement, resources, arguments and images that a MetricsPipeline can set, all at once.
fn accepts_what_the_spec_can_set(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let everything = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}, "spec": {
        "replicas": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}},
        "template": {"metadata": {"labels": {"tier": "1"}, "annotations": {"mesh.example/inject": "false"}}, "spec": {
            "nodeSelector": {"pool": "a"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                 "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "metrics-core"}}}],
            "priorityClassName": "system-node-critical",
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [{
                "name": "metrics-core", "image": "registry.example/other@sha256:0", "imagePullPolicy": "Always",
                "args": ["--v=1"], "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            }],
        }},
    }});
    // The reference of the image is not checked before the kubelet pulls it.
    for who in [&[OPERATOR][..], &[]] {
        patch_deployment(client, who, STRATEGIC, &everything)?;
    }
    // Without the kubelets' CA (mode Insecure) there is no volume.
    let no_volume = json!([
        {"op": "remove", "path": "/spec/template/spec/volumes"},
        {"op": "remove", "path": "/spec/template/spec/containers/0/volumeMounts"},
    ]);
    patch_deployment(client, &[OPERATOR], JSON, &no_volume)?;
    // Other Deployments of the namespace are not concerned, whoever else writes them.
    let other = deployment_like(client, &json!({"name": "other"}), |pod| {
        pod["hostPID"] = true.into();
        pod["serviceAccountName"] = "default".into();
    })?;
    client.with_manifest(&["create", DRY_RUN], &other)?;
    // Scaling, metadata and status do not change the template.
    let object = ["deployment", "metrics-core", "-n", pipeline::NAMESPACE, DRY_RUN];
    client.run(&[&["scale", "--replicas=2"], &object[..], &[OPERATOR, ADMINISTRATORS]].concat())?;
    client.run(&[&["label"], &object[..2], &["a=b"], &object[2..], &[OPERATOR]].concat())?;
    Ok(())
}

/// Returns the Deployment of metrics-core with other metadata and a changed pod.
fn deployment_like(client: &Client, metadata: &Value, change: impl Fn(&mut Value)) -> Result<String> {
    let mut object = client.get(&["-n", pipeline::NAMESPACE, "deployment", "metrics-core"])?;
    object["metadata"] = metadata.clone();
    if object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = pipeline::NAMESPACE.into();
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let pod = &mut object["spec"]["template"]["spec"];
    // It repeats serviceAccountName, which an attempt changes.
    if let Some(fields) = pod.as_object_mut() {
        fields.remove("serviceAccount");
    }
    change(pod);
    Ok(object.to_string())
}

fn refuses_other_shapes(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    for (kind, patch, expected) in shapes() {
        // The operator with its own permissions, and any other writer.
        for who in [&[OPERATOR][..], &[]] {
            refused(&format!("{who:?} {kind} {patch}"), expected, || {
                patch_deployment(client, who, kind, &patch)
            })?;
        }
    }
    // The same by other requests: server-side apply, a complete object, creation.
    let host = |pod: &mut Value| pod["hostPID"] = true.into();
    let named = json!({"name": "metrics-core"});
    let apply =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=metrics-pipeline-operator", DRY_RUN];
    let bad = deployment_like(client, &named, host)?;
    refused("server-side apply", "hostPID", || {
        client.with_manifest(&[&apply[..], &[OPERATOR]].concat(), &bad)
    })?;
    refused("update", "hostPID", || {
        client.with_manifest(&["replace", DRY_RUN, OPERATOR, ADMINISTRATORS], &bad)
    })?;
    // The status subresource ignores everything but the status.
    let status = client.run(&[
        "patch",
        "deployment",
        "metrics-core",
        "-n",
        pipeline::NAMESPACE,
        "--subresource=status",
        DRY_RUN,
        OPERATOR,
        ADMINISTRATORS,
        "-o",
        "json",
        MERGE,
        "-p",
        &pod(json!({"hostPID": true})).to_string(),
    ])?;
    check!(!status.contains("\"hostPID\": true"), "the status subresource changed the template: {status}");
    Ok(())
}

fn refuses_other_objects(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let namespace = pipeline::NAMESPACE;
    let create = ["create", DRY_RUN, OPERATOR, ADMINISTRATORS];
    let only_core = "Deployment metrics-core only";
    for metadata in [json!({"name": "other"}), json!({"generateName": "metrics-core-"})] {
        let other = deployment_like(client, &metadata, |_| {})?;
        refused("another Deployment", only_core, || client.with_manifest(&create, &other))?;
        // RBAC refuses it before.
        refused("another Deployment", "cannot create", || {
            client.with_manifest(&["create", DRY_RUN, OPERATOR], &other)
        })?;
    }
    let other = deployment_like(client, &json!({"name": "other"}), |_| {})?;
    refused("another Deployment by server-side apply", "cannot patch", || {
        client.with_manifest(&["apply", "--server-side", DRY_RUN, OPERATOR], &other)
    })?;
    let elsewhere =
        deployment_like(client, &json!({"name": "metrics-core", "namespace": "default"}), |_| {})?;
    refused("a Deployment in another namespace", "cannot create", || {
        client.with_manifest(&["create", DRY_RUN, OPERATOR], &elsewhere)
    })?;

    let secret = |kind: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data, "metadata": {
            "name": "attempt", "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": "default"}}})
        .to_string()
    };
    for kind in ["kubernetes.io/service-account-token", "Opaque"] {
        refused(kind, "kubernetes.io/tls only", || client.with_manifest(&create, &secret(kind, json!({}))))?;
    }
    let pair = json!({"tls.crt": "YQ==", "tls.key": "YQ=="});
    client.with_manifest(&create, &secret("kubernetes.io/tls", pair))?;
    client.with_manifest(&["create", DRY_RUN], &secret("Opaque", json!({})))?;

    let patch = |object: &[&str], patch: Value| {
        let patch = patch.to_string();
        client.run(
            &[&["patch"], object, &[DRY_RUN, OPERATOR, ADMINISTRATORS, MERGE, "-p", patch.as_str()]].concat(),
        )
    };
    let service = ["service", "metrics-core", "-n", namespace];
    for spec in [
        json!({"externalIPs": ["192.0.2.1"]}),
        json!({"type": "NodePort"}),
        json!({"type": "LoadBalancer"}),
        json!({"type": "ExternalName", "externalName": "example.org", "clusterIP": "", "clusterIPs": null}),
    ] {
        refused("a Service", "type ClusterIP only", || patch(&service, json!({"spec": spec})))?;
    }
    patch(&service, json!({"metadata": {"labels": {"team": "a"}}}))?;

    let rule = |verb: &str| json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]});
    for role in [&["clusterrole", "metrics-core:collector"][..], &["role", "metrics-core", "-n", namespace]] {
        for verb in ["*", "create", "impersonate", "escalate"] {
            refused(verb, "get, list and watch only", || patch(role, rule(verb)))?;
        }
        patch(role, rule("list"))?;
    }
    let bindings: [&[&str]; 4] = [
        &["clusterrolebinding", "metrics-core:collector"],
        &["clusterrolebinding", "metrics-core:auth-delegator"],
        &["rolebinding", "metrics-core", "-n", namespace],
        &["rolebinding", "metrics-core:auth-reader", "-n", "kube-system"],
    ];
    for binding in bindings {
        for (kind, name) in [("Group", "system:authenticated"), ("User", "metrics-core")] {
            let subject = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}]);
            refused(kind, "named metrics-core only", || patch(binding, json!({"subjects": subject})))?;
        }
        let account = json!([{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]);
        refused("a ServiceAccount", "named metrics-core only", || {
            patch(binding, json!({"subjects": account}))
        })?;
        // As during a move to another namespace.
        let both = json!([
            {"kind": "ServiceAccount", "name": "metrics-core", "namespace": namespace},
            {"kind": "ServiceAccount", "name": "metrics-core", "namespace": "old"},
        ]);
        patch(binding, json!({"subjects": both}))?;
    }
    Ok(())
}

/// Runs a command that must fail with these words.
fn refused(what: &str, words: &str, attempt: impl Fn() -> Result<String>) -> Result<()> {
    match attempt() {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(failed(format!("{what} is refused, but not because of {words}: {error}"))),
        Ok(output) => Err(failed(format!("{what} is not refused ({words}): {output}"))),
    }
}

/// A permission that would reach a pod template, a token or the policies without writing one of the checked objects.
fn lacks_permissions(env: &TestEnv) -> Result<()> {
    let namespace = pipeline::NAMESPACE;
    // Group, resource, subresource, verbs.
    let lacking: &[(&str, &str, &str, &[&str])] = &[
        ("", "pods", "", &["create", "update", "patch", "delete"]),
        ("", "pods", "ephemeralcontainers", &["update", "patch"]),
        ("", "pods", "exec", &["create", "get"]),
        ("", "pods", "log", &["get"]),
        ("", "replicationcontrollers", "", &["create", "patch"]),
        ("apps", "replicasets", "", &["create", "update", "patch"]),
        ("apps", "daemonsets", "", &["create", "patch"]),
        ("apps", "statefulsets", "", &["create", "patch"]),
        ("batch", "jobs", "", &["create", "patch"]),
        ("batch", "cronjobs", "", &["create", "patch"]),
        ("", "serviceaccounts", "token", &["create"]),
        ("", "serviceaccounts", "", &["impersonate"]),
        ("", "users", "", &["impersonate"]),
        ("", "groups", "", &["impersonate"]),
        ("", "secrets", "", &["get", "list", "watch", "create"]),
        ("", "namespaces", "", &["create", "patch", "update"]),
        ("", "nodes", "", &["patch", "update", "delete"]),
        ("", "nodes", "proxy", &["get", "create"]),
        ("", "endpoints", "", &["create", "patch"]),
        ("discovery.k8s.io", "endpointslices", "", &["create", "patch"]),
        ("rbac.authorization.k8s.io", "clusterroles", "", &["create", "patch", "escalate", "bind"]),
        ("rbac.authorization.k8s.io", "roles", "", &["create", "patch", "escalate", "bind"]),
        ("rbac.authorization.k8s.io", "clusterrolebindings", "", &["create", "patch"]),
        ("certificates.k8s.io", "certificatesigningrequests", "approval", &["update", "patch"]),
        ("certificates.k8s.io", "signers", "", &["approve", "sign"]),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies", "", &["create", "patch", "delete"]),
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings",
            "",
            &["create", "patch", "delete"],
        ),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "", &["create", "patch"]),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", &["create", "patch"]),
        ("apiextensions.k8s.io", "customresourcedefinitions", "", &["create", "patch"]),
    ];
    for place in [namespace, "kube-system", ""] {
        for (group, resource, subresource, verbs) in lacking {
            for verb in *verbs {
                let attributes = json!({"namespace": place, "group": group, "resource": resource,
                    "subresource": subresource, "verb": verb});
                let allowed = may(&env.client, &attributes)?;
                check!(!allowed, "the operator may {verb} {resource}/{subresource} in {place:?}");
            }
        }
    }
    // The request is right: it finds what the operator has.
    let has = json!({"namespace": namespace, "group": "apps", "resource": "deployments", "name": "metrics-core",
        "verb": "patch"});
    check!(may(&env.client, &has)?, "the operator may not patch its Deployment");
    Ok(())
}

/// Whether the operator has a permission.
fn may(client: &Client, attributes: &Value) -> Result<bool> {
    let user = OPERATOR.trim_start_matches("--as=");
    let groups =
        ["system:serviceaccounts", "system:serviceaccounts:metrics-pipeline", "system:authenticated"];
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes}});
    let text = client.with_manifest(&["create", "-o", "json"], &review.to_string())?;
    let review: Value =
        serde_json::from_str(&text).map_err(|error| failed(format!("SubjectAccessReview: {error}")))?;
    Ok(review["status"]["allowed"] == true)
}

/// kube-apiserver returns a warning for each running pod that a level would reject.
fn pods_meet_the_restricted_level(env: &TestEnv) -> Result<()> {
    let client = &env.client;
    ready(client)?;
    let warnings = |namespace: &str, level: &str| -> Result<String> {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        let mut kubectl = client.kubectl();
        kubectl.args(["label", "namespace", namespace, &label, "--overwrite", DRY_RUN]);
        let output =
            kubectl.output().map_err(|error| failed(format!("{}: {error}", command::line(&kubectl))))?;
        check!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let found = warnings(pipeline::NAMESPACE, "restricted")?;
    check!(!found.contains("Warning"), "{found}");
    // The workloads of the scenarios do not meet it: the warnings would be there.
    let found = warnings(super::LOAD, "restricted")?;
    check!(found.contains("Warning"), "no warning about {}: {found}", super::LOAD);
    Ok(())
}
