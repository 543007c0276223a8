//! Writes the CustomResourceDefinition into the Helm chart.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/metrics-pipeline/templates/crd.yaml");
    std::fs::write(path, crds::custom_resource_definition_yaml()?)?;
    Ok(())
}
