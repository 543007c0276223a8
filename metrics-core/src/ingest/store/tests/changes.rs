//! A client that follows the changes sees the same as a list.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::TestStore;
use crate::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use crate::model::labels::Labels;
use crate::model::rows::{Change, ChangeQuery, Expired, Pick, Progress, RowKind, Rows};

type Known = BTreeMap<String, (i64, Option<String>)>;

/// A watch client: the rows it knows, and the version up to which it has read.
struct Follower {
    known: Known,
    version: u64,
    complete_at: u64,
    /// Selects pods with this value of label `l`, or all.
    label: Option<&'static str>,
    events: Vec<String>,
}

fn query<'a>(kind: RowKind, from: u64) -> ChangeQuery<'a> {
    ChangeQuery { kind, namespace: None, name: None, from, new_from: from, unknown_from: from }
}

fn next_change(
    fixture: &TestStore,
    query: ChangeQuery<'_>,
    visit: &mut dyn FnMut(Change<'_>),
) -> Result<Progress, Expired> {
    fixture.store.next_change(query, &mut |_, _| true, visit)
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
        Self::of(fixture, None)
    }

    fn of(fixture: &TestStore, label: Option<&'static str>) -> Self {
        let version = fixture.store.version();
        let mut known = list(fixture);
        known.retain(|_, (_, l)| label.is_none() || l.as_deref() == label);
        Self { known, version, complete_at: version, label, events: Vec::new() }
    }

    fn follow(&mut self, fixture: &TestStore) -> Vec<String> {
        loop {
            let query = ChangeQuery {
                new_from: self.complete_at,
                unknown_from: self.complete_at,
                ..query(RowKind::Pods, self.version)
            };
            let selects = |labels: &Labels| self.label.is_none() || labels.get("l") == self.label;
            let (known, events, version) = (&mut self.known, &mut self.events, self.version);
            let progress = fixture.store.next_change(
                query,
                &mut |_, labels| selects(labels),
                &mut |change| match change {
                    Change::Pod { row, before } => {
                        let key = format!("{}/{}", row.namespace, row.name);
                        assert!(row.version >= version);
                        let sample = (row.timestamp_ns, row.labels.get("l").map(str::to_owned));
                        match (before.is_some_and(selects), selects(row.labels)) {
                            (false, true) => {
                                events.push(format!("new {key}"));
                                known.insert(key, sample);
                            }
                            (true, true) => {
                                events.push(format!("changed {key}"));
                                assert!(known.insert(key.clone(), sample).is_some(), "{key} is new");
                            }
                            (true, false) => {
                                events.push(format!("left {key}"));
                                known.remove(&key);
                            }
                            (false, false) => {}
                        }
                    }
                    Change::Removed { namespace, name, labels } => {
                        assert!(selects(labels));
                        let key = format!("{namespace}/{name}");
                        events.push(format!("left {key}"));
                        known.remove(&key);
                    }
                    Change::Node { .. } => panic!("a node among pods"),
                },
            );
            let progress = progress.unwrap();
            assert!(progress.until > self.version || !progress.more);
            self.version = progress.until;
            if !progress.more {
                self.complete_at = self.version;
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
    let from_elsewhere = next_change(&fixture, query(RowKind::Pods, 1), &mut |_| {});
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
            let progress = next_change(&fixture, query(RowKind::Nodes, *from), &mut |_| seen += 1).unwrap();
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
            let progress = next_change(&fixture, query(RowKind::Nodes, from), &mut |change| match change {
                Change::Node { row, before } => {
                    let gained = before.is_some_and(|before| before.get("zone") != row.labels.get("zone"));
                    let gained = if gained { ", with zone" } else { "" };
                    seen.push(format!("{} {}{gained}", row.name, before.is_none()));
                }
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
    let mut relabeled = (**fixture.directory.nodes().get("a").unwrap()).clone();
    relabeled.labels = [("node", "a"), ("zone", "z")].into_iter().collect();
    fixture.directory.apply_node(relabeled);
    follow(&["a false, with zone"]);
    fixture.directory.delete_node("a");
    fixture.store.remove_node(ticket);
    follow(&["a left"]);
    let ticket = fixture.node("a", "2");
    fixture.body(ticket, 30, &[]);
    fixture.body(ticket, 40, &[]);
    follow(&["a true"]);
}

#[test]
fn label_changes_are_changes_of_their_own() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    let label = |name: &str, l: &str| {
        fixture.directory.apply_pod("n", name, "u", [("l", l)].into_iter().collect());
    };
    let at = std::cell::Cell::new(0);
    let body = |names: &[&str]| {
        at.set(at.get() + 10);
        fixture.directory.skip(Duration::from_secs(10));
        let keys: Vec<_> = names.iter().map(|name| format!("n/{name}/x")).collect();
        let cpu = at.get() as f64;
        let lines: Vec<_> = keys.iter().map(|key| (&**key, cpu, 1, Some(-1000))).collect();
        fixture.body(ticket, at.get(), &lines);
    };
    label("p", "0");
    fixture.synced();
    body(&["p"]);
    body(&["p"]);
    let mut follower = Follower::of(&fixture, Some("1"));
    assert!(follower.known.is_empty());
    let mut expect = |expected: &[&str]| assert_eq!(follower.follow(&fixture), expected);
    label("p", "1");
    expect(&["new n/p"]);
    body(&["p"]);
    expect(&["changed n/p"]);
    label("p", "0");
    expect(&["left n/p"]);
    // Several changes before the next read.
    body(&["p"]);
    label("p", "1");
    body(&["p"]);
    expect(&["new n/p", "changed n/p"]);
    label("p", "0");
    body(&["p"]);
    expect(&["left n/p"]);
    body(&["p"]);
    label("p", "1");
    expect(&["new n/p"]);
    body(&["p"]);
    label("p", "0");
    label("p", "1");
    label("p", "2");
    expect(&["changed n/p", "left n/p", "new n/p", "left n/p"]);
    // New pods, which no client has seen.
    label("q", "0");
    label("r", "0");
    body(&["q"]);
    body(&["q"]);
    label("q", "1");
    expect(&["new n/q"]);
    body(&["q", "r"]);
    body(&["q", "r"]);
    label("r", "1");
    body(&["q", "r"]);
    expect(&["changed n/q", "new n/r"]);
    // A pod that is deleted after it was relabeled.
    label("q", "0");
    fixture.directory.delete_pod("n", "q");
    label("r", "1");
    fixture.directory.delete_pod("n", "r");
    expect(&["left n/q", "left n/r"]);
    // A pod that is created again after it was relabeled and deleted.
    label("s", "1");
    body(&["s"]);
    body(&["s"]);
    expect(&["new n/s"]);
    label("s", "0");
    fixture.directory.delete_pod("n", "s");
    label("s", "0");
    body(&["s"]);
    body(&["s"]);
    expect(&["left n/s"]);
}

#[test]
fn selective_readers_visit_only_what_they_select() {
    let fixture = TestStore::new();
    let ticket = fixture.node("a", "1");
    for key in ["m/p", "m/q", "n/p", "n/q", "nn/p"] {
        fixture.pod(key, "u");
    }
    fixture.synced();
    let from = fixture.store.version();
    let lines = ["m/p/x", "m/q/x", "n/p/x", "n/q/x", "nn/p/x"].map(|key| (key, 1.0, 1, Some(-1000)));
    fixture.body(ticket, 0, &lines);
    fixture.body(ticket, 10, &lines.map(|(key, ..)| (key, 2.0, 1, Some(-1000))));
    let picked = |namespace, name, take: bool| {
        let (mut picked, mut visited) = (Vec::new(), 0);
        let query = ChangeQuery { namespace, name, ..query(RowKind::Pods, from) };
        let mut pick = |key: (&str, &str), _: &Labels| {
            picked.push(format!("{}/{}", key.0, key.1));
            take
        };
        fixture.store.next_change(query, &mut pick, &mut |_| visited += 1).unwrap();
        assert_eq!(visited, if take { picked.len() } else { 0 });
        picked
    };
    // Clients have not seen what is not selected, so its removal is no change.
    picked(None, None, false);
    let before = fixture.store.version();
    fixture.directory.delete_pod("nn", "p");
    assert_eq!(fixture.store.version(), before);
    assert_eq!(picked(Some("n"), None, true), ["n/p", "n/q"]);
    assert_eq!(picked(Some("n"), Some("q"), true), ["n/q"]);
    assert_eq!(picked(None, Some("q"), true), ["m/q", "n/q"]);
    assert!(picked(Some("none"), None, true).is_empty());
    assert_eq!(picked(None, None, true), ["m/p", "m/q", "n/p", "n/q"]);
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
    fn following_changes_agrees_with_a_list(
        before in acts(),
        after in acts(),
        label in prop::sample::select(vec![None, Some("1")]),
    ) {
        let fixture = TestStore::new();
        let mut tickets: Vec<_> = (0..2).map(|node| fixture.node(&format!("node{node}"), "1")).collect();
        for pod in 0..4 {
            fixture.pod(&format!("n{}/p{pod}", pod % 2), "0");
        }
        fixture.synced();
        let mut at = 0;
        let mut last = [0; 2];
        let mut follower = Follower::of(&fixture, label);
        let begun = before.len();
        for (step, act) in before.into_iter().chain(after).enumerate() {
            if step == begun {
                follower = Follower::of(&fixture, label);
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
        let mut shown = list(&fixture);
        shown.retain(|_, (_, l)| label.is_none() || l.as_deref() == label);
        follower.follow(&fixture);
        prop_assert_eq!(follower.known, shown);
    }
}
