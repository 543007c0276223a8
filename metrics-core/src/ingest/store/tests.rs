//! Tests of the store through its public methods.

mod changes;
mod coverage;
mod end_to_end;
mod recreated_objects;
mod samples;
mod two_pass_reads;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{PutSummary, RequestTime, ScrapeBatch, Store, StoreConfig, StoreDirectory, Ticket};
use crate::ingest::decode::{BadSeries, DecodeOptions, ExpositionFormat, decode};
use crate::ingest::discover::Node;
use crate::model::labels::Labels;
use crate::model::rows::{Lookup, Pick, Rows};

const CONFIG: StoreConfig =
    StoreConfig { scrape_interval: Duration::from_secs(15), max_age: Duration::from_secs(60) };

pub(super) struct TestStore {
    pub(super) directory: Arc<StoreDirectory>,
    pub(super) store: Arc<Store>,
}

/// A container in a body: key, CPU seconds, memory bytes, start (Unix seconds).
pub(super) type ContainerSample<'a> = (&'a str, f64, u64, Option<i64>);

impl TestStore {
    pub(super) fn new() -> Self {
        Self::with_max_age(CONFIG.max_age)
    }

    pub(super) fn with_max_age(max_age: Duration) -> Self {
        Self::with(StoreConfig { max_age, ..CONFIG })
    }

    pub(super) fn with_interval(scrape_interval: Duration) -> Self {
        Self::with(StoreConfig { scrape_interval, ..CONFIG })
    }

    fn with(config: StoreConfig) -> Self {
        let directory = Arc::new(StoreDirectory::new());
        directory.stop_clock();
        let store = Arc::new(Store::new(directory.clone(), config));
        directory.begin_node_list();
        directory.begin_pod_list();
        Self { directory, store }
    }

    pub(super) fn node(&self, name: &str, uid: &str) -> Ticket {
        let node = Node {
            name: name.into(),
            uid: uid.into(),
            labels: [("node", name)].into_iter().collect(),
            addresses: [].into(),
            identities: [].into(),
            port: 1,
            path: "/".into(),
            ready: true,
            cpu_millicores: 0,
        };
        self.directory.apply_node(node.clone());
        self.store.insert_node(&Arc::new(node))
    }

    pub(super) fn pod(&self, key: &str, uid: &str) {
        let (namespace, name) = key.split_once('/').unwrap();
        self.directory.apply_pod(namespace, name, uid, [("pod", name)].into_iter().collect());
    }

    pub(super) fn synced(&self) {
        self.directory.end_node_list();
        self.directory.end_pod_list();
    }

    /// Writes a body with timestamps `at_s` seconds after some epoch.
    pub(super) fn body(
        &self,
        ticket: Ticket,
        at_s: i64,
        containers: &[ContainerSample<'_>],
    ) -> Option<PutSummary> {
        let mut body = String::new();
        let ms = (1_700_000_000 + at_s) * 1000;
        for (metric, value) in
            [("cpu_usage_seconds_total", 0), ("memory_working_set_bytes", 1), ("start_time_seconds", 2)]
        {
            for (key, cpu, memory, start) in containers {
                let [namespace, pod, container] = key.split('/').collect::<Vec<_>>()[..] else { panic!() };
                let text = match value {
                    0 => format!("{cpu} {ms}"),
                    1 => format!("{memory} {ms}"),
                    _ => match start {
                        Some(start) => (1_700_000_000 + start).to_string(),
                        None => continue,
                    },
                };
                body += &format!(
                    "container_{metric}{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}} {text}\n"
                );
            }
        }
        body += &format!("node_cpu_usage_seconds_total {} {ms}\n", 1000 + at_s);
        body += &format!("node_memory_working_set_bytes 4096 {ms}\n");
        let mut batch = self.store.begin_batch(ticket)?;
        decode(
            body.as_bytes(),
            DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 },
            &mut batch,
        );
        self.put(ticket, batch)
    }

