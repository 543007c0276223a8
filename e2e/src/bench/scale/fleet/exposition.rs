//! The text of a kubelet's response to `/metrics/resource`: families, order and numbers as a real one writes them.

use std::io::Write as _;

use super::super::population::CONTAINERS;
use super::samples::Samples;

/// Appends the body with these samples.
pub(super) fn write(out: &mut Vec<u8>, samples: &Samples<'_>) {
    containers(out, samples);
    node(out, samples);
    pods(out, samples);
    family(
        out,
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    let _ = writeln!(out, "resource_scrape_error {}", u8::from(samples.scrape_error));
}

fn containers(out: &mut Vec<u8>, samples: &Samples<'_>) {
    family(
        out,
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    for one in &samples.containers {
        let (name, labels) = (CONTAINERS[one.container], one.labels);
        let _ = write!(out, "container_cpu_usage_seconds_total{{container=\"{name}\",{labels}}} ");
        seconds(out, one.cpu_us);
        let _ = writeln!(out, " {}", one.at_ms);
    }
    family(
        out,
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    );
    for one in &samples.containers {
        let (name, labels) = (CONTAINERS[one.container], one.labels);
        let _ = write!(out, "container_memory_working_set_bytes{{container=\"{name}\",{labels}}} ");
        exponent(out, one.memory);
        let _ = writeln!(out, " {}", one.at_ms);
    }
    family(
        out,
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    for one in &samples.containers {
        let (name, labels) = (CONTAINERS[one.container], one.labels);
        let _ = write!(out, "container_start_time_seconds{{container=\"{name}\",{labels}}} ");
        let (whole, rest) = (one.start_ms / 1_000_000_000_000, one.start_ms % 1_000_000_000_000);
        let _ = writeln!(out, "{whole}.{rest:012}e+09");
    }
    family(
        out,
        "container_swap_usage_bytes",
        "gauge",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    );
    for one in &samples.containers {
        let (name, labels) = (CONTAINERS[one.container], one.labels);
        let _ = writeln!(out, "container_swap_usage_bytes{{container=\"{name}\",{labels}}} 0 {}", one.at_ms);
    }
}

fn node(out: &mut Vec<u8>, Samples { node, .. }: &Samples<'_>) {
    family(
        out,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    out.extend_from_slice(b"node_cpu_usage_seconds_total ");
    seconds(out, node.cpu_us);
    let _ = writeln!(out, " {}", node.at_ms);
    family(out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    out.extend_from_slice(b"node_memory_working_set_bytes ");
    exponent(out, node.memory);
    let _ = writeln!(out, " {}", node.at_ms);
    family(
        out,
        "node_swap_usage_bytes",
        "gauge",
        "Current swap usage of the node in bytes. Reported only on non-windows systems",
    );
    let _ = writeln!(out, "node_swap_usage_bytes 0 {}", node.at_ms);
}

fn pods(out: &mut Vec<u8>, samples: &Samples<'_>) {
    family(
        out,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    for one in &samples.pods {
        let _ = write!(out, "pod_cpu_usage_seconds_total{{{}}} ", one.labels);
        seconds(out, one.cpu_us);
        let _ = writeln!(out, " {}", one.at_ms);
    }
    family(out, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for one in &samples.pods {
        let _ = write!(out, "pod_memory_working_set_bytes{{{}}} ", one.labels);
        exponent(out, one.memory);
        let _ = writeln!(out, " {}", one.at_ms);
    }
    family(
        out,
        "pod_swap_usage_bytes",
        "gauge",
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
    );
    for one in &samples.pods {
        let _ = writeln!(out, "pod_swap_usage_bytes{{{}}} 0 {}", one.labels, one.at_ms);
    }
}

fn family(out: &mut Vec<u8>, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
}

/// Writes microseconds as seconds with six decimals.
fn seconds(out: &mut Vec<u8>, microseconds: u64) {
    let _ = write!(out, "{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
}

/// Writes a float as Go does.
fn exponent(out: &mut Vec<u8>, bytes: u64) {
    if bytes == 0 {
        out.push(b'0');
        return;
    }
    let digits = bytes.to_string();
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    let dot = if rest.is_empty() { "" } else { "." };
    let _ = write!(out, "{first}{dot}{rest}e+{:02}", digits.len() - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_floats_as_go_does() {
        let text = |bytes| {
            let mut out = Vec::new();
            exponent(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([text(12_533_760), text(4_000_000), text(0)], ["1.253376e+07", "4e+06", "0"]);
    }
}
