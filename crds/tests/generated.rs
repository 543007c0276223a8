//! Holds the checked-in CustomResourceDefinition to the types.

use std::path::Path;

#[test]
fn checked_in_yaml_is_what_the_types_generate() {
    let generated = crds::custom_resource_definition_yaml().unwrap();
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for place in ["metricspipelines.yaml", "../charts/metrics-pipeline/templates/crd.yaml"] {
        let checked_in = std::fs::read_to_string(crate_root.join(place)).unwrap();
        assert!(
            checked_in == generated,
            "{place} differs from the types: run `cargo run -p crds --example generate`"
        );
    }
}

/// `kubectl explain` shows descriptions; a field without one is a field that nobody explained.
#[test]
fn every_field_has_a_description() {
    let crd = <crds::MetricsPipeline as kube::CustomResourceExt>::crd();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let mut missing = Vec::new();
    visit(&schema["openAPIV3Schema"], &mut String::new(), &mut missing);
    assert!(missing.is_empty(), "without description: {missing:?}");
}

fn visit(schema: &serde_json::Value, path: &mut String, missing: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let length = path.len();
            path.push('.');
            path.push_str(name);
            if property["description"].as_str().is_none_or(str::is_empty) && path.as_str() != ".metadata" {
                missing.push(path.clone());
            }
            visit(property, path, missing);
            path.truncate(length);
        }
    }
    if schema["items"].is_object() {
        visit(&schema["items"], path, missing);
    }
}
