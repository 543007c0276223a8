//! Object metadata, trimmed while it is decoded.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::node::PATH_ANNOTATION;

/// Decodes the metadata that discovery needs. Managed fields, which are most of an object's metadata, are skipped
/// without an allocation.
pub(super) fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Meta::deserialize(deserializer)?;
    let mut annotations = meta.annotations;
    if let Some(annotations) = &mut annotations {
        annotations.retain(|key, _| key == PATH_ANNOTATION);
    }
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        annotations,
        ..ObjectMeta::default()
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}
