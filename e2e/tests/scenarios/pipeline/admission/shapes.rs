//! Pod templates of metrics-core that the policy refuses.

use serde_json::{Value, json};

/// The kinds of patches.
pub(super) const STRATEGIC: &str = "--type=strategic";
pub(super) const MERGE: &str = "--type=merge";
pub(super) const JSON: &str = "--type=json";

/// Returns a patch of the pod's spec.
#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
pub(super) fn pod(fields: Value) -> Value {
    json!({"spec": {"template": {"spec": fields}}})
}

/// Returns a patch of the container.
fn container(mut fields: Value) -> Value {
    fields["name"] = "metrics-core".into();
    pod(json!({"containers": [fields]}))
}

/// A kind of patch, the patch, and words of the message that refuses it.
type Attempt = (&'static str, Value, &'static str);

/// Returns attempts to get more from a pod template.
pub(super) fn shapes() -> Vec<Attempt> {
    [identities_and_hosts(), privileges()].concat()
}

/// Other identities, containers, volumes and namespaces.
fn identities_and_hosts() -> Vec<Attempt> {
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = "more".into();
        pod(json!({"volumes": [volume]}))
    };
    let only_config_map = "no volume but ConfigMap metrics-core";
    vec![
        (STRATEGIC, pod(json!({"hostPID": true})), "hostPID"),
        (MERGE, pod(json!({"hostIPC": true})), "hostPID or hostIPC"),
        (STRATEGIC, pod(json!({"hostNetwork": true})), "admissionPolicy.hostNetwork=true"),
        (STRATEGIC, container(json!({"ports": [{"containerPort": 9, "hostPort": 9}]})), "hostPort"),
        (STRATEGIC, volume(json!({"hostPath": {"path": "/"}})), only_config_map),
        (STRATEGIC, volume(json!({"secret": {"secretName": "metrics-core-ca"}})), only_config_map),
        (STRATEGIC, volume(json!({"configMap": {"name": "other"}})), only_config_map),
        (
            STRATEGIC,
            volume(json!({"projected": {"sources": [{"secret": {"name": "metrics-core-ca"}}]}})),
            only_config_map,
        ),
        (STRATEGIC, volume(json!({"persistentVolumeClaim": {"claimName": "c"}})), only_config_map),
        (STRATEGIC, volume(json!({"csi": {"driver": "d"}})), only_config_map),
        (STRATEGIC, volume(json!({"nfs": {"server": "s", "path": "/"}})), only_config_map),
        (STRATEGIC, pod(json!({"serviceAccountName": "default"})), "ServiceAccount metrics-core"),
        (
            MERGE,
            pod(json!({"serviceAccountName": null, "serviceAccount": "default"})),
            "ServiceAccount metrics-core",
        ),
        (
            MERGE,
            pod(json!({"serviceAccountName": null, "serviceAccount": null})),
            "ServiceAccount metrics-core",
        ),
        (STRATEGIC, pod(json!({"initContainers": [{"name": "i", "image": "i"}]})), "one container"),
        (STRATEGIC, pod(json!({"containers": [{"name": "sidecar", "image": "i"}]})), "one container"),
        (
            JSON,
            json!([{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "other"}]),
            "one container",
        ),
        (
            STRATEGIC,
            container(
                json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            ),
            "from a Secret",
        ),
        (STRATEGIC, container(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), "from a Secret"),
    ]
}

/// Weaker security contexts, probes of other hosts, and nodes.
fn privileges() -> Vec<Attempt> {
    let security = |fields: Value| container(json!({"securityContext": fields}));
    vec![
        (
            STRATEGIC,
            security(json!({"privileged": true, "allowPrivilegeEscalation": true})),
            "must not be privileged",
        ),
        (STRATEGIC, security(json!({"allowPrivilegeEscalation": true})), "allowPrivilegeEscalation"),
        (STRATEGIC, security(json!({"allowPrivilegeEscalation": null})), "allowPrivilegeEscalation"),
        (STRATEGIC, security(json!({"capabilities": {"add": ["NET_ADMIN"]}})), "capability"),
        (STRATEGIC, security(json!({"capabilities": {"drop": ["KILL"]}})), "capability"),
        (STRATEGIC, security(json!({"capabilities": null})), "capability"),
        (STRATEGIC, security(json!({"runAsNonRoot": false})), "runAsNonRoot"),
        (STRATEGIC, security(json!({"runAsUser": 0})), "user 0"),
        (STRATEGIC, pod(json!({"securityContext": {"runAsUser": 0}})), "user 0"),
        (STRATEGIC, security(json!({"readOnlyRootFilesystem": false})), "read-only root"),
        (STRATEGIC, security(json!({"seccompProfile": {"type": "Unconfined"}})), "RuntimeDefault"),
        (
            STRATEGIC,
            security(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}})),
            "RuntimeDefault",
        ),
        (
            STRATEGIC,
            pod(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "RuntimeDefault",
        ),
        (STRATEGIC, security(json!({"appArmorProfile": {"type": "Unconfined"}})), "AppArmor"),
        (
            STRATEGIC,
            json!({"spec": {"template": {"metadata": {"annotations": {
                "container.apparmor.security.beta.kubernetes.io/metrics-core": "unconfined"}}}}}),
            "AppArmor",
        ),
        (STRATEGIC, security(json!({"seLinuxOptions": {"type": "spc_t"}})), "seLinuxOptions"),
        (STRATEGIC, pod(json!({"securityContext": {"seLinuxOptions": {"level": "s0"}}})), "seLinuxOptions"),
        (
            STRATEGIC,
            pod(json!({"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}})),
            "sysctls",
        ),
        (MERGE, pod(json!({"securityContext": null})), "RuntimeDefault"),
        (
            JSON,
            json!([{"op": "remove", "path": "/spec/template/spec/containers/0/securityContext"}]),
            "allowPrivilegeEscalation",
        ),
        (
            STRATEGIC,
            container(json!({"livenessProbe": {"httpGet": {"host": "169.254.169.254"}}})),
            "probe of another host",
        ),
        (
            STRATEGIC,
            container(json!({"startupProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 22}}})),
            "probe of another host",
        ),
        (
            STRATEGIC,
            container(json!({"lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1", "port": 80}}}})),
            "lifecycle",
        ),
        (STRATEGIC, pod(json!({"nodeName": "node-1"})), "nodeName"),
    ]
}
