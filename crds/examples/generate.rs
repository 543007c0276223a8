//! Writes the CustomResourceDefinition to where it is checked in: beside this crate and into the chart.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = crds::custom_resource_definition_yaml()?;
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for place in ["metricspipelines.yaml", "../charts/metrics-pipeline/templates/crd.yaml"] {
        std::fs::write(crate_root.join(place), &yaml)?;
    }
    Ok(())
}
