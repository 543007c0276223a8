//! Labels and annotations that the user adds to the managed objects.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::GROUP;

/// The labels that the operator sets on every managed object; [`ExtraMetadata`] can't override them.
pub const RESERVED_LABELS: [&str; 5] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
];

/// The prefixes of label keys that [`ExtraMetadata`] can't contain. The first one makes Kubernetes add the rules of a
/// ClusterRole to other roles.
pub const RESERVED_LABEL_PREFIXES: [&str; 2] = ["rbac.authorization.k8s.io/", "metrics-pipeline.dev/"];

/// Labels and annotations that are added to those of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtraMetadata {
    /// Labels to add, at most 32. Keys are qualified names, such as `team` or `example.com/team`. A label that is removed here is removed from the objects; labels that others set
    /// are kept. Not allowed are `app.kubernetes.io/name`, `app.kubernetes.io/instance`,
    /// `app.kubernetes.io/component`, `app.kubernetes.io/part-of`, `app.kubernetes.io/managed-by`, and keys with
    /// the prefix `rbac.authorization.k8s.io/` or `metrics-pipeline.dev/`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations to add, at most 32, each at most 4096 characters long. Keys are qualified names, such as `note` or
    /// `example.com/note`. An annotation that is removed here is removed from the objects; annotations
    /// that others set are kept. Keys with the prefix `metrics-pipeline.dev/` are not allowed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
}

impl ExtraMetadata {
    /// Returns whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    let keys = RESERVED_LABELS.map(|key| {
        json!({
            "rule": format!("!('{key}' in self)"),
            "message": format!("{key}: the operator sets this label; it can't be overridden"),
        })
    });
    let prefixes = RESERVED_LABEL_PREFIXES.map(reserved_prefix);
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
        "x-kubernetes-validations": keys.into_iter().chain(prefixes).chain([qualified_names("key")]).collect::<Vec<_>>(),
    })
}

fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
        // Kubernetes ignores the case of annotation keys.
        "x-kubernetes-validations": [reserved_prefix(&format!("{GROUP}/")), qualified_names("key.lowerAscii()")],
    })
}

/// Returns the rule that kube-apiserver applies to the keys of metadata: without it, every write of the operator would be
/// rejected instead of the MetricsPipeline.
fn qualified_names(key: &str) -> Value {
    json!({
        "rule": format!("self.all(key, !format.qualifiedName().validate({key}).hasValue())"),
        "message": "keys must be qualified names: at most 63 letters, digits, '-', '_' or '.', starting and ending with a \
                    letter or digit, after an optional DNS subdomain and '/'; use a key such as team or example.com/team",
    })
}

fn reserved_prefix(prefix: &str) -> Value {
    json!({
        "rule": format!("self.all(key, !key.startsWith('{prefix}'))"),
        "message": format!("{prefix}: keys with this prefix are reserved"),
    })
}
