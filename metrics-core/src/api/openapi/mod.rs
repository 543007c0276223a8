//! OpenAPI documents: one of version 2 for all, one of version 3 for each API version, and their index.
//!
//! kube-apiserver fetches version 2 as JSON to merge it with the others', and passes requests for version 3
//! on. Both are served as JSON only: their protobuf forms are asked for by old clients, beside JSON.

mod schemas;

use serde_json::{Map, Value, json};

use self::schemas::{api_version, container_metrics, kind, list_meta, object_meta, usage};
use super::resource::{GROUP, Resource, Version};
use crate::digest::sha512_hex_upper;

const TITLE: &str = "Kubernetes Metrics API by metrics-core";

/// A document and its entity tag.
#[derive(Debug)]
pub(super) struct Document {
    /// JSON.
    pub(super) json: Vec<u8>,
    /// SHA-512 of it.
    pub(super) tag: String,
}

impl Document {
    fn new(json: &Value) -> Self {
        let json = json.to_string().into_bytes();
        Self { tag: sha512_hex_upper(&json), json }
    }
}

/// `/openapi/v2`.
pub(super) fn v2() -> Document {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for version in Version::ALL {
        let names = Names { version, document: DocumentVersion::V2 };
        definitions.extend(names.schemas());
        paths.extend(names.paths());
    }
    Document::new(&json!({
        "swagger": "2.0",
        "info": { "title": TITLE, "version": concat!("v", env!("CARGO_PKG_VERSION")) },
        "paths": paths,
        "definitions": definitions,
    }))
}

/// `/openapi/v3/apis/metrics.k8s.io/VERSION`.
pub(super) fn v3(version: Version) -> Document {
    let names = Names { version, document: DocumentVersion::V3 };
    Document::new(&json!({
        "openapi": "3.0.0",
        "info": { "title": TITLE, "version": concat!("v", env!("CARGO_PKG_VERSION")) },
        "paths": names.paths(),
        "components": { "schemas": names.schemas() },
    }))
}

/// `/openapi/v3`: where the documents of version 3 are, each address with its content's digest.
pub(super) fn v3_index<'a>(documents: impl IntoIterator<Item = (Version, &'a Document)>) -> Document {
    let mut paths = Map::new();
    for (version, document) in documents {
        let address = v3_address(version, &document.tag);
        paths.insert(format!("apis/{}", version.group_version()), json!({ "serverRelativeURL": address }));
    }
    Document::new(&json!({ "paths": paths }))
}

