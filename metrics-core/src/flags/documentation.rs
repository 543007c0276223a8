//! The table of flags as a document.

use std::fmt::Write as _;

use super::table::{Fate, Flag, Kind, SECTIONS};

/// `docs/flags.md`, whole: each flag with its fate.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Flags of metrics-core\n\n\
         Generated from `metrics-core/src/flags/table.rs` by `cargo run -p metrics-core --example flags`.\n\n\
         Every flag of metrics-server, v0.3.1 and v0.9.0, is known under its name. It *works*, or it has *no effect*\n\
         and a line in the log says why when it is given, or metrics-core *refuses* to start with it and says what to\n\
         do instead. `-` and `_` are the same in names; one dash does as well as two.\n",
    );
    for section in SECTIONS {
        let _ = write!(text, "\n## {}\n\n| flag | default | fate | |\n|---|---|---|---|\n", section.title);
        for flag in section.flags {
            row(&mut text, flag);
        }
    }
    text
}

fn row(text: &mut String, flag: &Flag) {
    let short = flag.short.map(|letter| format!(", `-{letter}`")).unwrap_or_default();
    let value = match flag.kind {
        Kind::Bool => "",
        Kind::Single => "=VALUE",
        Kind::List => "=A,B,…",
    };
    let (fate, words) = match flag.fate {
        Fate::Works => ("works", flag.help),
        Fate::WithoutEffect(why) => ("no effect", why),
        Fate::Refused(remedy) => ("refused", remedy),
    };
    let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
    let words = words.replace('|', "\\|");
    let _ = writeln!(text, "| `--{}{value}`{short} | {default} | {fate} | {words} |", flag.name);
}
