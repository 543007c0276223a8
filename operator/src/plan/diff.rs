//! Compares an object with what is desired, by the fields that one field manager owns.
//!
//! Server-side apply records the owner of each field in `metadata.managedFields` (KEP-555, "fieldsV1"). A field that the
//! manager owns has the applied value, normalized by kube-apiserver. A field that another writer changed is no longer
//! owned. A field that is no longer desired stays owned until the next apply. So an object is settled if the owned fields
//! are the desired ones with the desired values.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::DynamicObject;
use serde_json::{Map, Value};

use super::Desired;
use crate::common::quantity::same_quantity;

/// Returns the paths of fields that differ, without values, for the log. Empty when settled.
#[must_use]
pub(crate) fn differences(desired: &Desired, found: &DynamicObject) -> Vec<String> {
    let api_version = desired.body.get("apiVersion").and_then(Value::as_str);
    let Some(owned) = owned_fields(found, desired.manager, api_version) else {
        return vec![format!("no field is owned by {}", desired.manager)];
    };
    let mut observed = found.data.clone();
    if let (Some(object), Ok(metadata)) = (observed.as_object_mut(), serde_json::to_value(&found.metadata)) {
        object.insert("metadata".to_owned(), metadata);
    }
    let mut differing = Vec::new();
    walk(owned, Some(&observed), Some(&without_identity(&desired.body)), "", &mut differing);
    differing
}

/// Returns the fields of an object that a field manager applied, as `fieldsV1`.
#[must_use]
pub(super) fn owned_fields<'a>(
    found: &'a DynamicObject,
    manager: &str,
    api_version: Option<&str>,
) -> Option<&'a Map<String, Value>> {
    let entry = found.metadata.managed_fields.iter().flatten().find(|entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.api_version.as_deref() == api_version
    });
    entry?.fields_v1.as_ref()?.0.as_object()
}

/// Returns the body without the fields that identify the object: no manager owns them.
fn without_identity(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        object.remove("apiVersion");
        object.remove("kind");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("name");
            metadata.remove("namespace");
            if metadata.is_empty() {
                object.remove("metadata");
            }
        }
    }
    body
}

fn walk(
    owned: &Map<String, Value>,
    observed: Option<&Value>,
    desired: Option<&Value>,
    path: &str,
    differing: &mut Vec<String>,
) {
    let children: Vec<_> = owned.iter().filter(|(key, _)| key.as_str() != ".").collect();
    let differs = |differing: &mut Vec<String>| differing.push(path.to_owned());
    let (observed, desired) = match (observed, desired) {
        (Some(observed), Some(desired)) => (observed, desired),
        (None, Some(desired)) if is_empty(desired) => return,
        _ => return differs(differing),
    };
    if children.is_empty() {
        if !same(desired, observed, path) {
            differs(differing);
        }
        return;
    }
    let mut named = Vec::new();
    let mut matched = 0;
    for (key, below) in &children {
        let empty = Map::new();
        let below = below.as_object().unwrap_or(&empty);
        let (name, observed, desired) = match key.split_once(':') {
            Some(("f", field)) => (field.to_owned(), observed.get(field), desired.get(field)),
            Some(("k", keys)) => (format!("[{keys}]"), keyed(observed, keys), keyed(desired, keys)),
            Some(("v", value)) => (format!("[{value}]"), valued(observed, value), valued(desired, value)),
            _ => continue,
        };
        matched += usize::from(desired.is_some());
        named.push(name.clone());
        walk(below, observed, desired, &format!("{path}.{name}"), differing);
    }
    // A desired field that is not owned was never applied, or another writer took it over.
    match desired {
        Value::Object(object) => {
            let missing = object.keys().filter(|key| !named.contains(key));
            differing.extend(missing.map(|key| format!("{path}.{key}")));
        }
        Value::Array(array) if matched == array.len() => {}
        _ => differs(differing),
    }
}

/// Returns the item of an associative list with the given keys, `{"name":"https"}`.
fn keyed<'a>(list: &'a Value, keys: &str) -> Option<&'a Value> {
    let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
    list.as_array()?.iter().find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

/// Returns the item of a set.
fn valued<'a>(list: &'a Value, value: &str) -> Option<&'a Value> {
    let value: Value = serde_json::from_str(value).ok()?;
    list.as_array()?.iter().find(|item| **item == value)
}

/// Whether an atomic value is the desired one. kube-apiserver omits empty values.
fn same(desired: &Value, observed: &Value, path: &str) -> bool {
    match (desired, observed) {
        (Value::Object(desired), Value::Object(observed)) => {
            desired.keys().chain(observed.keys()).all(|key| match (desired.get(key), observed.get(key)) {
                (Some(desired), Some(observed)) => same(desired, observed, &format!("{path}.{key}")),
                (Some(only), None) | (None, Some(only)) => is_empty(only),
                (None, None) => true,
            })
        }
        (Value::Array(desired), Value::Array(observed)) => {
            desired.len() == observed.len()
                && desired.iter().zip(observed).all(|(desired, observed)| same(desired, observed, path))
        }
        (Value::String(desired), Value::String(observed)) => {
            // Kubernetes normalizes quantities: 0.1 becomes 100m.
            desired == observed || (path.contains(".resources.") && same_quantity(desired, observed))
        }
        _ => desired == observed,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(array) => array.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
