//! The schemas that refer to no others.

use serde_json::{Value, json};

/// Returns the schema of `apiVersion`.
pub(super) fn api_version() -> Value {
    json!({ "description": "APIVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources", "type": "string" })
}

/// Returns the schema of `kind`.
pub(super) fn kind() -> Value {
    json!({ "description": "Kind is a string value representing the REST resource this object represents. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds", "type": "string" })
}

/// Returns the schema of `usage`: a map from resource name to quantity.
pub(super) fn usage() -> Value {
    json!({
        "description": "The resource usage: cpu in cores (\"67m\" is 0.067 cores), memory in bytes, and swap in bytes where the kubelet reports it. The memory usage is the memory working set.",
        "type": "object",
        "additionalProperties": { "description": "A quantity, for example \"67m\" or \"27Mi\".", "type": "string" },
    })
}

/// Returns the schema of `ContainerMetrics`.
pub(super) fn container_metrics() -> Value {
    json!({
        "description": "ContainerMetrics sets resource usage metrics of a container.",
        "type": "object",
        "required": ["name", "usage"],
        "properties": {
            "name": { "description": "Container name corresponding to the one from pod.spec.containers.", "type": "string" },
            "usage": usage(),
        },
    })
}

/// Returns the schema of `ObjectMeta`, with the fields that metrics have.
pub(super) fn object_meta() -> Value {
    json!({
        "description": "ObjectMeta is metadata that all persisted resources must have. Metrics have only some of its fields.",
        "type": "object",
        "properties": {
            "name": { "description": "Name of the node or pod.", "type": "string" },
            "namespace": { "description": "Namespace of the pod.", "type": "string" },
            "creationTimestamp": {
                "description": "The time of the request, as metrics are not stored.",
                "type": "string",
                "format": "date-time",
            },
            "labels": {
                "description": "Labels of the node or pod. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels",
                "type": "object",
                "additionalProperties": { "type": "string" },
            },
        },
    })
}

/// Returns the schema of `ListMeta`, with the fields that lists have.
pub(super) fn list_meta() -> Value {
    json!({
        "description": "ListMeta describes metadata that synthetic resources must have, including lists and various status objects.",
        "type": "object",
        "properties": {
            "continue": {
                "description": "continue may be set if the user set a limit on the number of items returned, and indicates that the server has more data available. The value is opaque and may be used to issue another request to the endpoint that served this list to retrieve the next set of available objects.",
                "type": "string",
            },
        },
    })
}
