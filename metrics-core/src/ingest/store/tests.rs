use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Directory;
use super::{Config, Put, Store, Ticket};
use crate::ingest::decode::{BadSeries, Context, Format, decode};
use crate::ingest::discover::Node;
use crate::model::labels::Labels;
use crate::model::rows::{Lookup, Pick, Rows};

const CONFIG: Config = Config { resolution: Duration::from_secs(15), max_age: Duration::from_secs(60) };

pub(super) struct Bench {
    pub(super) directory: Arc<Directory>,
    pub(super) store: Arc<Store>,
}

/// One container in a body: key, CPU seconds, bytes, start (Unix seconds).
pub(super) type Container<'a> = (&'a str, f64, u64, Option<i64>);

impl Bench {
    pub(super) fn new() -> Self {
        Self::lasting(CONFIG.max_age)
    }

    pub(super) fn lasting(max_age: Duration) -> Self {
        Self::with(Config { max_age, ..CONFIG })
    }

    pub(super) fn resolving(resolution: Duration) -> Self {
        Self::with(Config { resolution, ..CONFIG })
    }

    fn with(config: Config) -> Self {
        let directory = Arc::new(Directory::new());
        let store = Arc::new(Store::new(directory.clone(), config));
        directory.begin_nodes();
        directory.begin_pods();
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
        };
        self.directory.apply_node(node.clone());
        self.store.admit(&Arc::new(node))
    }

    pub(super) fn pod(&self, key: &str, uid: &str) {
        let (namespace, name) = key.split_once('/').unwrap();
        self.directory.apply_pod(namespace, name, uid, [("pod", name)].into_iter().collect());
    }

    pub(super) fn synced(&self) {
        self.directory.end_nodes();
        self.directory.end_pods();
    }

    /// A body taken `at_s` seconds after some epoch.
    pub(super) fn body(&self, ticket: Ticket, at_s: i64, containers: &[Container<'_>]) -> Option<Put> {
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
        let mut intake = self.store.intake(ticket)?;
        decode(body.as_bytes(), Context { format: Format::Text, default_timestamp_ns: 1 }, &mut intake);
        self.store.put(ticket, intake, self.directory.now_ms())
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

/// A line that is as expected is not taken apart; one that only looks so must be.
#[test]
fn a_name_with_quotes_is_no_excuse_for_a_malformed_line() {
    let bench = Bench::new();
    let node = bench.node("a", "1");
    bench.synced();
    let read = |line: &str| {
        let mut intake = bench.store.intake(node).unwrap();
        let context = Context { format: Format::Text, default_timestamp_ns: 1 };
        let report = decode(line.as_bytes(), context, &mut intake);
        bench.store.put(node, intake, bench.directory.now_ms()).unwrap();
        (report.taken, report.bad[BadSeries::Labels as usize])
    };
    let line = |pod: &str| {
        format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"{pod}\"}} 1 1\n")
    };
    for _ in 0..2 {
        assert_eq!(read(&line("p")), (1, 0), "the second time it is expected");
    }
    let escaped = line(r#"p\"x"#);
    for _ in 0..2 {
        assert_eq!(read(&escaped), (1, 0));
    }
    assert_eq!(read(&line("p\"x")), (0, 1), "not escaped");
    assert_eq!(read(&escaped.repeat(2)), (1, 0), "the repeated one is a duplicate");
}

#[test]
fn a_kubelet_that_repeats_a_crowded_pod_is_read_in_moments() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.synced();
    let names: Vec<String> = (0..20_000).map(|n| format!("n/p/c{n}")).collect();
    let containers: Vec<Container<'_>> = names.iter().map(|name| (&**name, 1.0, 1, None)).collect();
    bench.body(ticket, 0, &containers);
    let line = |name: &String| {
        let name = name.rsplit('/').next().unwrap();
        format!(
            "container_cpu_usage_seconds_total{{container=\"{name}\",namespace=\"n\",pod=\"p\"}} 2 1700000010000\n"
        )
    };
    // Never where it is expected.
    let body: String = names.iter().rev().map(line).collect();
    let body = body.repeat(10);
    let started = std::time::Instant::now();
    let mut intake = bench.store.intake(ticket).unwrap();
    let context = Context { format: Format::Text, default_timestamp_ns: 1 };
    let report = decode(body.as_bytes(), context, &mut intake);
    assert_eq!((report.taken, report.bad[BadSeries::Duplicate as usize]), (20_000, 180_000));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn two_bodies_make_rows_in_order() {
    let bench = Bench::new();
    let (b, a) = (bench.node("b", "1"), bench.node("a", "1"));
    for key in ["n/p1", "n/p2", "m/p9", "n/unknown-to-kubelets"] {
        bench.pod(key, "u");
    }
    bench.synced();
    let old = Some(-1000);
    bench.body(a, 0, &[("n/p2/y", 10.0, 1, old), ("n/p2/x", 20.0, 1, old), ("n/not-running/c", 1.0, 1, old)]);
    let put = bench.body(b, 0, &[("n/p1/c", 1.0, 1, old), ("m/p9/c", 1.0, 1, old)]).unwrap();
    assert_eq!((put.node_measured, put.pods_measured), (false, false));
    assert!(bench.all().is_empty());
    assert_eq!(bench.lookup("n/p1"), Lookup::Unmeasured);
    assert_eq!(bench.lookup("n/p3"), Lookup::Absent);
    assert!(!bench.store.coverage().is_ready());
    bench.body(
        a,
        10,
        &[("n/p2/y", 11.0, 1, old), ("n/p2/x", 22.0, 1, old), ("n/not-running/c", 1.0, 1, old)],
    );
    let put = bench.body(b, 20, &[("n/p1/c", 11.0, 1, old), ("m/p9/c", 1.0, 1, old)]).unwrap();
    assert_eq!((put.node_measured, put.pods_measured), (true, true));
    assert_eq!(put.node_timestamp_ns, put.newest_timestamp_ns);
    assert_eq!(bench.all(), ["m/p9: c=0", "n/p1: c=500", "n/p2: x=200 y=100"]);
    assert_eq!(bench.pods(Some("n"), None, 1), ["n/p1: c=500"]);
    assert_eq!(bench.pods(None, Some(("n", "p1")), 9), ["n/p2: x=200 y=100"]);
    assert_eq!(bench.lookup("n/p2"), Lookup::Found);
    let mut nodes = Vec::new();
    bench.store.nodes(None, &mut |_, _| Pick::Take, &mut |row| {
        assert_eq!(row.labels.get("node"), Some(row.name));
        nodes.push((row.name.to_owned(), row.window_ns / 1_000_000_000, row.usage.cpu_nanocores / 1_000_000));
        ControlFlow::Continue(())
    });
    assert_eq!(nodes, [("a".to_owned(), 10, 1000), ("b".to_owned(), 20, 1000)]);
    assert_eq!(bench.store.node("a", &mut |row| assert_eq!(row.usage.memory_bytes, 4096)), Lookup::Found);
    assert_eq!(bench.store.node("c", &mut |_| {}), Lookup::Absent);
    let coverage = bench.store.coverage();
    assert!(coverage.is_ready());
    assert_eq!((coverage.nodes_measured, coverage.containers_measured, coverage.pods), (2, 5, 4));
}

#[test]
fn a_pod_is_as_old_as_its_earliest_container() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u");
    bench.synced();
    let take = |lines: &[(&str, i64, f64)]| {
        let mut body = String::new();
        for (container, ms, cpu) in lines {
            let labels = format!("{{container=\"{container}\",namespace=\"n\",pod=\"p\"}}");
            body += &format!("container_cpu_usage_seconds_total{labels} {cpu} {ms}\n");
            body += &format!("container_memory_working_set_bytes{labels} 1 {ms}\n");
            body += &format!("container_swap_usage_bytes{labels} 7 {ms}\n");
        }
        let mut intake = bench.store.intake(ticket).unwrap();
        decode(body.as_bytes(), Context { format: Format::Text, default_timestamp_ns: 1 }, &mut intake);
        bench.store.put(ticket, intake, bench.directory.now_ms());
    };
    take(&[("x", 100_000, 1.0), ("y", 101_000, 1.0)]);
    take(&[("x", 110_000, 2.0), ("y", 109_000, 2.0)]);
    let found = bench.store.pod("n", "p", &mut |row| {
        assert_eq!((row.timestamp_ns, row.window_ns), (109_000_000_000, 8_000_000_000));
        assert_eq!(row.containers[0].usage.swap_bytes, Some(7));
    });
    assert_eq!(found, Lookup::Found);
}

#[test]
fn one_incomplete_container_drops_the_pods_row_for_as_long() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 1.0, 1, None), ("n/p/y", 1.0, 1, None)]);
    bench.body(ticket, 10, &[("n/p/x", 2.0, 1, None), ("n/p/y", 1.5, 0, None)]);
    assert_eq!(bench.lookup("n/p"), Lookup::Unmeasured);
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/p/y", 3.0, 1, None)]);
    assert_eq!(bench.all(), ["n/p: x=100 y=100"]);
    // An init container that has gone no longer counts; a new one counts from its second sample.
    bench.body(ticket, 30, &[("n/p/y", 4.0, 1, None)]);
    assert_eq!(bench.all(), ["n/p: y=100"]);
    bench.body(ticket, 40, &[("n/p/y", 5.0, 1, None), ("n/p/a", 1.0, 1, None)]);
    assert!(bench.all().is_empty());
    bench.body(ticket, 50, &[("n/p/y", 6.0, 1, None), ("n/p/a", 1.5, 1, None)]);
    assert_eq!(bench.all(), ["n/p: a=50 y=100"]);
}

