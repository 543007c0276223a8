//! OpenAPI documents: one of version 2, one of version 3 for each API version, and the index of the latter.
//!
//! kube-apiserver fetches version 2 as JSON and merges it with those of other API servers; it proxies requests for
//! version 3. Both are served only as JSON: clients that request the protobuf form accept JSON too.
//!
//! Descriptions follow those of k8s.io/metrics and k8s.io/apimachinery, as far as they apply.

mod parameters;
mod schemas;

use serde_json::{Map, Value, json};

use self::parameters::parameters;
use self::schemas::{api_version, container_metrics, kind, list_meta, object_meta, usage};
use super::resource::{ApiVersion, GROUP, Resource};
use crate::digest::sha512_hex_upper;

const TITLE: &str = "Kubernetes Metrics API by metrics-core";

/// A document and its ETag.
#[derive(Debug)]
pub(super) struct OpenApiDocument {
    /// The document as JSON.
    pub(super) json: Vec<u8>,
    /// The SHA-512 digest of the JSON.
    pub(super) tag: String,
}

impl OpenApiDocument {
    fn new(json: &Value) -> Self {
        let json = json.to_string().into_bytes();
        Self { tag: sha512_hex_upper(&json), json }
    }
}

/// `/openapi/v2`.
pub(super) fn v2(watch: bool) -> OpenApiDocument {
    let mut paths = Map::new();
    let mut definitions = Map::new();
    for version in ApiVersion::ALL {
        let names = Names { version, document: OpenApiVersion::V2, watch };
        definitions.extend(names.schemas());
        paths.extend(names.paths());
    }
    OpenApiDocument::new(&json!({
        "swagger": "2.0",
        "info": { "title": TITLE, "version": concat!("v", env!("CARGO_PKG_VERSION")) },
        "paths": paths,
        "definitions": definitions,
    }))
}

/// `/openapi/v3/apis/metrics.k8s.io/VERSION`.
pub(super) fn v3(version: ApiVersion, watch: bool) -> OpenApiDocument {
    let names = Names { version, document: OpenApiVersion::V3, watch };
    OpenApiDocument::new(&json!({
        "openapi": "3.0.0",
        "info": { "title": TITLE, "version": concat!("v", env!("CARGO_PKG_VERSION")) },
        "paths": names.paths(),
        "components": { "schemas": names.schemas() },
    }))
}

/// `/openapi/v3`: the URLs of the documents of version 3, each with the digest of its document.
pub(super) fn v3_index<'a>(
    documents: impl IntoIterator<Item = (ApiVersion, &'a OpenApiDocument)>,
) -> OpenApiDocument {
    let mut paths = Map::new();
    for (version, document) in documents {
        let address = v3_address(version, &document.tag);
        paths.insert(format!("apis/{}", version.group_version()), json!({ "serverRelativeURL": address }));
    }
    OpenApiDocument::new(&json!({ "paths": paths }))
}

