//! A client that follows the changes sees the same as a list.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::TestStore;
use crate::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use crate::model::rows::{Change, Expired, Pick, RowKind, Rows};

type Known = BTreeMap<String, (i64, Option<String>)>;

/// A watch client: the rows it knows, and the version up to which it has read.
struct Follower {
    known: Known,
    version: u64,
    events: Vec<String>,
}

fn list(fixture: &TestStore) -> Known {
    let mut known = Known::new();
    fixture.store.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
        let label = row.labels.get("l").map(str::to_owned);
        known.insert(format!("{}/{}", row.namespace, row.name), (row.timestamp_ns, label));
        ControlFlow::Continue(())
    });
    known
}

impl Follower {
    fn new(fixture: &TestStore) -> Self {
        let version = fixture.store.version();
        Self { known: list(fixture), version, events: Vec::new() }
    }

    fn follow(&mut self, fixture: &TestStore) -> Vec<String> {
        loop {
            let mut left = Vec::new();
            let progress =
                fixture.store.next_change(RowKind::Pods, self.version, &mut |change| match change {
                    Change::Pod { row, new } => {
                        let key = format!("{}/{}", row.namespace, row.name);
                        assert!(row.version >= self.version);
                        self.events.push(format!("{} {key}", if new { "new" } else { "changed" }));
                        let label = row.labels.get("l").map(str::to_owned);
                        self.known.insert(key, (row.timestamp_ns, label));
                    }
                    Change::Removed { namespace, name, .. } => {
                        left.push((namespace.to_owned(), name.to_owned()));
                    }
                    Change::Node { .. } => panic!("a node among pods"),
                });
            let progress = progress.unwrap();
            for (namespace, name) in left {
                let key = format!("{namespace}/{name}");
                self.events.push(format!("left {key}"));
                self.known.remove(&key);
                fixture.store.pod(&namespace, &name, &mut |row| {
                    self.known
                        .insert(key.clone(), (row.timestamp_ns, row.labels.get("l").map(str::to_owned)));
                });
            }
            assert!(progress.until > self.version || !progress.more);
            self.version = progress.until;
            if !progress.more {
                return std::mem::take(&mut self.events);
            }
        }
    }
}

#[test]
fn reports_each_sample_once_and_removals_of_visible_rows_only() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    for key in ["n/p", "n/q", "n/never-measured"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let mut follower = Follower::new(&fixture);
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, None), ("n/q/x", 1.0, 1, None)]);
    assert!(follower.follow(&fixture).is_empty(), "no rate yet");
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, None), ("n/q/x", 2.0, 1, None)]);
    assert_eq!(follower.follow(&fixture), ["new n/p", "new n/q"]);
    assert!(follower.follow(&fixture).is_empty());
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 3.0, 0, None)]);
    assert_eq!(follower.follow(&fixture), ["changed n/p", "left n/q"], "incomplete");
    fixture.body(ticket, 30, &[("n/p/x", 4.0, 1, None), ("n/q/x", 4.0, 1, None)]);
    fixture.directory.delete_pod("n", "p");
    fixture.directory.delete_pod("n", "never-measured");
    assert_eq!(follower.follow(&fixture), ["new n/q", "left n/p"]);
    fixture.body(ticket, 40, &[]);
    assert_eq!(follower.follow(&fixture), ["left n/q"], "the kubelet no longer reports it");
    assert_eq!(follower.known, list(&fixture));
    let from_elsewhere = fixture.store.next_change(RowKind::Pods, 1, &mut |_| {});
    assert_eq!(from_elsewhere, Err(Expired));
}

#[test]
fn returns_the_last_usage_of_removed_objects() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    for key in ["n/p", "n/fresh"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let labels = [("l", "old")].into_iter().collect();
    let pod = |name: &str| {
        let mut found = None;
        fixture.store.last_known_pod(("n", name), &labels, &mut |row| {
            assert_eq!(row.labels.get("l"), Some("old"));
            let usage = row.containers[0].usage;
            found =
                Some((usage.cpu_nanocores / 1_000_000, usage.memory_bytes, row.window_ns / 1_000_000_000));
        });
        found
    };
    let node = || {
        let mut found = None;
        fixture
            .store
            .last_known_node("a", &labels, &mut |row| found = Some(row.usage.cpu_nanocores / 1_000_000));
        found
    };
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 5, None)]);
    assert_eq!((pod("p"), node()), (None, None), "never measured");
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 5, None), ("n/fresh/x", 1.0, 5, None)]);
    fixture.directory.delete_pod("n", "p");
    assert_eq!(pod("p"), Some((100, 5, 10)));
    assert_eq!(pod("fresh"), None);
    assert_eq!(pod("none-such"), None);
    fixture.directory.delete_node("a");
    fixture.store.remove_node(ticket);
    assert_eq!(node(), Some(1000));
    assert_eq!(pod("p"), None, "removed with its node");
    fixture.node("a", "2");
    assert_eq!(node(), Some(1000), "the new node of that name has no sample yet");
}