#[test]
fn a_failed_scrape_loses_nothing_until_the_bound() {
    let bench = Bench::lasting(Duration::from_millis(80));
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    bench.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    bench.store.failed(ticket);
    assert_eq!(bench.all(), ["n/p: x=100"]);
    assert_eq!(bench.store.coverage().nodes_measured, 1);
    std::thread::sleep(Duration::from_millis(120));
    assert!(bench.all().is_empty());
    assert_eq!(bench.store.node("a", &mut |_| {}), Lookup::Unmeasured);
    assert_eq!(bench.store.coverage().nodes_measured, 0);
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None)]);
    assert_eq!(bench.all(), ["n/p: x=100"], "one scrape is enough to be back");
}

#[test]
fn a_namesake_gets_nothing_of_its_predecessor() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u1");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 10.0, 1, Some(-1000))]);
    bench.body(ticket, 10, &[("n/p/x", 20.0, 1, Some(-1000))]);
    assert_eq!(bench.all(), ["n/p: x=1000"]);
    std::thread::sleep(Duration::from_millis(5));
    bench.pod("n/p", "u2");
    assert_eq!(bench.lookup("n/p"), Lookup::Unmeasured);
    std::thread::sleep(Duration::from_millis(5));
    bench.body(ticket, 20, &[("n/p/x", 30.0, 1, Some(15))]);
    assert_eq!(bench.lookup("n/p"), Lookup::Unmeasured, "a newer start");
    bench.body(ticket, 30, &[("n/p/x", 31.0, 1, Some(15))]);
    assert_eq!(bench.lookup("n/p"), Lookup::Found);
}

