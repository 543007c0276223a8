use std::borrow::Cow;

use proptest::prelude::*;

use super::{
    BadSeries, ContainerKey, DecodeOptions, DecodeReport, ExpositionFormat, Metric, Sample, SampleSink,
    decode,
};

/// A body as a kubelet of Kubernetes 1.36 writes it.
const KUBELET: &str = r#"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4dpjz"} 4.710169 1633253812125
container_cpu_usage_seconds_total{container="metrics-server",namespace="kube-system",pod="metrics-server-7cf8b65d65-trtcj"} 50.28702 1633253809720
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4dpjz"} 1.253376e+07 1633253812125
container_memory_working_set_bytes{container="metrics-server",namespace="kube-system",pod="metrics-server-7cf8b65d65-trtcj"} 2.7303936e+07 1633253809720
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4dpjz"} 1.6332538125218985e+09
# HELP container_swap_usage_bytes [ALPHA] Current amount of the container swap usage in bytes.
# TYPE container_swap_usage_bytes gauge
container_swap_usage_bytes{container="coredns",namespace="kube-system",pod="coredns-558bd4d5db-4dpjz"} 0 1633253812125
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 357.35491 1633253809720
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1.616273408e+09 1633253809720
node_swap_usage_bytes 4096 1633253809720
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="kube-system",pod="coredns-558bd4d5db-4dpjz"} 4.68812 1633253807220
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
# TYPE scrape_error gauge
scrape_error 0
"#;

const START: i64 = 7_000_000_000;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Node(Metric, Sample),
    Container(Metric, String, Sample),
}

impl SampleSink for Vec<Seen> {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.push(Seen::Node(metric, sample));
        Ok(())
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        let key = [&key.namespace, &key.pod, &key.container].map(|name| String::from_utf8_lossy(name));
        self.push(Seen::Container(metric, key.join("/"), sample));
        Ok(())
    }
}

fn read(body: impl AsRef<[u8]>, format: ExpositionFormat) -> (Vec<Seen>, DecodeReport) {
    let mut seen = Vec::new();
    let report = decode(body.as_ref(), DecodeOptions { format, default_timestamp_ns: START }, &mut seen);
    (seen, report)
}

fn container(metric: Metric, key: &str, value: u64, timestamp_ns: i64) -> Seen {
    Seen::Container(metric, key.into(), Sample { value, timestamp_ns })
}

