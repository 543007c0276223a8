//! What a journey left: the operator's objects, without what differs between two runs.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::api::Api;
use super::foreign;
use crate::error::Result;

const KINDS: [(&str, &str); 12] = [
    ("/api/v1", "secrets"),
    ("/api/v1", "configmaps"),
    ("/api/v1", "serviceaccounts"),
    ("/api/v1", "services"),
    ("/api/v1", "pods"),
    ("/apis/apps/v1", "deployments"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
    ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    ("/apis/apiregistration.k8s.io/v1", "apiservices"),
];

/// The operator's objects by kind, namespace and name.
pub(super) type Inventory = BTreeMap<String, Value>;

/// Lists the operator's objects, and the conditions of the MetricsPipeline.
pub(super) async fn read(api: &Api) -> Result<Inventory> {
    let mut inventory = Inventory::new();
    for (group, kind) in KINDS {
        for mut object in api.list(&format!("{group}/{kind}")).await? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let namespace = text(&metadata["namespace"]);
            if namespace == foreign::NAMESPACE || !is_managed(metadata, kind) {
                continue;
            }
            // The names of pods are generated.
            let name = if kind == "pods" { "…".to_owned() } else { text(&metadata["name"]) };
            let mut key = format!("{kind} {namespace}/{name}");
            while inventory.contains_key(&key) {
                key.push('+');
            }
            normalize(&mut object, kind);
            inventory.insert(key, object);
        }
    }
    let list = api.list(&super::env::collection()).await?;
    for pipeline in list {
        let conditions = pipeline["status"]["conditions"].as_array().into_iter().flatten();
        let conditions: BTreeMap<_, _> =
            conditions.map(|one| (one["type"].to_string(), json!([one["status"], one["reason"]]))).collect();
        let value = json!({
            "spec": pipeline["spec"], "conditions": conditions, "namespace": pipeline["status"]["namespace"],
            "finalizers": pipeline["metadata"]["finalizers"],
        });
        inventory.insert(format!("metricspipelines /{}", pipeline["metadata"]["name"]), value);
    }
    Ok(inventory)
}

/// Deletes the operator's objects and the MetricsPipeline.
pub(super) async fn delete_all(api: &Api) -> Result<()> {
    api.delete(&super::env::pipeline_path(), &Value::Null).await?;
    for (group, kind) in KINDS {
        for object in api.list(&format!("{group}/{kind}")).await? {
            let metadata = &object["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
            if kind == "pods" || namespace == foreign::NAMESPACE || !is_managed(metadata, kind) {
                continue;
            }
            let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
            api.delete(&format!("{group}{place}/{kind}/{name}"), &Value::Null).await?;
        }
    }
    Ok(())
}

/// Whether an object is the operator's or follows from one, as pods do.
fn is_managed(metadata: &Value, kind: &str) -> bool {
    let owners = metadata["ownerReferences"].as_array();
    let has_owner = |kind: &str| owners.into_iter().flatten().any(|owner| owner["kind"] == kind);
    if kind == "pods" {
        return metadata["labels"]["app.kubernetes.io/name"] == "metrics-core"
            && metadata["deletionTimestamp"].is_null();
    }
    metadata["labels"]["app.kubernetes.io/managed-by"] == "metrics-pipeline-operator"
        || has_owner("MetricsPipeline")
}

/// Removes identities, versions, times, addresses and keys.
fn normalize(object: &mut Value, kind: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("status");
    if kind == "pods" {
        let spec = &fields["spec"]["containers"][0];
        let kept = json!({"image": spec["image"], "resources": spec["resources"], "args": spec["args"]});
        *object = kept;
        return;
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in
            ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"]
        {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("deployment.kubernetes.io/revision");
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
        for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
            owner["uid"] = Value::Null;
        }
    }
    if kind == "secrets"
        && let Some(data) = fields.get_mut("data").and_then(Value::as_object_mut)
    {
        for value in data.values_mut() {
            *value = json!(certificates(value));
        }
    }
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
        if let Some(bundle) = spec.get_mut("caBundle") {
            *bundle = json!(certificates(bundle));
        }
    }
}

/// Returns the number of certificates in a base64 text.
fn certificates(value: &Value) -> String {
    let bytes = value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
    let count = String::from_utf8_lossy(&bytes).matches("BEGIN CERTIFICATE").count();
    format!("{count} certificates")
}

/// Returns how two inventories differ, at most three differences.
pub(super) fn differences(expected: &Inventory, found: &Inventory) -> Vec<String> {
    let missing =
        expected.keys().filter(|key| !found.contains_key(*key)).map(|key| format!("{key} is missing"));
    let extra = found.keys().filter(|key| !expected.contains_key(*key)).map(|key| format!("{key} is left"));
    let changed = expected.iter().filter_map(|(key, value)| {
        let other = found.get(key)?;
        difference(value, other).map(|what| format!("{key}: {what}"))
    });
    missing.chain(extra).chain(changed).take(3).collect()
}

/// Returns the first difference with its path.
fn difference(expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        _ if expected == found => None,
        (Value::Object(left), Value::Object(right)) => left.keys().chain(right.keys()).find_map(|key| {
            let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            difference(&of(left), &of(right)).map(|what| format!("{key}.{what}"))
        }),
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            left.iter().zip(right).find_map(|(left, right)| difference(left, right))
        }
        _ => Some(format!(": {expected} expected, {found} found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, data: &Value) -> Value {
        let mut object = json!({
            "metadata": {"name": "s", "uid": uid, "resourceVersion": uid, "labels": {"a": "b"},
                "ownerReferences": [{"kind": "MetricsPipeline", "uid": uid}]},
            "data": data,
        });
        normalize(&mut object, "secrets");
        object
    }

    #[test]
    fn two_runs_with_other_keys_and_identities_are_equal() {
        let data =
            |text: &str| json!({"tls.crt": BASE64_STANDARD.encode(format!("BEGIN CERTIFICATE {text}"))});
        assert_eq!(secret("1", &data("x")), secret("2", &data("y")));
        let two = data("x BEGIN CERTIFICATE");
        assert_ne!(secret("1", &data("x")), secret("1", &two), "another count of certificates");
    }

    #[test]
    fn names_what_is_missing_left_or_different() {
        let inventory = |pairs: &[(&str, Value)]| -> Inventory {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
        };
        let expected = inventory(&[("a", json!({"x": {"y": 1}})), ("b", json!(1))]);
        let found = inventory(&[("a", json!({"x": {"y": 2}})), ("c", json!(1))]);
        let differences = differences(&expected, &found);
        assert_eq!(differences, ["b is missing", "c is left", "a: x.y.: 1 expected, 2 found"]);
    }

    #[test]
    fn objects_of_others_do_not_count() {
        let labels = |manager: &str| json!({"labels": {"app.kubernetes.io/managed-by": manager}});
        assert!(is_managed(&labels("metrics-pipeline-operator"), "secrets"));
        assert!(!is_managed(&labels("Helm"), "secrets"));
        assert!(is_managed(&json!({"ownerReferences": [{"kind": "MetricsPipeline"}]}), "roles"));
    }
}