/// The address of a document of version 3 that never changes.
pub(super) fn v3_address(version: Version, tag: &str) -> String {
    format!("/openapi/v3/apis/{}?hash={tag}", version.group_version())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DocumentVersion {
    V2,
    V3,
}

/// Names and references within one document.
#[derive(Clone, Copy)]
struct Names {
    version: Version,
    document: DocumentVersion,
}

impl Names {
    fn of(self, kind: &str) -> String {
        format!("io.k8s.metrics.pkg.apis.metrics.{}.{kind}", self.version.name())
    }

    /// The metadata types have their usual names in version 3. kube-apiserver merges all documents of
    /// version 2 and renames what differs from its own, so there they have names of ours.
    fn of_meta(self, kind: &str) -> String {
        match self.document {
            DocumentVersion::V3 => format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
            DocumentVersion::V2 => self.of(kind),
        }
    }

    fn reference(self, name: &str) -> Value {
        let place = match self.document {
            DocumentVersion::V2 => "#/definitions/",
            DocumentVersion::V3 => "#/components/schemas/",
        };
        json!({ "$ref": format!("{place}{name}") })
    }

    /// A property that refers to a schema and has a description of its own.
    fn described(self, name: &str, description: &str) -> Value {
        match self.document {
            DocumentVersion::V2 => {
                let mut property = self.reference(name);
                property["description"] = description.into();
                property
            }
            DocumentVersion::V3 => json!({ "description": description, "allOf": [self.reference(name)] }),
        }
    }

    fn schemas(self) -> Map<String, Value> {
        let mut schemas = Map::new();
        schemas.insert(self.of_meta("ObjectMeta"), object_meta());
        schemas.insert(self.of_meta("ListMeta"), list_meta());
        schemas.insert(self.of("ContainerMetrics"), container_metrics());
        for resource in Resource::ALL {
            schemas.insert(self.of(resource.kind()), self.object(resource));
            schemas.insert(self.of(resource.list_kind()), self.list(resource));
        }
        schemas
    }

    fn object(self, resource: Resource) -> Value {
        let (description, last, last_schema) = match resource {
            Resource::Nodes => (
                "NodeMetrics is the resource usage of a node: CPU averaged over the window that ends at the timestamp, \
                 memory at the timestamp.",
                "usage",
                usage("The node's usage, system daemons and all pods included."),
            ),
            Resource::Pods => (
                "PodMetrics is the resource usage of a pod, container by container: CPU averaged over the window that \
                 ends at the timestamp, memory at the timestamp.",
                "containers",
                json!({
                    "description": "The usage of each container, ordered by name. The pod's usage is their sum.",
                    "type": "array",
                    "items": self.reference(&self.of("ContainerMetrics")),
                }),
            ),
        };
        json!({
            "description": description,
            "type": "object",
            "required": ["timestamp", "window", last],
            "properties": {
                "apiVersion": api_version(),
                "kind": kind(),
                "metadata": self.described(
                    &self.of_meta("ObjectMeta"),
                    "Name, namespace and labels of the object measured. The creation timestamp is when the request was answered.",
                ),
                "timestamp": {
                    "description": "When the measurement ended, in UTC and whole seconds: the usage is that of [timestamp - window, timestamp].",
                    "type": "string",
                    "format": "date-time",
                },
                "window": {
                    "description": "The time over which CPU usage was averaged, as a duration like \"15s\" or \"1m0.5s\".",
                    "type": "string",
                },
                last: last_schema,
            },
            "x-kubernetes-group-version-kind": [self.group_version_kind(resource.kind())],
        })
    }

    fn list(self, resource: Resource) -> Value {
        json!({
            "description": format!("{} is a list of {}.", resource.list_kind(), resource.kind()),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": api_version(),
                "kind": kind(),
                "metadata": self.described(&self.of_meta("ListMeta"), "How to go on with a list that was cut short."),
                "items": {
                    "description": "The objects, ordered by namespace and name.",
                    "type": "array",
                    "items": self.reference(&self.of(resource.kind())),
                },
            },
            "x-kubernetes-group-version-kind": [self.group_version_kind(resource.list_kind())],
        })
    }

    fn group_version_kind(self, kind: &str) -> Value {
        json!({ "group": GROUP, "version": self.version.name(), "kind": kind })
    }

    fn paths(self) -> Map<String, Value> {
        let base = format!("/apis/{}", self.version.group_version());
        let mut paths = Map::new();
        for (path, resource, action) in [
            ("nodes", Resource::Nodes, "list"),
            ("nodes/{name}", Resource::Nodes, "get"),
            ("pods", Resource::Pods, "list"),
            ("namespaces/{namespace}/pods", Resource::Pods, "list"),
            ("namespaces/{namespace}/pods/{name}", Resource::Pods, "get"),
        ] {
            paths.insert(format!("{base}/{path}"), self.path(path, resource, action));
        }
        paths
    }

    fn path(self, path: &str, resource: Resource, action: &str) -> Value {
        let kind = if action == "list" { resource.list_kind() } else { resource.kind() };
        let everywhere = if path == "pods" { "ForAllNamespaces" } else { "" };
        let title = match self.version {
            Version::V1 => "V1",
            Version::V1beta1 => "V1beta1",
        };
        let schema = self.reference(&self.of(kind));
        let media_types = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
        let mut operation = json!({
            "tags": [format!("metrics_{}", self.version.name())],
            "description": match action {
                "list" => format!("List {}.", resource.kind()),
                _ => format!("Read the {} of one {}.", resource.kind(), resource.name().trim_end_matches('s')),
            },
            "operationId": format!("{}Metrics{title}{}{everywhere}", if action == "list" { "list" } else { "read" }, resource.kind()),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.group_version_kind(resource.kind()),
        });
        operation["responses"] = match self.document {
            DocumentVersion::V2 => {
                operation["produces"] = json!(media_types);
                operation["schemes"] = json!(["https"]);
                json!({ "200": { "description": "OK", "schema": schema } })
            }
            DocumentVersion::V3 => {
                let content: Map<String, Value> = media_types
                    .iter()
                    .map(|media| ((*media).to_owned(), json!({ "schema": schema })))
                    .collect();
                json!({ "200": { "description": "OK", "content": content } })
            }
        };
        json!({ "get": operation, "parameters": self.parameters(path, action) })
    }

    fn parameters(self, path: &str, action: &str) -> Vec<Value> {
        let mut parameters = Vec::new();
        let mut parameter = |name: &str, place: &str, kind: &str, description: &str| {
            let mut parameter = json!({ "name": name, "in": place, "description": description });
            match self.document {
                DocumentVersion::V2 => parameter["type"] = kind.into(),
                DocumentVersion::V3 => parameter["schema"] = json!({ "type": kind }),
            }
            if place == "path" {
                parameter["required"] = true.into();
            }
            parameters.push(parameter);
        };
        if path.contains("{namespace}") {
            parameter("namespace", "path", "string", "The namespace.");
        }
        if path.contains("{name}") {
            parameter("name", "path", "string", "The name of the object measured.");
        }
        if action == "list" {
            parameter(
                "labelSelector",
                "query",
                "string",
                "Only objects with such labels, like \"app=web,tier in (a,b)\".",
            );
            parameter(
                "fieldSelector",
                "query",
                "string",
                "Only objects with such fields: metadata.name and metadata.namespace can be compared by =, == and !=.",
            );
            parameter(
                "limit",
                "query",
                "integer",
                "At most so many objects; the list's metadata.continue then says how to go on.",
            );
            parameter("continue", "query", "string", "metadata.continue of the list to go on from.");
            parameter(
                "watch",
                "query",
                "boolean",
                "Send the objects' changes as events, one after the other.",
            );
            parameter(
                "resourceVersion",
                "query",
                "string",
                "For a watch: metadata.resourceVersion of the list, object or bookmark to go on from; without it the events begin with what is there.",
            );
            parameter("timeoutSeconds", "query", "integer", "For a watch: when it is to end.");
            parameter(
                "allowWatchBookmarks",
                "query",
                "boolean",
                "For a watch: send an event of type BOOKMARK now and then, to go on from.",
            );
            parameter(
                "sendInitialEvents",
                "query",
                "boolean",
                "For a watch: begin with what is there, and then a bookmark annotated k8s.io/initial-events-end.",
            );
            parameter(
                "resourceVersionMatch",
                "query",
                "string",
                "For a watch with sendInitialEvents: NotOlderThan.",
            );
        }
        parameter("pretty", "query", "string", "\"true\" for JSON with line breaks and indentation.");
        parameters
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Document, v2, v3, v3_index};
    use crate::api::resource::Version;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if name == "$ref" {
                        found.push(value.as_str().unwrap().to_owned());
                    }
                    references(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn check(document: &Document, schemas: &str) {
        let value: Value = serde_json::from_slice(&document.json).unwrap();
        let mut found = Vec::new();
        references(&value, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(pointer.starts_with(schemas), "{reference}");
            assert!(value.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn refers_to_nothing_absent() {
        check(&v2(), "/definitions/");
        check(&v3(Version::V1), "/components/schemas/");
        check(&v3(Version::V1beta1), "/components/schemas/");
    }

    #[test]
    fn has_what_kubectl_explain_looks_for() {
        let document: Value = serde_json::from_slice(&v3(Version::V1beta1).json).unwrap();
        let kind = &document["paths"]["/apis/metrics.k8s.io/v1beta1/nodes"]["get"]["x-kubernetes-group-version-kind"];
        assert_eq!(kind["kind"], "NodeMetrics");
        let schema =
            &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"];
        assert!(schema["x-kubernetes-group-version-kind"].as_array().unwrap().contains(kind));
    }

    #[test]
    fn indexes_by_digest() {
        let document = v3(Version::V1);
        let index: Value = serde_json::from_slice(&v3_index([(Version::V1, &document)]).json).unwrap();
        let address = index["paths"]["apis/metrics.k8s.io/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(address, format!("/openapi/v3/apis/metrics.k8s.io/v1?hash={}", document.tag));
    }
}
