//! What is there: the MetricsPipelines, every owned object, the pods, the nodes, and whether metrics are
//! served. Nothing is decided here.

mod nodes;
mod observer;
mod served;
mod usage;
mod watches;

use std::collections::{BTreeMap, BTreeSet};

use crds::{MetricsPipelineSpec, MetricsPipelineStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;

use crate::nanny::Usage;
use crate::nanny::resize::Refusals;
use crate::owned::Owned;

pub use observer::{ObserveError, Observer};
pub use served::{MAX_RESPONSE, Served};
pub use watches::{Changes, Source};

/// A MetricsPipeline, as far as it can be read.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// The spec, or why it can't be read: an object that was stored before its schema changed.
    pub spec: Result<MetricsPipelineSpec, String>,
    /// The status; empty when it can't be read, as it is written anew then.
    pub status: MetricsPipelineStatus,
}

impl Pipeline {
    /// Takes what can be read from an object.
    #[must_use]
    pub fn read(object: DynamicObject) -> Self {
        let DynamicObject { metadata, mut data, .. } = object;
        let mut part = |name: &str| data.get_mut(name).map(serde_json::Value::take);
        let spec = part("spec").unwrap_or_else(|| serde_json::json!({}));
        let status = part("status").and_then(|status| serde_json::from_value(status).ok());
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            // The error names the field by its path.
            spec: serde_path_to_error::deserialize(spec).map_err(|error| error.to_string()),
            status: status.unwrap_or_default(),
        }
    }
}

/// What was found under the name of an owned object.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// An object, ours or not.
    Present(Box<DynamicObject>),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether a right is missing.
    pub forbidden: bool,
    /// kube-apiserver's words.
    pub message: String,
}

/// The kubelets' CA at its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KubeletCa {
    /// It is not asked for.
    #[default]
    Unused,
    /// PEM.
    Found(String),
    /// There is no such ConfigMap, or no such key in it.
    Missing {
        /// Where it was looked for: `ConfigMap ns/name, key ca.crt`.
        place: String,
    },
    /// It could not be read.
    Unreadable(Unreadable),
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All MetricsPipelines.
    pub pipelines: Vec<Pipeline>,
    /// What stands under the name of each owned object.
    pub objects: BTreeMap<Owned, Found>,
    /// Whose fields of which object stay different however often they are applied, as an admission webhook
    /// rewrites them.
    pub overruled: BTreeSet<(Owned, &'static str)>,
    /// The pods of the Deployment.
    pub pods: Vec<Pod>,
    /// How many endpoints of the Service are ready; `None` when that could not be read.
    pub ready_endpoints: Option<usize>,
    /// The kubelets' CA.
    pub kubelet_ca: KubeletCa,
    /// How many nodes are to be scraped; `None` when that is not known.
    pub nodes: Option<usize>,
    /// How many containers have metrics; only when the nanny counts them.
    pub containers: Option<usize>,
    /// What the replicas use, as they say themselves; only when the nanny asks.
    pub usage: Option<Usage>,
    /// What was refused to be done to pods.
    pub refusals: Refusals,
    /// Whether a request for metrics is answered.
    pub served: Served,
}

impl Observed {
    /// The object under a name, ours or not.
    #[must_use]
    pub fn object(&self, object: Owned) -> Option<&DynamicObject> {
        match self.objects.get(&object) {
            Some(Found::Present(object)) => Some(object),
            _ => None,
        }
    }

    /// Why an object could not be read.
    #[must_use]
    pub fn unreadable(&self, object: Owned) -> Option<&Unreadable> {
        match self.objects.get(&object) {
            Some(Found::Unreadable(why)) => Some(why),
            _ => None,
        }
    }

    /// A typed copy of an object.
    #[must_use]
    pub fn typed<K: serde::de::DeserializeOwned>(&self, object: Owned) -> Option<K> {
        // The metadata is left out: whoever wants it has it, and managedFields are long.
        serde_json::from_value(self.object(object)?.data.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_pipeline_keeps_its_identity() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": "broken", "uid": "u", "generation": 3, "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "metricsCore": { "replicas": "many" } },
            "status": { "conditions": "none" },
        }))
        .expect("an object");
        let pipeline = Pipeline::read(object);
        assert_eq!((pipeline.name.as_str(), pipeline.generation, pipeline.deleting), ("broken", 3, true));
        let error = pipeline.spec.expect_err("an error");
        assert!(error.starts_with("metricsCore.replicas: ") && error.contains("many"), "{error}");
        assert_eq!(pipeline.status, MetricsPipelineStatus::default());
    }

    #[test]
    fn an_empty_pipeline_has_all_defaults() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": "a" },
        }))
        .expect("an object");
        assert_eq!(Pipeline::read(object).spec, Ok(MetricsPipelineSpec::default()));
    }
}