#[test]
fn without_starts_a_namesake_is_measured_from_samples_of_its_own() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u1");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 10.0, 1, None)]);
    std::thread::sleep(Duration::from_millis(5));
    bench.pod("n/p", "u2");
    std::thread::sleep(Duration::from_millis(5));
    bench.body(ticket, 10, &[("n/p/x", 20.0, 1, None)]);
    assert_eq!(bench.lookup("n/p"), Lookup::Unmeasured, "the counter went up, yet half of it is another's");
}

#[test]
fn a_node_replaced_under_its_name_starts_anew() {
    let bench = Bench::new();
    let old = bench.node("a", "1");
    bench.pod("n/p", "u1");
    bench.synced();
    bench.body(old, 0, &[("n/p/x", 10.0, 1, None)]);
    bench.body(old, 10, &[("n/p/x", 20.0, 1, None)]);
    let new = bench.node("a", "2");
    assert_eq!(bench.store.node("a", &mut |_| {}), Lookup::Unmeasured);
    assert!(bench.all().is_empty());
    assert_eq!(bench.body(old, 20, &[("n/p/x", 30.0, 1, None)]), None, "the old node's ticket is void");
    bench.store.remove(old);
    bench.body(new, 0, &[("n/p/x", 1.0, 1, None)]);
    bench.body(new, 10, &[("n/p/x", 2.0, 1, None)]);
    assert_eq!(bench.all(), ["n/p: x=100"]);
    bench.store.remove(new);
    assert!(bench.all().is_empty());
    assert_eq!(bench.store.state.read().free.len(), 1);
}

