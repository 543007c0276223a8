//! A MetricsPipeline, as far as it can be read.

use crds::{MetricsPipelineSpec, MetricsPipelineStatus};
use jiff::Timestamp;
use kube::core::DynamicObject;

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
    /// The spec, or why it can't be read: the object may have been stored before its schema changed.
    pub spec: Result<MetricsPipelineSpec, String>,
    /// The status; empty when it can't be read, so that the next write replaces it.
    pub status: MetricsPipelineStatus,
}

impl Pipeline {
    /// Reads what can be read from an object.
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

#[cfg(test)]
impl Pipeline {
    /// Returns a MetricsPipeline for unit tests.
    pub(crate) fn for_test(name: &str, spec: MetricsPipelineSpec) -> Self {
        Self {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            resource_version: "1".to_owned(),
            generation: 1,
            created: None,
            deleting: false,
            finalizers: Vec::new(),
            spec: Ok(spec),
            status: MetricsPipelineStatus::default(),
        }
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
    fn an_empty_spec_has_all_defaults() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": "a" },
        }))
        .expect("an object");
        assert_eq!(Pipeline::read(object).spec, Ok(MetricsPipelineSpec::default()));
    }
}