/// Returns the URL of an immutable document of version 3.
pub(super) fn v3_address(version: ApiVersion, tag: &str) -> String {
    format!("/openapi/v3/apis/{}?hash={tag}", version.group_version())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OpenApiVersion {
    V2,
    V3,
}

/// Builds the schemas and paths of one API version, with the names and references of one document.
#[derive(Clone, Copy)]
struct Names {
    version: ApiVersion,
    document: OpenApiVersion,
    /// Whether watch is served.
    watch: bool,
}

impl Names {
    fn of(self, kind: &str) -> String {
        format!("io.k8s.metrics.pkg.apis.metrics.{}.{kind}", self.version.name())
    }

    /// Returns the name of a metadata type: its usual name in version 3. kube-apiserver merges all documents of
    /// version 2 and renames types that differ from its own, so version 2 uses names of this API group.
    fn of_meta(self, kind: &str) -> String {
        match self.document {
            OpenApiVersion::V3 => format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
            OpenApiVersion::V2 => self.of(kind),
        }
    }

    fn reference(self, name: &str) -> Value {
        let place = match self.document {
            OpenApiVersion::V2 => "#/definitions/",
            OpenApiVersion::V3 => "#/components/schemas/",
        };
        json!({ "$ref": format!("{place}{name}") })
    }

    /// Returns a property that refers to a schema and has its own description.
    fn described(self, name: &str, description: &str) -> Value {
        match self.document {
            OpenApiVersion::V2 => {
                let mut property = self.reference(name);
                property["description"] = description.into();
                property
            }
            OpenApiVersion::V3 => json!({ "description": description, "allOf": [self.reference(name)] }),
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
            Resource::Nodes => ("NodeMetrics sets resource usage metrics of a node.", "usage", usage()),
            Resource::Pods => (
                "PodMetrics sets resource usage metrics of a pod.",
                "containers",
                json!({
                    "description": "Metrics for all containers are collected within the same time window. Containers are sorted by name.",
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
                    "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
                ),
                "timestamp": {
                    "description": "The end of the time interval from which metrics were collected: [timestamp - window, timestamp].",
                    "type": "string",
                    "format": "date-time",
                },
                "window": {
                    "description": "The length of the time interval from which metrics were collected, for example \"15s\" or \"1m0.5s\". CPU usage is the average over it.",
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
                "metadata": self.described(&self.of_meta("ListMeta"), "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"),
                "items": {
                    "description": format!("List of {}, sorted by namespace and name.", resource.kind()),
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
            ApiVersion::V1 => "V1",
            ApiVersion::V1beta1 => "V1beta1",
        };
        let schema = self.reference(&self.of(kind));
        let media_types = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
        let mut operation = json!({
            "tags": [format!("metrics_{}", self.version.name())],
            "description": match action {
                "list" if self.watch => format!("list or watch objects of kind {}", resource.kind()),
                "list" => format!("list objects of kind {}", resource.kind()),
                _ => format!("read the specified {}", resource.kind()),
            },
            "operationId": format!("{}Metrics{title}{}{everywhere}", if action == "list" { "list" } else { "read" }, resource.kind()),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.group_version_kind(resource.kind()),
        });
        operation["responses"] = match self.document {
            OpenApiVersion::V2 => {
                operation["produces"] = json!(media_types);
                operation["schemes"] = json!(["https"]);
                json!({ "200": { "description": "OK", "schema": schema } })
            }
            OpenApiVersion::V3 => {
                let content: Map<String, Value> = media_types
                    .iter()
                    .map(|media| ((*media).to_owned(), json!({ "schema": schema })))
                    .collect();
                json!({ "200": { "description": "OK", "content": content } })
            }
        };
        json!({ "get": operation, "parameters": parameters(self.document, path, resource, action) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{OpenApiDocument, v2, v3, v3_index};
    use crate::api::resource::ApiVersion;

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

    fn check(document: &OpenApiDocument, schemas: &str) {
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
    fn all_references_resolve() {
        check(&v2(true), "/definitions/");
        check(&v3(ApiVersion::V1, true), "/components/schemas/");
        check(&v3(ApiVersion::V1beta1, false), "/components/schemas/");
    }

    #[test]
    fn kubectl_explain_finds_the_schema() {
        let document: Value = serde_json::from_slice(&v3(ApiVersion::V1beta1, false).json).unwrap();
        let kind = &document["paths"]["/apis/metrics.k8s.io/v1beta1/nodes"]["get"]["x-kubernetes-group-version-kind"];
        assert_eq!(kind["kind"], "NodeMetrics");
        let schema =
            &document["components"]["schemas"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"];
        assert!(schema["x-kubernetes-group-version-kind"].as_array().unwrap().contains(kind));
    }

    #[test]
    fn index_has_the_digest_of_each_document() {
        let document = v3(ApiVersion::V1, true);
        let index: Value = serde_json::from_slice(&v3_index([(ApiVersion::V1, &document)]).json).unwrap();
        let address = index["paths"]["apis/metrics.k8s.io/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(address, format!("/openapi/v3/apis/metrics.k8s.io/v1?hash={}", document.tag));
    }
}
