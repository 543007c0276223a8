//! Checks the descriptions that `kubectl explain` shows: every field has one, and it names every enum value and the
//! default of its field.

use serde_json::Value;

#[test]
fn every_field_has_a_description() {
    let missing = fields_where(|_, field| field["description"].as_str().is_none_or(str::is_empty)).unwrap();
    assert!(missing.is_empty(), "without description: {missing:#?}");
}

#[test]
fn descriptions_name_every_enum_value() {
    let missing = fields_where(|_, field| {
        let values =
            [&field["enum"], &field["items"]["enum"]].into_iter().filter_map(Value::as_array).flatten();
        values.into_iter().any(|value| !names(field, value))
    })
    .unwrap();
    assert!(missing.is_empty(), "an enum value is not named: {missing:#?}");
    let with_enum =
        fields_where(|_, field| field["enum"].is_array() || field["items"]["enum"].is_array()).unwrap();
    assert!(with_enum.len() >= 12, "only {with_enum:?} have an enum");
}

#[test]
fn descriptions_name_every_default() {
    let missing = fields_where(|_, field| match &field["default"] {
        // The default of an object consists of the defaults of its fields.
        Value::Null | Value::Object(_) => false,
        Value::Array(items) => items.iter().any(|item| !names(field, item)),
        value => !names(field, value),
    })
    .unwrap();
    assert!(missing.is_empty(), "the default is not named: {missing:#?}");
}

#[test]
fn defaults_of_objects_consist_of_the_defaults_of_their_fields() {
    let wrong = fields_where(|_, field| {
        field["default"].as_object().is_some_and(|default| {
            default.iter().any(|(name, value)| field["properties"][name]["default"] != *value)
        })
    })
    .unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn enums_in_status_are_plain_strings() {
    let limited = fields_where(|path, field| {
        let schemas = [field, &field["items"]];
        let is_limited = schemas.iter().any(|schema| schema["enum"].is_array() || schema["oneOf"].is_array());
        path.starts_with(".status") && is_limited
    })
    .unwrap();
    assert!(limited.is_empty(), "a newer operator could not write another value: {limited:?}");
}

/// Returns whether the description of a field contains a value in backticks, as `kubectl explain` shows it.
fn names(field: &Value, value: &Value) -> bool {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    field["description"].as_str().is_some_and(|description| description.contains(&format!("`{text}`")))
}

/// Returns the paths of all fields that satisfy a predicate. `metadata` is described by Kubernetes.
fn fields_where(predicate: impl Fn(&str, &Value) -> bool) -> serde_json::Result<Vec<String>> {
    let crd = <crds::MetricsPipeline as kube::CustomResourceExt>::crd();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema)?;
    let mut found = Vec::new();
    visit(&schema["openAPIV3Schema"], "", &mut |path, field| {
        if path != ".metadata" && predicate(path, field) {
            found.push(path.to_owned());
        }
    });
    Ok(found)
}

fn visit(schema: &Value, path: &str, each: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        each(&path, field);
        visit(field, &path, each);
    }
    if schema["items"].is_object() {
        visit(&schema["items"], path, each);
    }
}