#[test]
fn a_pod_that_moves_is_read_where_it_started_last() {
    let bench = Bench::new();
    let (a, b) = (bench.node("a", "1"), bench.node("b", "1"));
    bench.pod("n/p", "u");
    bench.synced();
    bench.body(a, 0, &[("n/p/x", 10.0, 1, Some(-1000))]);
    bench.body(a, 10, &[("n/p/x", 20.0, 1, Some(-1000))]);
    assert_eq!(bench.all(), ["n/p: x=1000"]);
    bench.body(b, 12, &[("n/p/x", 0.5, 1, Some(11))]);
    assert!(bench.all().is_empty(), "never the old node's figure once the new one reports it");
    bench.body(b, 20, &[("n/p/x", 1.3, 1, Some(11))]);
    assert_eq!(bench.all(), ["n/p: x=100"]);
    bench.body(a, 20, &[("n/other/x", 1.0, 1, None)]);
    assert_eq!(bench.all(), ["n/p: x=100"]);
    bench.body(b, 30, &[("n/other2/x", 1.0, 1, None)]);
    assert!(bench.all().is_empty());
}

#[test]
fn readiness_waits_for_most_nodes_but_not_for_dead_ones_and_stays() {
    let bench = Bench::new();
    assert!(!bench.store.ready());
    bench.synced();
    assert!(bench.store.coverage().is_ready(), "a cluster without nodes");
    let tickets: Vec<_> = (0..3).map(|n| bench.node(&format!("n{n}"), "1")).collect();
    assert!(!bench.store.ready());
    for ticket in &tickets[..2] {
        bench.store.failed(*ticket);
    }
    assert!(!bench.store.ready());
    bench.body(tickets[2], 0, &[]);
    bench.body(tickets[2], 1, &[]);
    assert!(bench.store.ready());
    bench.node("later", "1");
    assert!(!bench.store.coverage().is_ready());
    assert!(bench.store.ready(), "a node that joins does not take the server out of service");
}

#[test]
fn all_nodes_failing_is_not_ready() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.synced();
    bench.store.failed(ticket);
    assert!(!bench.store.ready());
}

#[test]
fn long_lists_are_read_in_several_batches() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    let keys: Vec<String> = (0..1500).map(|n| format!("n{}/p{n:04}", n % 7)).collect();
    for key in &keys {
        bench.pod(key, "u");
    }
    bench.synced();
    let names: Vec<String> = keys.iter().map(|key| format!("{key}/c")).collect();
    let containers = |cpu| names.iter().map(|name| (&**name, cpu, 1, None)).collect::<Vec<_>>();
    bench.body(ticket, 0, &containers(1.0));
    bench.body(ticket, 10, &containers(2.0));
    let mut expected: Vec<String> = keys.iter().map(|key| format!("{key}: c=100")).collect();
    expected.sort();
    assert_eq!(bench.all(), expected);
}

