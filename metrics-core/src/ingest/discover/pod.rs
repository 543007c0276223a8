//! A Pod's metadata; discovery requests nothing else.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::core::{NamespaceResourceScope, ObjectMeta, Resource};
use serde::Deserialize;

use super::meta;

/// A Pod as `PartialObjectMetadata`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(super) metadata: ObjectMeta,
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ApiPod::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        ApiPod::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        ApiPod::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        ApiPod::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
    fn metadata_api() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::PodObject;

    #[test]
    fn keeps_name_uid_labels_and_version() {
        let pod: PodObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "3", "labels": {"a": "b"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "long"},
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "y"}]
            }
        }))
        .unwrap();
        let meta = pod.metadata;
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("p"), Some("n")));
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("3")));
        assert_eq!(meta.labels.unwrap()["a"], "b");
        assert!(meta.annotations.unwrap().is_empty() && meta.managed_fields.is_none());
    }
}