#[test]
fn a_repeated_sample_is_not_a_change() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    for key in ["n/p", "n/q"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let lines = |p: f64, q: f64| [("n/p/x", p, 1, None), ("n/p/y", p, 1, None), ("n/q/x", q, 1, None)];
    let nodes = |from: &mut u64| {
        let mut seen = 0;
        loop {
            let progress = fixture.store.next_change(RowKind::Nodes, *from, &mut |_| seen += 1).unwrap();
            *from = progress.until;
            if !progress.more {
                return seen;
            }
        }
    };
    fixture.body(ticket, 0, &lines(1.0, 1.0));
    fixture.body(ticket, 10, &lines(2.0, 2.0));
    let (mut follower, mut behind, mut from) =
        (Follower::new(&fixture), Follower::new(&fixture), fixture.store.version());
    fixture.store.nodes(None, &mut |_, _| Pick::Take, &mut |_| ControlFlow::Continue(()));
    fixture.body(ticket, 10, &lines(2.0, 2.0));
    assert!(follower.follow(&fixture).is_empty(), "of pods");
    assert_eq!(nodes(&mut from), 0);
    fixture.body(ticket, 20, &lines(3.0, 3.0));
    assert_eq!(follower.follow(&fixture), ["changed n/p", "changed n/q"]);
    assert_eq!(nodes(&mut from), 1);
    fixture.body(ticket, 20, &lines(3.0, 3.0));
    assert!(follower.follow(&fixture).is_empty());
    assert_eq!(
        behind.follow(&fixture),
        ["changed n/p", "changed n/q"],
        "a client that lagged behind still receives both"
    );
    // Another value with the same timestamp is a change, and so is a removed container.
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/p/y", 3.0, 2, None), ("n/q/x", 3.0, 1, None)]);
    assert_eq!(follower.follow(&fixture), ["changed n/p"]);
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 3.0, 1, None)]);
    assert!(follower.follow(&fixture).contains(&"changed n/p".to_owned()));
    // A row that was hidden for a while is new again, although its sample is an old one.
    fixture.body(ticket, 30, &[("n/p/x", 4.0, 0, None), ("n/q/x", 4.0, 1, None)]);
    assert_eq!(follower.follow(&fixture), ["changed n/q", "left n/p"]);
    fixture.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 4.0, 1, None)]);
    assert_eq!(follower.follow(&fixture), ["new n/p", "left n/q"]);
    assert_eq!(follower.known, list(&fixture));
}

#[test]
fn reports_rows_that_expire_as_removed() {
    let fixture = TestStore::with_max_age(Duration::from_millis(60));
    let ticket = fixture.node("a", "1");
    fixture.pod("n/p", "u");
    fixture.synced();
    fixture.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    fixture.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    let mut follower = Follower::new(&fixture);
    assert_eq!(follower.known.len(), 1);
    fixture.directory.skip(Duration::from_millis(100));
    fixture.store.scrape_failed(ticket);
    fixture.store.scrape_failed(ticket);
    assert_eq!(follower.follow(&fixture), ["left n/p"]);
}

#[test]
fn reports_a_sample_that_expired_as_removed_and_as_new_once_it_moves() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    for key in ["n/p", "n/q"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let body = |wait_s: u64, p: i64, q: i64| {
        fixture.directory.skip(Duration::from_secs(wait_s));
        let containers = [("n/p/x", 1.0 + p as f64, 1), ("n/q/x", 1.0 + q as f64, 1)];
        // Each container with a timestamp of its own.
        let ms = |at: i64| (1_700_000_000 + at) * 1000;
        let mut text = String::new();
        for ((key, cpu, memory), at) in containers.into_iter().zip([p, q]) {
            let pod = &key[2..3];
            let labels = format!("{{container=\"x\",namespace=\"n\",pod=\"{pod}\"}}");
            text += &format!("container_cpu_usage_seconds_total{labels} {cpu} {}\n", ms(at));
            text += &format!("container_memory_working_set_bytes{labels} {memory} {}\n", ms(at));
        }
        let mut batch = fixture.store.begin_batch(ticket).unwrap();
        let options = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 };
        decode(text.as_bytes(), options, &mut batch);
        fixture.put(ticket, batch).unwrap();
    };
    body(15, 0, 0);
    body(15, 15, 15);
    let mut follower = Follower::new(&fixture);
    for at in [30, 45, 60, 75] {
        body(14, 15, at);
        assert_eq!(follower.follow(&fixture), ["changed n/q"]);
    }
    fixture.directory.skip(Duration::from_secs(8));
    fixture.store.scrape_failed(ticket);
    assert_eq!(follower.follow(&fixture), ["left n/p"], "n/q has not changed");
    fixture.store.scrape_failed(ticket);
    assert!(follower.follow(&fixture).is_empty());
    body(10, 90, 90);
    assert_eq!(follower.follow(&fixture), ["new n/p", "changed n/q"]);
    for _ in 0..4 {
        body(14, 90, 90);
        assert!(follower.follow(&fixture).is_empty());
    }
    body(15, 90, 165);
    assert_eq!(follower.follow(&fixture), ["changed n/q", "left n/p"]);
    body(15, 180, 180);
    assert_eq!(follower.follow(&fixture), ["new n/p", "changed n/q"]);
    fixture.directory.skip(Duration::from_secs(61));
    fixture.store.scrape_failed(ticket);
    assert_eq!(follower.follow(&fixture), ["left n/p", "left n/q"], "the response is too old");
    assert_eq!(follower.known, list(&fixture));
}

