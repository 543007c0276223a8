//! The objects that kube-apiserver stores: server-side apply with field managers, UIDs, versions and preconditions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use crate::common::{MANAGED_BY, MANAGED_BY_LABEL, ManagedObject};

/// Namespace and object; the namespace is empty for a cluster-scoped object.
pub(super) type Key = (&'static str, ManagedObject);

/// Returns the key of an object, if the operator's namespace is `namespace`.
pub(super) fn key(object: ManagedObject, namespace: &'static str) -> Key {
    let place = match object.namespace(namespace) {
        None => "",
        Some(found) if found == namespace => namespace,
        Some(_) => "kube-system",
    };
    (place, object)
}

/// Why a write was refused.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    /// The version or the UID is another one.
    Conflict,
    /// There is no such object.
    NotFound,
}

/// The objects.
#[derive(Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, (DynamicObject, u64)>,
    /// Objects that somebody else created.
    foreign: BTreeSet<Key>,
    /// The last version that was given to an object, and the count of UIDs.
    version: u64,
    uids: u64,
}

impl Store {
    pub(super) fn get(&self, key: Key) -> Option<&DynamicObject> {
        self.objects.get(&key).map(|(object, _)| object)
    }

    /// Returns when an object last changed.
    pub(super) fn changed(&self, key: Key) -> u64 {
        self.objects.get(&key).map_or(0, |(_, version)| *version)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn is_foreign(&self, key: Key) -> bool {
        self.foreign.contains(&key)
    }

    pub(super) fn foreign(&self) -> impl Iterator<Item = &Key> {
        self.foreign.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// Applies a body as a field manager, by force.
    pub(super) fn apply(
        &mut self,
        key: Key,
        manager: &str,
        body: &Value,
        version: Option<&str>,
    ) -> Result<(), Refused> {
        let found = self.get(key);
        if version.is_some() && version != found.and_then(|found| found.metadata.resource_version.as_deref())
        {
            return Err(Refused::Conflict);
        }
        let mut object = match found {
            Some(found) => serde_json::to_value(found).expect("an object"),
            None => self.created(key),
        };
        let mut managers = object["metadata"]["managedFields"].take();
        let managers = managers.as_array_mut().map(std::mem::take).unwrap_or_default();
        let (mut others, mut before) = (Vec::new(), json!({}));
        for entry in managers {
            if entry["manager"] == manager { before = entry["fieldsV1"].clone() } else { others.push(entry) }
        }
        let fields = owned(body);
        remove(&mut object, &before, &fields);
        merge(&mut object, body);
        others.push(json!({ "manager": manager, "operation": "Apply", "apiVersion": body["apiVersion"],
            "fieldsV1": fields }));
        object["metadata"]["managedFields"] = Value::Array(others);
        self.foreign.remove(&key);
        self.put(key, object);
        Ok(())
    }

    /// Changes an object as another writer does, who takes over what it changes.
    pub(super) fn edit(&mut self, key: Key, change: impl FnOnce(&mut Value)) {
        let Some(found) = self.get(key) else { return };
        let mut object = serde_json::to_value(found).expect("an object");
        change(&mut object);
        self.put(key, object);
    }

    /// Removes the ownership of one field, as of an edit by another writer.
    pub(super) fn disown(object: &mut Value, path: &[&str]) {
        for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            let mut fields = &mut entry["fieldsV1"];
            for (index, field) in path.iter().enumerate() {
                let Some(map) = fields.as_object_mut() else { break };
                let field = format!("f:{field}");
                if index + 1 == path.len() {
                    map.remove(&field);
                    break;
                }
                let Some(below) = map.get_mut(&field) else { break };
                fields = below;
            }
        }
    }

    /// Replaces what is there by an object of somebody else.
    pub(super) fn replace_by_foreign(&mut self, key: Key, spec: &Value) {
        self.objects.remove(&key);
        let mut object = self.created(key);
        object["metadata"]["labels"] = json!({ MANAGED_BY_LABEL: "Helm" });
        object["spec"] = spec.clone();
        self.foreign.insert(key);
        self.put(key, object);
    }

    /// Deletes an object. The Deployment only begins to terminate.
    pub(super) fn delete(&mut self, key: Key, uid: Option<&str>, now: Timestamp) -> Result<(), Refused> {
        let found = self.get(key).ok_or(Refused::NotFound)?;
        if uid.is_some() && uid != found.metadata.uid.as_deref() {
            return Err(Refused::Conflict);
        }
        self.version += 1;
        let version = self.version;
        if key.1 == ManagedObject::Deployment
            && let Some((object, changed)) = self.objects.get_mut(&key)
        {
            object.metadata.deletion_timestamp.get_or_insert(Time(now));
            *changed = version;
            return Ok(());
        }
        self.remove(key);
        Ok(())
    }

    /// Removes an object at once.
    pub(super) fn remove(&mut self, key: Key) {
        self.version += 1;
        self.objects.remove(&key);
        self.foreign.remove(&key);
    }

    fn created(&mut self, key: Key) -> Value {
        self.uids += 1;
        let mut object = json!({ "metadata": { "name": key.1.name(), "uid": format!("uid-{}", self.uids) } });
        if !key.0.is_empty() {
            object["metadata"]["namespace"] = json!(key.0);
        }
        object
    }

    /// Stores an object with a new version, and a new generation if its spec changed.
    fn put(&mut self, key: Key, mut object: Value) {
        self.version += 1;
        let before = self.get(key);
        let same = before.is_some_and(|before| before.data.get("spec") == object.get("spec"));
        let generation = before.and_then(|before| before.metadata.generation).unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + i64::from(!same));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = serde_json::from_value(object).expect("an object");
        self.objects.insert(key, (object, self.version));
    }
}

