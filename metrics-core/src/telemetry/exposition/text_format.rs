//! Converts OpenMetrics to the text format while it is written.

use std::fmt::Write;

/// Receives OpenMetrics and writes the text format, which differs in its metadata: a counter's metadata name the
/// `_total` series, an info's the `_info` series (of type gauge), and there is neither a UNIT line nor an EOF line.
pub(super) struct TextFormat<W> {
    out: W,
    /// The beginning of a line that is not complete.
    line: String,
    /// A HELP line, without the prefix: its suffix depends on the TYPE line, which follows.
    help: Option<String>,
}

impl<W: Write> TextFormat<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, line: String::new(), help: None }
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> std::fmt::Result {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.complete(&line)?;
        }
        self.write_help("")
    }

    fn complete(&mut self, line: &str) -> std::fmt::Result {
        let Some(metadata) = line.strip_prefix("# ") else {
            self.write_help("")?;
            self.out.write_str(line)?;
            return self.out.write_char('\n');
        };
        if let Some(help) = metadata.strip_prefix("HELP ") {
            self.write_help("")?;
            self.help = Some(help.to_owned());
            return Ok(());
        }
        if metadata == "EOF" || metadata.starts_with("UNIT ") {
            return Ok(());
        }
        match metadata.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
            Some((name, kind)) => {
                let suffix = suffix(kind);
                self.write_help(suffix)?;
                let plain = match kind {
                    "info" => "gauge",
                    "unknown" => "untyped",
                    other => other,
                };
                writeln!(self.out, "# TYPE {name}{suffix} {plain}")
            }
            None => writeln!(self.out, "{line}"),
        }
    }

    fn write_help(&mut self, suffix: &str) -> std::fmt::Result {
        match self.help.take().as_deref().map(|help| help.split_once(' ').unwrap_or((help, ""))) {
            None => Ok(()),
            Some((name, "")) => writeln!(self.out, "# HELP {name}{suffix}"),
            Some((name, help)) => writeln!(self.out, "# HELP {name}{suffix} {help}"),
        }
    }
}

impl<W: Write> Write for TextFormat<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some((end, more)) = rest.split_once('\n') {
            rest = more;
            if self.line.is_empty() {
                self.complete(end)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.push_str(end);
                self.complete(&line)?;
                // The buffer serves the next line.
                line.clear();
                self.line = line;
            }
        }
        self.line.push_str(rest);
        Ok(())
    }
}

fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::TextFormat;

    #[test]
    fn converts_lines_however_they_are_written() {
        let openmetrics = "# HELP a Things\n# TYPE a counter\n# UNIT a bytes\na_total 1\n# HELP b\n# TYPE b info\nb_info 1\n\
                           # TYPE c unknown\nc 1\n# HELP d last\n# EOF\n";
        let expected = "# HELP a_total Things\n# TYPE a_total counter\na_total 1\n# HELP b_info\n# TYPE b_info gauge\n\
                        b_info 1\n# TYPE c untyped\nc 1\n# HELP d last\n";
        for step in [1, 2, 7, 1000] {
            let mut out = String::new();
            let mut text = TextFormat::new(&mut out);
            for piece in openmetrics.as_bytes().chunks(step) {
                text.write_str(std::str::from_utf8(piece).unwrap()).unwrap();
            }
            text.finish().unwrap();
            assert_eq!(out, expected, "{step}");
        }
    }
}
