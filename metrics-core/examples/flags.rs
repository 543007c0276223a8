//! Generates docs/flags.md.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    std::fs::write(place, metrics_core::flags::documentation::markdown())
}