/// Whether the operator manages an object, by its label only.
pub(super) fn is_labelled(object: &DynamicObject) -> bool {
    object
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|manager| manager == MANAGED_BY)
}

/// Returns the fields of a body as server-side apply records them.
fn owned(body: &Value) -> Value {
    let mut fields = fields(body);
    let all = fields.as_object_mut().expect("fields");
    all.remove("f:apiVersion");
    all.remove("f:kind");
    let metadata = all.get_mut("f:metadata").and_then(Value::as_object_mut);
    let is_empty = metadata.is_some_and(|metadata| {
        metadata.remove("f:name");
        metadata.remove("f:namespace");
        metadata.is_empty()
    });
    if is_empty {
        all.remove("f:metadata");
    }
    fields
}

fn fields(body: &Value) -> Value {
    let Some(object) = body.as_object() else { return json!({}) };
    let below = |key: &str, value: &Value| match value.as_array() {
        Some(containers) if key == "containers" => {
            let named = |container: &Value| {
                (format!("k:{}", json!({ "name": container["name"] })), fields(container))
            };
            Value::Object(containers.iter().map(named).collect())
        }
        _ => fields(value),
    };
    Value::Object(object.iter().map(|(key, value)| (format!("f:{key}"), below(key, value))).collect())
}

/// Removes fields that a manager does not apply any more.
fn remove(object: &mut Value, before: &Value, now: &Value) {
    for (field, below) in before.as_object().into_iter().flatten() {
        let kept = now.get(field);
        let is_leaf = below.as_object().is_none_or(Map::is_empty);
        if let Some(name) = field.strip_prefix("f:") {
            match (kept, object.get_mut(name)) {
                (None, Some(_)) if is_leaf => _ = object.as_object_mut().expect("an object").remove(name),
                (kept, Some(inner)) if !is_leaf => remove(inner, below, kept.unwrap_or(&Value::Null)),
                _ => {}
            }
        } else if let Some(container) = object.as_array_mut().and_then(|list| list.first_mut()) {
            // All lists of containers have one.
            remove(container, below, kept.unwrap_or(&Value::Null));
        }
    }
}

fn merge(object: &mut Value, body: &Value) {
    match (object, body) {
        (Value::Object(object), Value::Object(body)) => {
            for (field, value) in body {
                let known = object.entry(field.clone()).or_insert(Value::Null);
                match (known, value) {
                    (Value::Array(known), Value::Array(value))
                        if field == "containers" && known.len() == 1 =>
                    {
                        merge(&mut known[0], &value[0]);
                    }
                    (known, value) => merge(known, value),
                }
            }
        }
        (object, body) => *object = body.clone(),
    }
}