#[test]
fn reports_changes_of_nodes() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    fixture.synced();
    let mut from = fixture.store.version();
    let mut follow = |expected: &[&str]| {
        let mut seen = Vec::new();
        loop {
            let progress = fixture.store.next_change(RowKind::Nodes, from, &mut |change| match change {
                Change::Node { row, new } => seen.push(format!("{} {new}", row.name)),
                Change::Removed { name, labels, .. } => {
                    assert_eq!(labels.get("node"), Some(name));
                    seen.push(format!("{name} left"));
                }
                Change::Pod { .. } => panic!("a pod among nodes"),
            });
            let progress = progress.unwrap();
            from = progress.until;
            if !progress.more {
                break;
            }
        }
        assert_eq!(seen, expected);
    };
    fixture.body(ticket, 0, &[]);
    fixture.body(ticket, 10, &[]);
    follow(&["a true"]);
    fixture.body(ticket, 20, &[]);
    follow(&["a false"]);
    fixture.directory.delete_node("a");
    fixture.store.remove_node(ticket);
    follow(&["a left"]);
    let ticket = fixture.node("a", "2");
    fixture.body(ticket, 30, &[]);
    fixture.body(ticket, 40, &[]);
    follow(&["a true"]);
}

#[derive(Clone, Debug)]
enum TestAction {
    /// A body of a node, possibly with the timestamp of its previous body.
    Body(usize, std::collections::BTreeSet<(u8, u8)>, bool),
    Replace(usize),
    Remove(usize),
    Pod(u8, u8),
    Relabel(u8, u8),
    Delete(u8),
    Follow,
}

fn acts() -> impl Strategy<Value = Vec<TestAction>> {
    let act = prop_oneof![
        8 => (0..2_usize, prop::collection::btree_set((0..4_u8, 0..2_u8), 0..6), any::<bool>())
            .prop_map(|(node, containers, again)| TestAction::Body(node, containers, again)),
        1 => (0..2_usize).prop_map(TestAction::Replace),
        1 => (0..2_usize).prop_map(TestAction::Remove),
        2 => (0..4_u8, 0..2_u8).prop_map(|(pod, uid)| TestAction::Pod(pod, uid)),
        2 => (0..4_u8, 0..3_u8).prop_map(|(pod, label)| TestAction::Relabel(pod, label)),
        2 => (0..4_u8).prop_map(TestAction::Delete),
        3 => Just(TestAction::Follow),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn following_changes_agrees_with_a_list(before in acts(), after in acts()) {
        let fixture = TestStore::new();
        let mut tickets: Vec<_> = (0..2).map(|node| fixture.node(&format!("node{node}"), "1")).collect();
        for pod in 0..4 {
            fixture.pod(&format!("n{}/p{pod}", pod % 2), "0");
        }
        fixture.synced();
        let mut at = 0;
        let mut last = [0; 2];
        let mut follower = Follower::new(&fixture);
        let begun = before.len();
        for (step, act) in before.into_iter().chain(after).enumerate() {
            if step == begun {
                follower = Follower::new(&fixture);
            }
            at += 10;
            match act {
                TestAction::Body(node, containers, again) => {
                    let names: Vec<_> = containers.iter().map(|(p, c)| format!("n{}/p{p}/c{c}", p % 2)).collect();
                    let start = i64::try_from(node).unwrap() * 100 - 1000;
                    let at = if again { last[node] } else { at };
                    last[node] = at;
                    let cpu = f64::from(at) / 10.0;
                    let lines: Vec<_> = names.iter().map(|name| (&**name, cpu, 1, Some(start))).collect();
                    fixture.body(tickets[node], i64::from(at), &lines);
                }
                TestAction::Replace(node) => tickets[node] = fixture.node(&format!("node{node}"), &at.to_string()),
                TestAction::Remove(node) => {
                    fixture.directory.delete_node(&format!("node{node}"));
                    fixture.store.remove_node(tickets[node]);
                }
                TestAction::Pod(pod, uid) => fixture.pod(&format!("n{}/p{pod}", pod % 2), &uid.to_string()),
                TestAction::Relabel(pod, label) => {
                    let labels = [("l", label.to_string())].into_iter().collect();
                    let namespace = format!("n{}", pod % 2);
                    if fixture.directory.pods().get(&namespace, &format!("p{pod}")).is_some() {
                        fixture.directory.apply_pod(&namespace, &format!("p{pod}"), "0", labels);
                    }
                }
                TestAction::Delete(pod) => fixture.directory.delete_pod(&format!("n{}", pod % 2), &format!("p{pod}")),
                TestAction::Follow => drop(follower.follow(&fixture)),
            }
        }
        // The row of a replaced pod is removed with the next body or list; the client is compared with a list.
        let shown = list(&fixture);
        follower.follow(&fixture);
        prop_assert_eq!(follower.known, shown);
    }
}