#[test]
fn the_metrics_are_under_the_peers_names() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.synced();
    bench.body(ticket, 0, &[]);
    bench.body(ticket, 10, &[]);
    let mut registry = prometheus_client::registry::Registry::default();
    super::Metrics::new(bench.store.clone()).register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("metrics_server_storage_points{type=\"node\"} 1"), "{text}");
    assert!(text.contains("metrics_server_nodes{state=\"known\"} 1"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes and goes on several nodes, a list shows what the obvious model shows: for each pod the
    /// place that started last, if all containers there have two samples.
    #[test]
    fn agrees_with_the_model(rounds in prop::collection::vec(
        (0usize..3, prop::collection::btree_set((0u8..3, 0u8..3, 0u8..2), 0..8), any::<bool>()), 1..12,
    )) {
        let bench = Bench::new();
        let mut tickets: Vec<_> = (0..3).map(|n| bench.node(&format!("node{n}"), "1")).collect();
        for namespace in 0..3 {
            for pod in 0..3 {
                bench.pod(&format!("n{namespace}/p{pod}"), "u");
            }
        }
        bench.synced();
        // Per node: container → how many bodies in a row it has been in.
        let mut model: Vec<std::collections::BTreeMap<(u8, u8, u8), u32>> = vec![Default::default(); 3];
        for (round, (node, containers, gone)) in rounds.into_iter().enumerate() {
            if gone {
                tickets[node] = bench.node(&format!("node{node}"), &format!("again{round}"));
                model[node].clear();
                continue;
            }
            let names: Vec<String> = containers.iter().map(|(n, p, c)| format!("n{n}/p{p}/c{c}")).collect();
            // Containers started long ago, on the nodes one after the other.
            let start = i64::try_from(node).unwrap() * 100 - 1000;
            let at = i64::try_from(round).unwrap();
            let lines: Vec<_> = names.iter().map(|name| (&**name, 1.0 + round as f64 / 10.0, 1, Some(start))).collect();
            bench.body(tickets[node], at, &lines);
            model[node] = containers.iter().map(|key| (*key, model[node].get(key).unwrap_or(&0) + 1)).collect();
        }
        let mut expected = Vec::new();
        for namespace in 0..3 {
            for pod in 0..3 {
                let of = |node: usize| model[node].range((namespace, pod, 0)..=(namespace, pod, 1)).collect::<Vec<_>>();
                let Some(node) = (0..3).rev().find(|node| !of(*node).is_empty()) else { continue };
                if of(node).iter().all(|(_, bodies)| **bodies > 1) {
                    let containers: Vec<_> = of(node).iter().map(|((_, _, c), _)| format!("c{c}")).collect();
                    expected.push(format!("n{namespace}/p{pod}: {}", containers.join(" ")));
                }
            }
        }
        let got: Vec<String> = bench.all().iter().map(|row| {
            row.split(' ').map(|word| word.split('=').next().unwrap()).collect::<Vec<_>>().join(" ")
        }).collect();
        prop_assert_eq!(got, expected);
        let pods: usize = bench.store.state.read().slots.iter().map(|slot| slot.snapshot.layout.pods()).sum();
        prop_assert_eq!(bench.store.state.read().index.len(), pods);
    }
}

#[test]
fn labels_are_those_of_the_directory() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    bench.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    bench.directory.apply_pod("n", "p", "u", Labels::default());
    assert_eq!(bench.store.pod("n", "p", &mut |row| assert!(row.labels.is_empty())), Lookup::Found);
}

#[test]
fn pods_are_found_again_when_others_come_and_go_beside_them() {
    let bench = Bench::new();
    let (one, other) = (bench.node("one", "u1"), bench.node("other", "u2"));
    for pod in ["a/1", "a/2", "a/3", "a/4", "b/1"] {
        bench.pod(pod, pod);
    }
    // A pod named N uses N hundredths of a core.
    let body = |ticket, at: i64, pods: &[&str]| {
        let names: Vec<_> = pods.iter().map(|pod| format!("{pod}/c")).collect();
        let of = |key: &str| key[2..3].parse::<f64>().unwrap() / 100.0;
        let containers: Vec<Container<'_>> =
            names.iter().map(|key| (key.as_str(), 100.0 + of(key) * at as f64, 1, None)).collect();
        bench.body(ticket, at, &containers).unwrap();
    };
    let at = std::cell::Cell::new(0);
    let both = |of_one: &[&str], of_other: &[&str]| {
        for _ in 0..2 {
            at.set(at.get() + 20);
            body(one, at.get(), of_one);
            body(other, at.get(), of_other);
        }
        // The second time they are where they were the first time.
        let first = bench.all();
        assert_eq!(bench.all(), first);
        first.join(", ")
    };
    assert_eq!(both(&["a/2", "a/4"], &["b/1"]), "a/2: c=20, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["a/1", "a/2", "a/4"], &["b/1"]), "a/1: c=10, a/2: c=20, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["a/3", "a/4"], &["a/1", "b/1"]), "a/1: c=10, a/3: c=30, a/4: c=40, b/1: c=10");
    assert_eq!(both(&["b/1"], &["a/1", "a/4"]), "a/1: c=10, a/4: c=40, b/1: c=10");
    bench.store.remove(other);
    assert_eq!(bench.all(), ["b/1: c=10"]);
}
