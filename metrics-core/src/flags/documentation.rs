//! Generates docs/flags.md from the table.

use std::fmt::Write as _;

use super::table::{Flag, SECTIONS, Support, ValueKind};

/// Returns the content of `docs/flags.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Flags of metrics-core\n\n\
         Generated from `metrics-core/src/flags/table.rs` by `cargo run -p metrics-core --example flags`.\n\n\
         metrics-core accepts every flag of metrics-server v0.3.1 and v0.9.0 under the same name. Support is one of:\n\n\
         - *supported*: the flag works.\n\
         - *ignored*: the flag has no effect. If it is set, a log line gives the reason.\n\
         - *rejected*: metrics-core does not start if the flag is set, and prints the remedy.\n\n\
         In names, `_` and `-` are equal, and one leading dash is equal to two.\n",
    );
    for section in SECTIONS {
        let _ = write!(
            text,
            "\n## {}\n\n| flag | default | support | description |\n|---|---|---|---|\n",
            section.title
        );
        for flag in section.flags {
            row(&mut text, flag);
        }
    }
    text
}

fn row(text: &mut String, flag: &Flag) {
    let short = flag.short.map(|letter| format!(", `-{letter}`")).unwrap_or_default();
    let value = match flag.kind {
        ValueKind::Bool => "",
        ValueKind::Single => "=VALUE",
        ValueKind::List => "=A,B,…",
    };
    let (support, description) = match flag.support {
        Support::Supported => ("supported", flag.help),
        Support::Ignored(why) => ("ignored", why),
        Support::Rejected(remedy) => ("rejected", remedy),
    };
    let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
    let description = description.replace('|', "\\|");
    let _ = writeln!(text, "| `--{}{value}`{short} | {default} | {support} | {description} |", flag.name);
}
