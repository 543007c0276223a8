//! The parts of an OpenAPI document that clients use: the paths of the group, and the kinds with the types of their
//! fields. Descriptions are each server's own, and metrics-server also describes kinds that it does not serve.

use serde_json::{Map, Value, json};

const GROUP: &str = "/apis/metrics.k8s.io/v1beta1/";
const KINDS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.";

/// Returns the compared parts of a document of OpenAPI 2 or 3, or any other value unchanged.
pub(super) fn essence(document: Value) -> Value {
    let schemas = if document["openapi"].is_string() {
        &document["components"]["schemas"]
    } else if document["swagger"].is_string() {
        &document["definitions"]
    } else if let Some(paths) = document["paths"]
        .as_object()
        .filter(|paths| paths.values().all(|path| path["serverRelativeURL"].is_string()))
    {
        // The index: each address contains the digest of the server's own document.
        return paths.keys().map(|path| Value::from(path.as_str())).collect();
    } else {
        return document;
    };
    let kinds = schemas.as_object().into_iter().flatten().filter_map(|(name, schema)| {
        let kind = name.strip_prefix(KINDS)?;
        let members = schema["properties"].as_object().into_iter().flatten();
        let members: Map<_, _> =
            members.map(|(name, member)| (name.clone(), Value::from(kind_of(member, schemas)))).collect();
        let kinds = &schema["x-kubernetes-group-version-kind"];
        Some((kind.to_owned(), json!({"members": members, "required": schema["required"], "kinds": kinds})))
    });
    let paths = document["paths"].as_object().into_iter().flatten().filter_map(|(path, item)| {
        let short = path.strip_prefix(GROUP)?;
        let operations = item.as_object()?.iter().filter(|(name, _)| *name != "parameters");
        let operations: Map<_, _> = operations
            .map(|(method, operation)| {
                let kind = &operation["x-kubernetes-group-version-kind"];
                (method.clone(), json!({"action": operation["x-kubernetes-action"], "kind": kind}))
            })
            .collect();
        Some((short.to_owned(), Value::Object(operations)))
    });
    json!({"kinds": Value::Object(kinds.collect()), "paths": Value::Object(paths.collect())})
}

/// Returns the type of a field in short; references are resolved unless they refer to an object.
fn kind_of(member: &Value, schemas: &Value) -> String {
    let reference = member["$ref"].as_str().or_else(|| member["allOf"][0]["$ref"].as_str());
    if let Some(name) = reference.and_then(|reference| reference.rsplit('/').next()) {
        return match &schemas[name] {
            schema if schema["type"] == "object" => name.rsplit('.').next().unwrap_or(name).to_owned(),
            schema => kind_of(schema, schemas),
        };
    }
    if let Some(of) = member.get("items") {
        return format!("list of {}", kind_of(of, schemas));
    }
    if let Some(of) = member.get("additionalProperties") {
        return format!("map of {}", kind_of(of, schemas));
    }
    let format = member["format"].as_str().map(|format| format!(" ({format})")).unwrap_or_default();
    // Quantity is a string; Kubernetes' OpenAPI 3 also allows a number.
    let one_of = member["oneOf"].is_array().then_some("string");
    format!("{}{format}", member["type"].as_str().or(one_of).unwrap_or("anything"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_references_and_descriptions() {
        let name = format!("{KINDS}X");
        let inline = json!({"openapi": "3.0.0", "components": {"schemas": {name.clone(): {"properties":
            {"at": {"type": "string", "format": "date-time", "description": "a"}}}}}});
        let referring = json!({"openapi": "3.0.0", "components": {"schemas": {
            name: {"properties": {"at": {"allOf": [{"$ref": "#/components/schemas/T"}]}}},
            "T": {"type": "string", "format": "date-time"}}}});
        assert_eq!(essence(inline), essence(referring));
        assert_eq!(essence(json!({"items": []})), json!({"items": []}));
    }
}
