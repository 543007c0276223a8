//! Compares the checked-in CustomResourceDefinition with the types.

use std::path::Path;

#[test]
fn chart_contains_the_generated_definition() {
    let generated = crds::custom_resource_definition_yaml().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/metrics-pipeline/templates/crd.yaml");
    let checked_in = std::fs::read_to_string(path).unwrap();
    assert!(checked_in == generated, "crd.yaml is outdated: run `cargo run -p crds --example generate`");
    assert!(!generated.contains("{{"), "Helm would interpret the text as a template");
}
