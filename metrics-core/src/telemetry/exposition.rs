//! The exposition of metrics: OpenMetrics 1.0, or the Prometheus text format 0.0.4.

use std::fmt::Write;

use prometheus_client::registry::Registry;

/// The content type of OpenMetrics.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the Prometheus text format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns whether an Accept header lists OpenMetrics, as that of Prometheus does.
#[must_use]
pub(crate) fn accepts_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|range| range.trim().split(';').next() == Some("application/openmetrics-text"))
}

/// Encodes all metrics of `registry`.
pub(crate) fn encode(registry: &Registry, openmetrics: bool) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    if openmetrics { Ok(text) } else { to_text_format(&text) }
}

/// Converts OpenMetrics to the text format, which differs in its metadata: a counter's metadata name the `_total`
/// series, an info's the `_info` series (of type gauge), and there is neither a UNIT line nor an EOF line.
fn to_text_format(openmetrics: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some(help) = line.strip_prefix("# HELP ") else {
            writeln!(text, "{}", metadata(line))?;
            continue;
        };
        // HELP precedes TYPE, and the type decides on the suffix.
        let kind =
            lines.peek().and_then(|next| next.strip_prefix("# TYPE ")).and_then(|next| next.split_once(' '));
        let suffix = kind.map_or("", |(_, kind)| suffix(kind));
        match help.split_once(' ') {
            Some((name, help)) => writeln!(text, "# HELP {name}{suffix} {help}")?,
            None => writeln!(text, "# HELP {help}{suffix}")?,
        }
    }
    Ok(text)
}

fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

fn metadata(line: &str) -> String {
    match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
        Some((name, kind)) => {
            let plain = match kind {
                "info" => "gauge",
                "unknown" => "untyped",
                other => other,
            };
            format!("# TYPE {name}{} {plain}", suffix(kind))
        }
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Registry;

    use super::{accepts_openmetrics, encode};

    #[test]
    fn both_formats_name_metadata_after_the_series() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        counter.inc();
        registry.register("a", "Things", counter);
        registry.register("b", "The build", Info::new(vec![("version", "1")]));
        let openmetrics = encode(&registry, true).unwrap();
        assert!(
            openmetrics.contains("# TYPE a counter\na_total 1\n") && openmetrics.ends_with("# EOF\n"),
            "{openmetrics}"
        );
        assert_eq!(
            encode(&registry, false).unwrap(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n# HELP b_info The build.\n# TYPE b_info gauge\nb_info{version=\"1\"} 1\n"
        );
    }

    #[test]
    fn recognizes_the_accept_header_of_prometheus() {
        assert!(accepts_openmetrics("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"));
        assert!(!accepts_openmetrics("text/plain;version=0.0.4, */*"));
    }
}
