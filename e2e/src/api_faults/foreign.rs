//! Objects that are not the operator's: with names, labels and places like those of its own. None may change.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::NAMESPACES;
use super::api::{Api, path_of};
use crate::error::Result;

/// A namespace that the operator was never in.
pub(super) const NAMESPACE: &str = "another-team";

/// The address of a metrics-server that was installed before.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 255, 1);
/// Its port.
pub(super) const PORT: u16 = 4443;

/// The APIService of that metrics-server.
pub(super) const API_SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";

/// Returns the foreign objects.
fn objects() -> Vec<Value> {
    let object =
        |version: &str, kind: &str, namespace: Option<&str>, name: &str, manager: &str, rest: Value| {
            let mut object = json!({
                "apiVersion": version, "kind": kind,
                "metadata": {"name": name, "labels": {
                    "app.kubernetes.io/name": "metrics-core", "app.kubernetes.io/instance": super::PIPELINE,
                    "app.kubernetes.io/part-of": "metrics-pipeline", "app.kubernetes.io/managed-by": manager,
                }},
            });
            if let Some(namespace) = namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
            if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
                object.extend(rest);
            }
            object
        };
    let (ours, theirs) = ("metrics-pipeline-operator", "another-team");
    let own = Some(NAMESPACES[0]);
    let elsewhere = Some(NAMESPACE);
    let rbac = "rbac.authorization.k8s.io/v1";
    let reader = json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
        "name": "extension-apiserver-authentication-reader"}, "subjects": []});
    let ports = json!({"spec": {"ports": [{"port": 443}]}});
    vec![
        // Names that begin like ours, in our namespace.
        object("v1", "Secret", own, "metrics-core-ca-backup", theirs, json!({"data": {"tls.crt": "eA=="}})),
        object("v1", "Secret", own, "metrics-core", theirs, json!({})),
        object("v1", "ConfigMap", own, "metrics-core-dashboard", theirs, json!({"data": {"a": "b"}})),
        object("v1", "Service", own, "metrics-core-debug", theirs, ports.clone()),
        object(rbac, "RoleBinding", Some("kube-system"), "metrics-core:auth-reader-2", theirs, reader),
        object(rbac, "ClusterRole", None, "metrics-core:collector-2", theirs, json!({"rules": []})),
        // Our names and labels in another namespace.
        object("v1", "Secret", elsewhere, "metrics-core-ca", ours, json!({"data": {"tls.crt": "eA=="}})),
        object("v1", "Secret", elsewhere, "metrics-core-serving", ours, json!({})),
        object("v1", "ConfigMap", elsewhere, "metrics-core", ours, json!({"data": {"a": "b"}})),
        object("v1", "ServiceAccount", elsewhere, "metrics-core", ours, json!({})),
        object("v1", "Service", elsewhere, "metrics-core", ours, ports),
        object(
            "apiregistration.k8s.io/v1",
            "APIService",
            None,
            "v1beta1.custom.metrics.example",
            theirs,
            json!({"spec": {"group": "custom.metrics.example", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100}}),
        ),
    ]
}

/// Creates the foreign objects that do not exist.
pub(super) async fn plant(api: &Api) -> Result<()> {
    for object in objects() {
        api.apply(&object).await?;
    }
    Ok(())
}

/// Returns identity and version of each foreign object: a write changes the version, a recreation the identity.
pub(super) async fn versions(api: &Api) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for object in objects() {
        let path = path_of(&object)?;
        let found = api.get(&path).await?.unwrap_or_default();
        let metadata = &found["metadata"];
        // kube-apiserver itself updates the status of an APIService.
        let version =
            if object["kind"] == "APIService" { &found["spec"] } else { &metadata["resourceVersion"] };
        versions.insert(path, format!("{} {version}", metadata["uid"]));
    }
    Ok(versions)
}

/// Installs a foreign metrics-server: an APIService, its Service, and an endpoint that responds.
pub(super) async fn install_metrics_server(api: &Api) -> Result<()> {
    let metadata = json!({"name": "metrics-server", "namespace": "kube-system"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "metrics-server-1", "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "metrics-server"}},
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [SERVER], "conditions": {"ready": true}}],
    });
    let registration = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io", "labels": {"k8s-app": "metrics-server"}},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": "metrics-server", "namespace": "kube-system"},
        },
    });
    for object in [service, slice, registration] {
        api.apply(&object).await?;
    }
    Ok(())
}