    /// Writes a batch that was requested now. The wall clock is at the epoch of [`Self::body`].
    pub(super) fn put(&self, ticket: Ticket, batch: ScrapeBatch) -> Option<PutSummary> {
        let monotonic_ms = self.directory.now_ms();
        let unix_ns = 1_700_000_000_000_000_000 + i64::try_from(monotonic_ms).unwrap() * 1_000_000;
        self.store.put(ticket, batch, RequestTime { monotonic_ms, unix_ns })
    }

    /// `namespace/pod: container=millicores…`.
    fn pods(&self, namespace: Option<&str>, after: Option<(&str, &str)>, limit: usize) -> Vec<String> {
        let mut rows = Vec::new();
        self.store.pods(namespace, after, &mut |_, _| Pick::Take, &mut |row| {
            assert_eq!(row.labels.get("pod"), Some(row.name));
            let containers: Vec<_> = row
                .containers
                .iter()
                .map(|container| format!("{}={}", container.name, container.usage.cpu_nanocores / 1_000_000))
                .collect();
            rows.push(format!("{}/{}: {}", row.namespace, row.name, containers.join(" ")));
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        rows
    }

    fn all(&self) -> Vec<String> {
        self.pods(None, None, usize::MAX)
    }

    fn lookup(&self, key: &str) -> Lookup {
        let (namespace, name) = key.split_once('/').unwrap();
        self.store.pod(namespace, name, &mut |row| assert_eq!((row.namespace, row.name), (namespace, name)))
    }
}

/// The fast path for expected lines must not accept a line that only looks the same unescaped.
#[test]
fn rejects_a_malformed_line_whose_name_contains_quotes() {
    let fixture = TestStore::new();
    let node = fixture.node("a", "1");
    fixture.synced();
    let read = |line: &str| {
        let mut batch = fixture.store.begin_batch(node).unwrap();
        let context = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 };
        let report = decode(line.as_bytes(), context, &mut batch);
        fixture.put(node, batch).unwrap();
        (report.accepted, report.bad[BadSeries::Labels as usize])
    };
    let line = |pod: &str| {
        format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"{pod}\"}} 1 1\n")
    };
    for _ in 0..2 {
        assert_eq!(read(&line("p")), (1, 0), "expected the second time");
    }
    let escaped = line(r#"p\"x"#);
    for _ in 0..2 {
        assert_eq!(read(&escaped), (1, 0));
    }
    assert_eq!(read(&line("p\"x")), (0, 1), "not escaped");
    assert_eq!(read(&escaped.repeat(2)), (1, 0), "the repeated one is a duplicate");
}

#[test]
fn decodes_a_huge_repeated_pod_without_a_quadratic_search() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let names: Vec<String> = (0..20_000).map(|n| format!("n/p/c{n}")).collect();
    let containers: Vec<ContainerSample<'_>> = names.iter().map(|name| (&**name, 1.0, 1, None)).collect();
    fixture.body(ticket, 0, &containers);
    let line = |name: &String| {
        let name = name.rsplit('/').next().unwrap();
        format!(
            "container_cpu_usage_seconds_total{{container=\"{name}\",namespace=\"n\",pod=\"p\"}} 2 1700000010000\n"
        )
    };
    // In reverse order, so that no line is where it is expected.
    let body: String = names.iter().rev().map(line).collect();
    let body = body.repeat(10);
    // The thread's CPU time does not depend on other load: a quadratic search takes minutes.
    let cpu = || -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let started = cpu();
    let mut batch = fixture.store.begin_batch(ticket).unwrap();
    let context = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 };
    let report = decode(body.as_bytes(), context, &mut batch);
    assert_eq!((report.accepted, report.bad[BadSeries::Duplicate as usize]), (20_000, 180_000));
    let used = Duration::from_nanos(cpu() - started);
    assert!(used < Duration::from_secs(10), "{used:?}");
}