fn bad(report: &DecodeReport) -> Vec<(BadSeries, u32)> {
    BadSeries::ALL.into_iter().zip(report.bad).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn decodes_a_kubelets_body() {
    let (seen, report) = read(KUBELET, ExpositionFormat::Text);
    let dns = "kube-system/coredns-558bd4d5db-4dpjz/coredns";
    let server = "kube-system/metrics-server-7cf8b65d65-trtcj/metrics-server";
    let (a, b) = (1_633_253_812_125_000_000, 1_633_253_809_720_000_000);
    assert_eq!(
        seen,
        [
            container(Metric::Cpu, dns, 4_710_169_000, a),
            container(Metric::Cpu, server, 50_287_020_000, b),
            container(Metric::Memory, dns, 12_533_760, a),
            container(Metric::Memory, server, 27_303_936, b),
            container(Metric::StartTime, dns, 1_633_253_812_521_898_496, START),
            container(Metric::Swap, dns, 0, a),
            Seen::Node(Metric::Cpu, Sample { value: 357_354_910_000, timestamp_ns: b }),
            Seen::Node(Metric::Memory, Sample { value: 1_616_273_408, timestamp_ns: b }),
            Seen::Node(Metric::Swap, Sample { value: 4096, timestamp_ns: b }),
        ]
    );
    assert_eq!(report, DecodeReport { accepted: 9, bad: [0; 7], scrape_error: false });
}

#[test]
fn decodes_labels_in_any_order_with_others_and_escapes() {
    let (seen, report) = read(
        concat!(
            "container_memory_working_set_bytes{pod=\"p\",id=\"a,}\\\"b\\\\\",container=\"c\",namespace=\"n\",} 1 2\n",
            "container_memory_working_set_bytes { pod = \"p\\n\\\\\" , container=\"c\", namespace=\"n\" } 1\t2\r\n",
            " node_cpu_usage_seconds_total{} 2 3\n",
            "node_cpu_usage_seconds_total{node=\"x\"} 2.5",
        ),
        ExpositionFormat::Text,
    );
    assert_eq!(
        seen,
        [
            container(Metric::Memory, "n/p/c", 1, 2_000_000),
            container(Metric::Memory, "n/p\n\\/c", 1, 2_000_000),
            Seen::Node(Metric::Cpu, Sample { value: 2_000_000_000, timestamp_ns: 3_000_000 }),
            Seen::Node(Metric::Cpu, Sample { value: 2_500_000_000, timestamp_ns: START }),
        ]
    );
    assert!(bad(&report).is_empty());
}

#[test]
fn decodes_openmetrics_seconds_and_exemplars() {
    let body = concat!(
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1 1633253812.125 # {trace=\"x\"} 1 1\n",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 5 # {trace=\"x\"} 1\n",
        "node_cpu_usage_seconds_total 3 1.5e3\n",
        "# EOF\n"
    );
    let (seen, _) = read(body, ExpositionFormat::OpenMetrics);
    assert_eq!(
        seen,
        [
            container(Metric::Cpu, "n/p/c", 1_000_000_000, 1_633_253_812_125_000_000),
            container(Metric::Memory, "n/p/c", 5, START),
            Seen::Node(Metric::Cpu, Sample { value: 3_000_000_000, timestamp_ns: 1_500_000_000_000 }),
        ]
    );
}

#[test]
fn rejects_only_the_malformed_series_and_counts_the_reason() {
    let good = r#"container="c",namespace="n",pod="p""#;
    for (line, reason) in [
        (
            r#"container_cpu_usage_seconds_total{container="c",namespace="n"} 1 1"#.to_owned(),
            BadSeries::Labels,
        ),
        (r"container_cpu_usage_seconds_total 1 1".to_owned(), BadSeries::Labels),
        (format!(r#"container_cpu_usage_seconds_total{{{good},pod="q"}} 1 1"#), BadSeries::Labels),
        (
            r#"container_cpu_usage_seconds_total{container="",namespace="n",pod="p"} 1"#.to_owned(),
            BadSeries::Labels,
        ),
        (format!(r"container_cpu_usage_seconds_total{{{good} 1 1"), BadSeries::Labels),
        (format!("container_cpu_usage_seconds_total{{{good}}} x 1"), BadSeries::Value),
        (format!("container_cpu_usage_seconds_total{{{good}}} NaN 1"), BadSeries::Value),
        (format!("container_cpu_usage_seconds_total{{{good}}} -1 1"), BadSeries::Value),
        (format!("container_cpu_usage_seconds_total{{{good}}} 1e11 1"), BadSeries::Value),
        (format!("container_cpu_usage_seconds_total{{{good}}}"), BadSeries::Value),
        (format!("container_cpu_usage_seconds_total{{{good}}} 1 1.5"), BadSeries::Timestamp),
        (format!("container_cpu_usage_seconds_total{{{good}}} 1 99999999999999999999"), BadSeries::Timestamp),
        (format!("container_cpu_usage_seconds_total{{{good}}} 1 1 1"), BadSeries::Trailing),
    ] {
        let (seen, report) = read(format!("{line}\n{KUBELET}"), ExpositionFormat::Text);
        assert_eq!((seen.len(), bad(&report)), (9, vec![(reason, 1)]), "{line}");
    }
}

#[test]
fn accepts_values_up_to_the_range_of_their_type() {
    let value = |line: &str| {
        let (seen, report) = read(line, ExpositionFormat::Text);
        match seen.as_slice() {
            [Seen::Node(_, sample) | Seen::Container(.., sample)] => Ok(sample.value),
            _ => Err(report.bad[BadSeries::Value as usize]),
        }
    };
    let start = r#"container_start_time_seconds{container="c",namespace="n",pod="p"}"#;
    assert_eq!(value("node_cpu_usage_seconds_total 1.5e10 1"), Ok(15_000_000_000_000_000_000));
    assert_eq!(value("node_cpu_usage_seconds_total 1.9e10 1"), Err(1));
    assert_eq!(value("node_memory_working_set_bytes 1.8e19 1"), Ok(18_000_000_000_000_000_000));
    assert_eq!(value("node_memory_working_set_bytes 18446744073709551616 1"), Err(1));
    assert_eq!(value("node_swap_usage_bytes 1.8e19 1"), Ok(18_000_000_000_000_000_000));
    assert_eq!(value(&format!("{start} 9.2e9")), Ok(9_200_000_000_000_000_000));
    assert_eq!(value(&format!("{start} 1.5e10")), Err(1));
}

#[test]
fn skips_families_with_a_similar_prefix() {
    let body = concat!(
        "container_cpu_usage_seconds_total_x{container=\"c\",namespace=\"n\",pod=\"p\"} 1 1\n",
        "container_cpu_usage_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1 1\n",
        "node_start_time_seconds 1\nnode_\ncontainer_\nn\nc\n\n"
    );
    assert_eq!(read(body, ExpositionFormat::Text), (vec![], DecodeReport::default()));
}

/// A simple model of the decoder, character by character on strings.
fn model(line: &str) -> Option<Option<Seen>> {
    let (name, rest) = line.split_once(['{', ' '])?;
    let (name, node) = match (name.strip_prefix("container_"), name.strip_prefix("node_")) {
        (Some(name), _) => (name, false),
        (_, Some(name)) => (name, true),
        _ => return None,
    };
    let metric = match name {
        "cpu_usage_seconds_total" => Metric::Cpu,
        "memory_working_set_bytes" => Metric::Memory,
        "swap_usage_bytes" => Metric::Swap,
        "start_time_seconds" if !node => Metric::StartTime,
        _ => return None,
    };
    let mut labels = std::collections::BTreeMap::new();
    let mut chars = rest.chars().peekable();
    if line.contains('{') {
        while chars.peek() != Some(&'}') {
            let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
            chars.next();
            let mut value = String::new();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(match chars.next()? {
                        'n' => '\n',
                        other => other,
                    }),
                    other => value.push(other),
                }
            }
            labels.insert(name, value);
            if chars.peek() == Some(&',') {
                chars.next();
            }
        }
        chars.next();
    }
    let tail: String = chars.collect();
    let mut words = tail.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let value = match metric {
        Metric::Cpu | Metric::StartTime => (value * 1e9) as u64,
        Metric::Memory | Metric::Swap => value as u64,
    };
    let timestamp_ns = words.next().map_or(START, |ms| ms.parse::<i64>().unwrap() * 1_000_000);
    let sample = Sample { value, timestamp_ns };
    if node {
        return Some(Some(Seen::Node(metric, sample)));
    }
    let key = ["namespace", "pod", "container"].map(|name| labels.get(name).cloned().unwrap_or_default());
    if key.iter().any(String::is_empty) {
        return Some(None);
    }
    Some(Some(Seen::Container(metric, key.join("/"), sample)))
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn any_line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_swap_usage_bytes",
        "container_start_time_seconds",
        "node_cpu_usage_seconds_total",
        "node_memory_working_set_bytes",
        "node_start_time_seconds",
        "pod_cpu_usage_seconds_total",
        "scrape_error",
    ]);
    let value = prop_oneof!["[a-z0-9-]{1,8}", "[ -~é\n]{0,6}"];
    let labels = prop::collection::btree_map(
        prop::sample::select(vec!["container", "namespace", "pod", "id", "zone"]),
        value,
        0..6,
    )
    .prop_shuffle_entries();
    let number = prop_oneof![
        (0.0f64..9e9).prop_map(|v| format!("{v}")),
        (0.0f64..9e9).prop_map(|v| format!("{v:e}")),
        (0u64..9_000_000_000).prop_map(|v| v.to_string())
    ];
    let time = prop::option::of(0i64..2_000_000_000_000);
    (name, labels, number, time).prop_map(|(name, labels, number, time)| {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let time = time.map_or_else(String::new, |ms| format!(" {ms}"));
        format!("{name}{labels} {number}{time}")
    })
}

