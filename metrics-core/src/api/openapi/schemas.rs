//! The schemas that need no reference to others.

use serde_json::{Value, json};

/// `apiVersion` of any object.
pub(super) fn api_version() -> Value {
    json!({ "description": "The API group and version of this object.", "type": "string" })
}

/// `kind` of any object.
pub(super) fn kind() -> Value {
    json!({ "description": "The type of this object.", "type": "string" })
}

/// A map from resource name to quantity.
pub(super) fn usage(description: &str) -> Value {
    json!({
        "description": format!("{description} By resource: cpu in cores (\"67m\" is 0.067), memory (the working set) in bytes."),
        "type": "object",
        "additionalProperties": { "description": "A quantity like \"67m\" or \"27Mi\".", "type": "string" },
    })
}

/// `ContainerMetrics`.
pub(super) fn container_metrics() -> Value {
    json!({
        "description": "ContainerMetrics is the resource usage of a container.",
        "type": "object",
        "required": ["name", "usage"],
        "properties": {
            "name": { "description": "The container's name in the pod's spec.", "type": "string" },
            "usage": usage("The container's usage."),
        },
    })
}

/// `ObjectMeta`, as far as metrics carry it.
pub(super) fn object_meta() -> Value {
    json!({
        "description": "The part of an object's metadata that metrics carry.",
        "type": "object",
        "properties": {
            "name": { "description": "The name of the object measured.", "type": "string" },
            "namespace": { "description": "Its namespace, if it has one.", "type": "string" },
            "creationTimestamp": {
                "description": "When the request was answered.",
                "type": "string",
                "format": "date-time",
            },
            "labels": {
                "description": "Its labels.",
                "type": "object",
                "additionalProperties": { "type": "string" },
            },
        },
    })
}

/// `ListMeta`, as far as lists carry it.
pub(super) fn list_meta() -> Value {
    json!({
        "description": "The metadata of a list.",
        "type": "object",
        "properties": {
            "continue": {
                "description": "Set if there are more objects: give it as the query parameter \"continue\" to get them.",
                "type": "string",
            },
        },
    })
}