#[test]
fn returns_rows_in_order_after_two_bodies() {
    let fixture = TestStore::new();
    let (b, a) = (fixture.node("b", "1"), fixture.node("a", "1"));
    for key in ["n/p1", "n/p2", "m/p9", "n/unknown-to-kubelets"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let old = Some(-1000);
    fixture.body(
        a,
        0,
        &[("n/p2/y", 10.0, 1, old), ("n/p2/x", 20.0, 1, old), ("n/not-running/c", 1.0, 1, old)],
    );
    let put = fixture.body(b, 0, &[("n/p1/c", 1.0, 1, old), ("m/p9/c", 1.0, 1, old)]).unwrap();
    assert_eq!((put.node_measured, put.pods_measured), (false, false));
    assert!(fixture.all().is_empty());
    assert_eq!(fixture.lookup("n/p1"), Lookup::Unmeasured);
    assert_eq!(fixture.lookup("n/p3"), Lookup::Absent);
    assert!(!fixture.store.coverage().is_nearly_complete());
    fixture.body(
        a,
        10,
        &[("n/p2/y", 11.0, 1, old), ("n/p2/x", 22.0, 1, old), ("n/not-running/c", 1.0, 1, old)],
    );
    let put = fixture.body(b, 20, &[("n/p1/c", 11.0, 1, old), ("m/p9/c", 1.0, 1, old)]).unwrap();
    assert_eq!((put.node_measured, put.pods_measured), (true, true));
    assert_eq!(put.node_timestamp_ns, put.newest_timestamp_ns);
    assert_eq!(fixture.all(), ["m/p9: c=0", "n/p1: c=500", "n/p2: x=200 y=100"]);
    assert_eq!(fixture.pods(Some("n"), None, 1), ["n/p1: c=500"]);
    assert_eq!(fixture.pods(None, Some(("n", "p1")), 9), ["n/p2: x=200 y=100"]);
    assert_eq!(fixture.lookup("n/p2"), Lookup::Found);
    let mut nodes = Vec::new();
    fixture.store.nodes(None, &mut |_, _| Pick::Take, &mut |row| {
        assert_eq!(row.labels.get("node"), Some(row.name));
        nodes.push((row.name.to_owned(), row.window_ns / 1_000_000_000, row.usage.cpu_nanocores / 1_000_000));
        ControlFlow::Continue(())
    });
    assert_eq!(nodes, [("a".to_owned(), 10, 1000), ("b".to_owned(), 20, 1000)]);
    assert_eq!(fixture.store.node("a", &mut |row| assert_eq!(row.usage.memory_bytes, 4096)), Lookup::Found);
    assert_eq!(fixture.store.node("c", &mut |_| {}), Lookup::Absent);
    let coverage = fixture.store.coverage();
    assert!(coverage.is_complete());
    assert_eq!((coverage.nodes_measured, coverage.containers_measured, coverage.pods), (2, 5, 4));
}

#[test]
fn a_pod_has_the_timestamp_of_its_earliest_container() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u");
    fixture.synced();
    let take = |lines: &[(&str, i64, f64)]| {
        let mut body = String::new();
        for (container, ms, cpu) in lines {
            let labels = format!("{{container=\"{container}\",namespace=\"n\",pod=\"p\"}}");
            body += &format!("container_cpu_usage_seconds_total{labels} {cpu} {ms}\n");
            body += &format!("container_memory_working_set_bytes{labels} 1 {ms}\n");
            body += &format!("container_swap_usage_bytes{labels} 7 {ms}\n");
        }
        let mut batch = fixture.store.begin_batch(ticket).unwrap();
        decode(
            body.as_bytes(),
            DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 },
            &mut batch,
        );
        fixture.put(ticket, batch);
    };
    take(&[("x", 100_000, 1.0), ("y", 101_000, 1.0)]);
    take(&[("x", 110_000, 2.0), ("y", 109_000, 2.0)]);
    let found = fixture.store.pod("n", "p", &mut |row| {
        assert_eq!((row.timestamp_ns, row.window_ns), (109_000_000_000, 8_000_000_000));
        assert_eq!(row.containers[0].usage.swap_bytes, Some(7));
    });
    assert_eq!(found, Lookup::Found);
}

