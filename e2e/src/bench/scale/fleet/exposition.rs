//! The response of a kubelet to `/metrics/resource`: families, order and numbers as a real one writes them.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::super::population::{CONTAINERS, Pod, Population};

/// The interval at which a kubelet samples its node; it samples containers at each request.
const NODE_SAMPLE_MS: u64 = 10_000;
/// The age of the containers when the fleet starts.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// The metrics of one kubelet.
pub(super) struct Exposition {
    /// The node's pods, in the order of the body: number, and the labels that identify them.
    pods: Vec<(Pod, String)>,
    node: u32,
    started: SystemTime,
}

impl Exposition {
    pub(super) fn new(population: Population, node: u32) -> Self {
        let label = |pod: Pod| format!("namespace=\"{}\",pod=\"{}\"", pod.namespace(), pod.name());
        let mut pods: Vec<_> = population.pods_of(node).map(|pod| (pod, label(pod))).collect();
        pods.sort_by(|a, b| a.1.cmp(&b.1));
        Self { pods, node, started: SystemTime::now() - AGE }
    }

    /// Appends the current body.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let now_ms = millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        let started_ms = millis(self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        self.containers(out, now_ms, started_ms);
        self.node(out, now_ms, started_ms);
        self.pods(out, now_ms, started_ms);
        family(
            out,
            "resource_scrape_error",
            "gauge",
            "1 if there was an error while getting container metrics, 0 otherwise",
        );
        out.extend_from_slice(b"resource_scrape_error 0\n");
    }

    fn containers(&self, out: &mut Vec<u8>, now_ms: u64, started_ms: u64) {
        let all = || {
            (0u32..).zip(CONTAINERS).flat_map(|(at, name)| self.pods.iter().map(move |pod| (at, name, pod)))
        };
        family(
            out,
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
        );
        for (at, name, (pod, labels)) in all() {
            let _ = write!(out, "container_cpu_usage_seconds_total{{container=\"{name}\",{labels}}} ");
            seconds(out, millicores(*pod, at) * (now_ms - started_ms));
            let _ = writeln!(out, " {now_ms}");
        }
        family(
            out,
            "container_memory_working_set_bytes",
            "gauge",
            "Current working set of the container in bytes",
        );
        for (at, name, (pod, labels)) in all() {
            let _ = write!(out, "container_memory_working_set_bytes{{container=\"{name}\",{labels}}} ");
            exponent(out, working_set(*pod, at, now_ms));
            let _ = writeln!(out, " {now_ms}");
        }
        family(
            out,
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds",
        );
        for (_, name, (pod, labels)) in all() {
            let start_ms = started_ms - u64::from(pod.0 % 1000);
            let _ = write!(out, "container_start_time_seconds{{container=\"{name}\",{labels}}} ");
            let (whole, rest) = (start_ms / 1_000_000_000_000, start_ms % 1_000_000_000_000);
            let _ = writeln!(out, "{whole}.{rest:012}e+09");
        }
        family(
            out,
            "container_swap_usage_bytes",
            "gauge",
            "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        );
        for (_, name, (_, labels)) in all() {
            let _ = writeln!(out, "container_swap_usage_bytes{{container=\"{name}\",{labels}}} 0 {now_ms}");
        }
    }

    fn node(&self, out: &mut Vec<u8>, now_ms: u64, started_ms: u64) {
        let at_ms = now_ms - (now_ms + u64::from(self.node) * 997) % NODE_SAMPLE_MS;
        let all = self.pods.iter().map(|(pod, _)| millicores(*pod, 0) + millicores(*pod, 1)).sum::<u64>();
        family(
            out,
            "node_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the node in core-seconds",
        );
        out.extend_from_slice(b"node_cpu_usage_seconds_total ");
        seconds(out, (all + 250) * (at_ms - started_ms));
        let _ = writeln!(out, " {at_ms}");
        family(out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
        out.extend_from_slice(b"node_memory_working_set_bytes ");
        exponent(out, 8_000_000_000 + u64::from(self.node) * 4096 + at_ms % 100_000 * 4096);
        let _ = writeln!(out, " {at_ms}");
        family(
            out,
            "node_swap_usage_bytes",
            "gauge",
            "Current swap usage of the node in bytes. Reported only on non-windows systems",
        );
        let _ = writeln!(out, "node_swap_usage_bytes 0 {at_ms}");
    }

    fn pods(&self, out: &mut Vec<u8>, now_ms: u64, started_ms: u64) {
        family(
            out,
            "pod_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the pod in core-seconds",
        );
        for (pod, labels) in &self.pods {
            let _ = write!(out, "pod_cpu_usage_seconds_total{{{labels}}} ");
            seconds(out, (millicores(*pod, 0) + millicores(*pod, 1)) * (now_ms - started_ms));
            let _ = writeln!(out, " {now_ms}");
        }
        family(out, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
        for (pod, labels) in &self.pods {
            let _ = write!(out, "pod_memory_working_set_bytes{{{labels}}} ");
            exponent(out, working_set(*pod, 0, now_ms) + working_set(*pod, 1, now_ms));
            let _ = writeln!(out, " {now_ms}");
        }
        family(
            out,
            "pod_swap_usage_bytes",
            "gauge",
            "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        );
        for (_, labels) in &self.pods {
            let _ = writeln!(out, "pod_swap_usage_bytes{{{labels}}} 0 {now_ms}");
        }
    }
}

fn family(out: &mut Vec<u8>, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
}

/// Returns the CPU of a container in millicores.
fn millicores(pod: Pod, container: u32) -> u64 {
    u64::from(1 + (pod.0.wrapping_mul(7919).wrapping_add(container * 31)) % 150)
}

/// Returns the memory of a container, which varies a little.
fn working_set(pod: Pod, container: u32, now_ms: u64) -> u64 {
    let pages = u64::from(4_000 + pod.0.wrapping_mul(104_729) % 20_000 + container * 777);
    (pages + (now_ms / 1000 * u64::from(pod.0 % 17)) % 512) * 4096
}

/// Writes microseconds as seconds with six decimals.
fn seconds(out: &mut Vec<u8>, microseconds: u64) {
    let _ = write!(out, "{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
}

/// Writes a float as Go does.
fn exponent(out: &mut Vec<u8>, bytes: u64) {
    let digits = bytes.to_string();
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    let dot = if rest.is_empty() { "" } else { "." };
    let _ = write!(out, "{first}{dot}{rest}e+{:02}", digits.len() - 1);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_bodies_of_real_size_with_advancing_counters() {
        let exposition = Exposition::new(Population { nodes: 1000, pods_per_node: 30 }, 3);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        exposition.write(&mut first);
        std::thread::sleep(Duration::from_millis(300));
        exposition.write(&mut second);
        assert!((40_000..50_000).contains(&first.len()), "{}", first.len());
        let value = |body: &[u8]| {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let line =
                text.lines().find(|line| line.starts_with("container_cpu_usage_seconds_total{")).unwrap();
            line.split(' ').nth(1).unwrap().parse::<f64>().unwrap()
        };
        assert!(value(&second) > value(&first));
        let mut number = Vec::new();
        exponent(&mut number, 12_533_760);
        assert_eq!(number, b"1.253376e+07");
    }
}
