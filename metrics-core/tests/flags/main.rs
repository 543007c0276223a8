//! Compares the flags with their documentation and with those of metrics-server.

use std::path::Path;

use metrics_core::flags::{documentation, table};

#[test]
fn documentation_is_generated_from_the_table() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    assert!(
        std::fs::read_to_string(place).unwrap() == documentation::markdown(),
        "docs/flags.md differs from the table: run `cargo run -p metrics-core --example flags`"
    );
}

/// The files contain the names in the `--help` of metrics-server. The end-to-end scenario `differential` compares the
/// newer one with the program.
#[test]
fn accepts_every_flag_of_metrics_server() {
    // clap handles this one.
    let handled = ["help"];
    for (version, names) in [
        ("v0.3.1", include_str!("metrics-server-v0.3.1.txt")),
        ("v0.9.0", include_str!("metrics-server-v0.9.0.txt")),
    ] {
        let missing: Vec<_> = names
            .lines()
            .filter(|name| !handled.contains(name) && !table::flags().any(|flag| flag.name == *name))
            .collect();
        assert!(missing.is_empty(), "flags of {version} that the table lacks: {missing:?}");
        assert!(names.lines().count() > 30, "the list of {version} is truncated");
    }
}
