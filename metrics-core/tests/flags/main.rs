//! The flags, held to their document and to metrics-server's.

use std::path::Path;

use metrics_core::flags::{documentation, table};

#[test]
fn the_document_is_what_the_table_generates() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flags.md");
    assert!(
        std::fs::read_to_string(place).unwrap() == documentation::markdown(),
        "docs/flags.md differs from the table: run `cargo run -p metrics-core --example flags`"
    );
}

/// The names in the files are those of the programs' own `--help`; the end-to-end scenario `differential` holds the
/// newer one to the program.
#[test]
fn every_flag_of_metrics_server_is_known() {
    // clap answers this one itself.
    let answered = ["help"];
    for (version, names) in [
        ("v0.3.1", include_str!("metrics-server-v0.3.1.txt")),
        ("v0.9.0", include_str!("metrics-server-v0.9.0.txt")),
    ] {
        let missing: Vec<_> = names
            .lines()
            .filter(|name| !answered.contains(name) && !table::flags().any(|flag| flag.name == *name))
            .collect();
        assert!(missing.is_empty(), "flags of {version} that the table lacks: {missing:?}");
        assert!(names.lines().count() > 30, "the list of {version} is cut short");
    }
}
