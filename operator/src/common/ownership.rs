//! Whether the operator manages an object, and who manages a foreign one.

use crds::GROUP;
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;

use super::names::NAME_LABEL;
use super::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};

/// Whether the operator manages an object, by its label, its owner reference or its managed fields. One of them suffices:
/// another writer may have removed the others, and that is drift.
#[must_use]
pub fn is_ours(object: &DynamicObject) -> bool {
    let metadata = &object.metadata;
    let labelled = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|manager| manager == MANAGED_BY);
    let owned = has_pipeline_as_owner(object);
    let applied = metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
    });
    labelled || owned || applied
}

/// Whether an object has an owner reference to a MetricsPipeline.
#[must_use]
pub(crate) fn has_pipeline_as_owner(object: &DynamicObject) -> bool {
    object.metadata.owner_references.iter().flatten().any(|owner| {
        owner.kind == "MetricsPipeline"
            && owner.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
    })
}

/// Returns when the operator's main field manager last changed an object.
#[must_use]
pub(crate) fn last_applied(object: &DynamicObject) -> Option<Timestamp> {
    let ours = object.metadata.managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    ours.and_then(|entry| entry.time.as_ref()).map(|time| time.0)
}

/// Describes who manages a foreign object, from its spec, labels, annotations and managed fields.
#[must_use]
pub fn describe_owner(object: &DynamicObject) -> String {
    let metadata = &object.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let annotation = |key: &str| {
        metadata.annotations.as_ref().and_then(|annotations| annotations.get(key)).map(String::as_str)
    };
    let mut facts = Vec::new();
    if let Some(name) = object.data.pointer("/spec/service/name").and_then(Value::as_str) {
        let namespace =
            object.data.pointer("/spec/service/namespace").and_then(Value::as_str).unwrap_or_default();
        facts.push(format!("it points to Service {namespace}/{name}"));
    }
    if let Some(owner) = metadata.owner_references.iter().flatten().next() {
        facts.push(format!("it is owned by {} {}", owner.kind, owner.name));
    }
    if let Some(release) = annotation("meta.helm.sh/release-name") {
        let namespace = annotation("meta.helm.sh/release-namespace").unwrap_or_default();
        facts.push(format!("it is part of the Helm release {namespace}/{release}"));
    } else if let Some(manager) = label(MANAGED_BY_LABEL) {
        facts.push(format!("it is managed by {manager}"));
    } else if let Some(addon) = label("addonmanager.kubernetes.io/mode") {
        facts.push(format!("it is an add-on of the cluster ({addon})"));
    } else if let Some(app) = label("k8s-app").or_else(|| label(NAME_LABEL)) {
        facts.push(format!("it is labelled as {app}"));
    }
    let managers: Vec<_> = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .filter_map(|entry| entry.manager.as_deref())
        .take(3)
        .collect();
    if !managers.is_empty() {
        facts.push(format!("it was last written by {}", managers.join(", ")));
    }
    if facts.is_empty() { "its owner is unknown".to_owned() } else { facts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn object(metadata: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata,
            "spec": { "service": { "name": "metrics-server", "namespace": "kube-system" } },
        }))
        .expect("an object")
    }

    #[test]
    fn label_owner_or_managed_fields_suffice() {
        assert!(is_ours(&object(json!({ "labels": { MANAGED_BY_LABEL: MANAGED_BY } }))));
        assert!(is_ours(&object(json!({ "ownerReferences": [
            { "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline", "name": "a", "uid": "u" } ] }))));
        assert!(is_ours(&object(
            json!({ "managedFields": [{ "manager": FIELD_MANAGER, "operation": "Apply" }] })
        )));
    }

    #[test]
    fn describes_the_owner_of_a_foreign_object() {
        let foreign = object(json!({
            "labels": { "k8s-app": "metrics-server", MANAGED_BY_LABEL: "Helm" },
            "annotations": { "meta.helm.sh/release-name": "ms", "meta.helm.sh/release-namespace": "kube-system" },
            "managedFields": [{ "manager": "helm", "operation": "Update" },
                { "manager": "kube-apiserver", "operation": "Update", "subresource": "status" }],
        }));
        assert!(!is_ours(&foreign));
        assert_eq!(
            describe_owner(&foreign),
            "it points to Service kube-system/metrics-server; it is part of the Helm release kube-system/ms; \
             it was last written by helm"
        );
    }
}