trait ShuffleEntries {
    fn prop_shuffle_entries(self) -> BoxedStrategy<Vec<(&'static str, String)>>;
}

impl<S> ShuffleEntries for S
where
    S: Strategy<Value = std::collections::BTreeMap<&'static str, String>> + 'static,
{
    fn prop_shuffle_entries(self) -> BoxedStrategy<Vec<(&'static str, String)>> {
        self.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle().boxed()
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(lines in prop::collection::vec(any_line(), 0..20)) {
        let expected: Vec<Option<Seen>> = lines.iter().filter_map(|line| model(line)).collect();
        let (seen, report) = read(lines.join("\n"), ExpositionFormat::Text);
        prop_assert_eq!(report.bad[BadSeries::Labels as usize] as usize, expected.iter().filter(|s| s.is_none()).count());
        prop_assert_eq!(seen, expected.into_iter().flatten().collect::<Vec<_>>());
    }

    #[test]
    fn never_panics_on_random_bytes(body in prop::collection::vec(any::<u8>(), 0..400), open in any::<bool>()) {
        read(&body, if open { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text });
    }

    #[test]
    fn never_panics_on_a_corrupted_body(at in 0..KUBELET.len(), byte in any::<u8>(), cut in 0..KUBELET.len(), open in any::<bool>()) {
        let mut body = KUBELET.as_bytes().to_vec();
        body[at] = byte;
        let format = if open { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
        read(&body, format);
        body.truncate(cut);
        read(&body, format);
    }

    #[test]
    fn parses_openmetrics_seconds_exactly(ms in 0i64..4_000_000_000_000) {
        let text = format!("node_cpu_usage_seconds_total 1 {}.{:03}", ms / 1000, ms % 1000);
        let (seen, _) = read(text, ExpositionFormat::OpenMetrics);
        prop_assert_eq!(seen, vec![Seen::Node(Metric::Cpu, Sample { value: 1_000_000_000, timestamp_ns: ms * 1_000_000 })]);
    }
}

#[test]
fn keys_borrow_from_the_body() {
    struct Borrowed;
    impl SampleSink for Borrowed {
        fn node(&mut self, _: Metric, _: Sample) -> Result<(), BadSeries> {
            Ok(())
        }
        fn container(&mut self, _: Metric, key: &ContainerKey<'_>, _: Sample) -> Result<(), BadSeries> {
            assert!(matches!(
                (&key.namespace, &key.pod, &key.container),
                (Cow::Borrowed(_), Cow::Borrowed(_), Cow::Borrowed(_))
            ));
            Ok(())
        }
    }
    let context = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 0 };
    assert_eq!(decode(KUBELET.as_bytes(), context, &mut Borrowed).accepted, 9);
}

#[test]
fn reads_the_scrape_error_under_both_names() {
    let error = |body: &str| read(body, ExpositionFormat::Text).1.scrape_error;
    for body in [
        "resource_scrape_error 1\n",
        "# TYPE scrape_error gauge\nscrape_error 1\nresource_scrape_error 0\n",
        "resource_scrape_error\t1e0",
        "resource_scrape_error{} 1",
        "node_cpu_usage_seconds_total 1 1000\nresource_scrape_error 1 1000\n",
    ] {
        assert!(error(body), "{body:?}");
    }
    for body in [
        "",
        "resource_scrape_error 0\nscrape_error 0\n",
        "# HELP resource_scrape_error 1 if there was an error\n",
        "resource_scrape_errors 1\nresource_scrape_error NaN\nscrape_error\nmy_scrape_error 1\n",
    ] {
        assert!(!error(body), "{body:?}");
    }
}