#[test]
fn hides_a_pod_while_one_container_is_incomplete() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, None), ("n/p/y", 1.0, 1, None)]);
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, None), ("n/p/y", 1.5, 0, None)]);
    assert_eq!(fixture.lookup("n/p"), Lookup::Unmeasured);
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/p/y", 3.0, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: x=100 y=100"]);
    // A removed init container no longer counts; a new container counts from its second sample.
    fixture.body(ticket, 30, &[("n/p/y", 4.0, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: y=100"]);
    fixture.body(ticket, 40, &[("n/p/y", 5.0, 1, None), ("n/p/a", 1.0, 1, None)]);
    assert!(fixture.all().is_empty());
    fixture.body(ticket, 50, &[("n/p/y", 6.0, 1, None), ("n/p/a", 1.5, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: a=50 y=100"]);
}

#[test]
fn keeps_samples_after_failed_scrapes_until_max_age() {
    let fixture = TestStore::with_max_age(Duration::from_millis(80));
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    fixture.store.scrape_failed(ticket);
    assert_eq!(fixture.all(), ["n/p: x=100"]);
    assert_eq!(fixture.store.coverage().nodes_measured, 1);
    fixture.directory.skip(Duration::from_millis(120));
    assert!(fixture.all().is_empty());
    assert_eq!(fixture.store.node("a", &mut |_| {}), Lookup::Unmeasured);
    assert_eq!(fixture.store.coverage().nodes_measured, 0);
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None)]);
    assert_eq!(fixture.all(), ["n/p: x=100"], "one scrape is enough to recover");
}

#[test]
fn reads_long_lists_in_several_batches() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    let keys: Vec<String> = (0..1500).map(|n| format!("n{}/p{n:04}", n % 7)).collect();
    for key in &keys {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let names: Vec<String> = keys.iter().map(|key| format!("{key}/c")).collect();
    let containers = |cpu| names.iter().map(|name| (&**name, cpu, 1, None)).collect::<Vec<_>>();
    fixture.body(ticket, 0, &containers(1.0));
    fixture.body(ticket, 10, &containers(2.0));
    let mut expected: Vec<String> = keys.iter().map(|key| format!("{key}: c=100")).collect();
    expected.sort();
    assert_eq!(fixture.all(), expected);
}

#[test]
fn metrics_have_metrics_servers_names() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    fixture.body(ticket, 0, &[]);
    fixture.body(ticket, 10, &[]);
    let mut registry = prometheus_client::registry::Registry::default();
    super::StoreMetrics::new(fixture.store.clone()).register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("metrics_server_storage_points{type=\"node\"} 1"), "{text}");
    assert!(text.contains("metrics_server_nodes{state=\"known\"} 1"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A list agrees with a simple model while nodes and pods come and go: for each pod, the node that reported it
    /// first last, if all containers there have two samples.
    #[test]
    fn agrees_with_the_model(rounds in prop::collection::vec(
        (0usize..3, prop::collection::btree_set((0u8..3, 0u8..3, 0u8..2), 0..8), any::<bool>()), 1..12,
    )) {
        let fixture = TestStore::new();
        let mut tickets: Vec<_> = (0..3).map(|n| fixture.node(&format!("node{n}"), "1")).collect();
        for namespace in 0..3 {
            for pod in 0..3 {
                fixture.pod(&format!("n{namespace}/p{pod}"), "u");
            }
        }
        fixture.synced();
        // Per node: container → number of consecutive bodies that contain it.
        let mut model: Vec<std::collections::BTreeMap<(u8, u8, u8), u32>> = vec![Default::default(); 3];
        // Per node: pod → round since which it is in each body.
        let mut appeared: Vec<std::collections::BTreeMap<(u8, u8), usize>> = vec![Default::default(); 3];
        for (round, (node, containers, gone)) in rounds.into_iter().enumerate() {
            if gone {
                tickets[node] = fixture.node(&format!("node{node}"), &format!("again{round}"));
                model[node].clear();
                appeared[node].clear();
                continue;
            }
            let names: Vec<String> = containers.iter().map(|(n, p, c)| format!("n{n}/p{p}/c{c}")).collect();
            // Clocks and start times differ between nodes, and decide nothing.
            let start = 1000 - i64::try_from(node).unwrap() * 1000;
            fixture.directory.skip(Duration::from_millis(10));
            let at = i64::try_from(round).unwrap() + start + 1000;
            let lines: Vec<_> = names.iter().map(|name| (&**name, 1.0 + round as f64 / 10.0, 1, Some(start))).collect();
            fixture.body(tickets[node], at, &lines);
            model[node] = containers.iter().map(|key| (*key, model[node].get(key).unwrap_or(&0) + 1)).collect();
            let pods = containers.iter().map(|(namespace, pod, _)| (*namespace, *pod));
            appeared[node] = pods.map(|pod| (pod, *appeared[node].get(&pod).unwrap_or(&round))).collect();
        }
        let mut expected = Vec::new();
        for namespace in 0..3 {
            for pod in 0..3 {
                let of = |node: usize| model[node].range((namespace, pod, 0)..=(namespace, pod, 1)).collect::<Vec<_>>();
                let reporting = (0..3).filter(|node| !of(*node).is_empty());
                let Some(node) = reporting.max_by_key(|node| appeared[*node][&(namespace, pod)]) else { continue };
                if of(node).iter().all(|(_, bodies)| **bodies > 1) {
                    let containers: Vec<_> = of(node).iter().map(|((_, _, c), _)| format!("c{c}")).collect();
                    expected.push(format!("n{namespace}/p{pod}: {}", containers.join(" ")));
                }
            }
        }
        let got: Vec<String> = fixture.all().iter().map(|row| {
            row.split(' ').map(|word| word.split('=').next().unwrap()).collect::<Vec<_>>().join(" ")
        }).collect();
        prop_assert_eq!(got, expected);
        let pods: usize = fixture.store.state.read().slots.iter().map(|slot| slot.snapshot.layout.pods()).sum();
        prop_assert_eq!(fixture.store.state.read().index.len(), pods);
    }
}

#[test]
fn reads_labels_from_the_directory() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    fixture.directory.apply_pod("n", "p", "u", Labels::default());
    assert_eq!(fixture.store.pod("n", "p", &mut |row| assert!(row.labels.is_empty())), Lookup::Found);
}

#[test]
fn finds_pods_when_others_are_added_and_removed() {
    let fixture = TestStore::new();
    let (one, other) = (fixture.node("one", "u1"), fixture.node("other", "u2"));
    for pod in ["a/1", "a/2", "a/3", "a/4", "b/1"] {
        fixture.pod(pod, pod);
    }
    // A pod named N uses N hundredths of a core.
    let body = |ticket, at: i64, pods: &[&str]| {
        let names: Vec<_> = pods.iter().map(|pod| format!("{pod}/c")).collect();
        let of = |key: &str| key[2..3].parse::<f64>().unwrap() / 100.0;
        let containers: Vec<ContainerSample<'_>> =
            names.iter().map(|key| (key.as_str(), 100.0 + of(key) * at as f64, 1, None)).collect();
        fixture.body(ticket, at, &containers).unwrap();
    };
    let at = std::cell::Cell::new(0);
    let both = |of_one: &[&str], of_other: &[&str]| {
        for _ in 0..2 {
            at.set(at.get() + 20);
            body(one, at.get(), of_one);
            body(other, at.get(), of_other);
        }
        // The second read uses the locations that the first one stored.
        let first = fixture.all();
        assert_eq!(fixture.all(), first);
        first.join(", ")
    };
    assert_eq!(both(&["a/2", "a/4"], &["b/1"]), "a/2: c=20, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["a/1", "a/2", "a/4"], &["b/1"]), "a/1: c=10, a/2: c=20, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["a/3", "a/4"], &["a/1", "b/1"]), "a/1: c=10, a/3: c=30, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["b/1"], &["a/1", "a/4"]), "a/1: c=10, a/4: c=40, b/1: c=10");
    fixture.store.remove_node(other);
    assert_eq!(fixture.all(), ["b/1: c=10"]);
}
