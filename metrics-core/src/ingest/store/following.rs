//! Whoever follows the changes knows what a list shows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::Bench;
use crate::model::rows::{Change, Expired, Pick, RowKind, Rows};

type Known = BTreeMap<String, (i64, Option<String>)>;

/// A client: what it knows, and up to which version.
struct Follower {
    known: Known,
    version: u64,
    events: Vec<String>,
}

fn list(bench: &Bench) -> Known {
    let mut known = Known::new();
    bench.store.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
        let label = row.labels.get("l").map(str::to_owned);
        known.insert(format!("{}/{}", row.namespace, row.name), (row.timestamp_ns, label));
        ControlFlow::Continue(())
    });
    known
}

impl Follower {
    fn new(bench: &Bench) -> Self {
        let version = bench.store.version();
        Self { known: list(bench), version, events: Vec::new() }
    }

    fn follow(&mut self, bench: &Bench) -> Vec<String> {
        loop {
            let mut left = Vec::new();
            let progress = bench.store.next_change(RowKind::Pods, self.version, &mut |change| match change {
                Change::Pod { row, new } => {
                    let key = format!("{}/{}", row.namespace, row.name);
                    assert!(row.version >= self.version);
                    self.events.push(format!("{} {key}", if new { "new" } else { "changed" }));
                    let label = row.labels.get("l").map(str::to_owned);
                    self.known.insert(key, (row.timestamp_ns, label));
                }
                Change::Removed { namespace, name, .. } => left.push((namespace.to_owned(), name.to_owned())),
                Change::Node { .. } => panic!("a node among pods"),
            });
            let progress = progress.unwrap();
            for (namespace, name) in left {
                let key = format!("{namespace}/{name}");
                self.events.push(format!("left {key}"));
                self.known.remove(&key);
                bench.store.pod(&namespace, &name, &mut |row| {
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
fn a_sample_is_one_change_and_a_departure_is_told_to_whom_it_was_shown() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    for key in ["n/p", "n/q", "n/never-measured"] {
        bench.pod(key, "u");
    }
    bench.synced();
    let mut follower = Follower::new(&bench);
    bench.body(ticket, 0, &[("n/p/x", 1.0, 1, None), ("n/q/x", 1.0, 1, None)]);
    assert!(follower.follow(&bench).is_empty(), "no rate yet");
    bench.body(ticket, 10, &[("n/p/x", 2.0, 1, None), ("n/q/x", 2.0, 1, None)]);
    assert_eq!(follower.follow(&bench), ["new n/p", "new n/q"]);
    assert!(follower.follow(&bench).is_empty());
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 3.0, 0, None)]);
    assert_eq!(follower.follow(&bench), ["changed n/p", "left n/q"], "incomplete");
    bench.body(ticket, 30, &[("n/p/x", 4.0, 1, None), ("n/q/x", 4.0, 1, None)]);
    bench.directory.delete_pod("n", "p");
    bench.directory.delete_pod("n", "never-measured");
    assert_eq!(follower.follow(&bench), ["new n/q", "left n/p"]);
    bench.body(ticket, 40, &[]);
    assert_eq!(follower.follow(&bench), ["left n/q"], "the kubelet says no more of it");
    assert_eq!(follower.known, list(&bench));
    let from_elsewhere = bench.store.next_change(RowKind::Pods, 1, &mut |_| {});
    assert_eq!(from_elsewhere, Err(Expired));
}

#[test]
fn what_left_is_told_as_it_was_last() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    for key in ["n/p", "n/fresh"] {
        bench.pod(key, "u");
    }
    bench.synced();
    let labels = [("l", "old")].into_iter().collect();
    let pod = |name: &str| {
        let mut told = None;
        bench.store.last_known_pod(("n", name), &labels, &mut |row| {
            assert_eq!(row.labels.get("l"), Some("old"));
            let usage = row.containers[0].usage;
            told = Some((usage.cpu_nanocores / 1_000_000, usage.memory_bytes, row.window_ns / 1_000_000_000));
        });
        told
    };
    let node = || {
        let mut told = None;
        bench
            .store
            .last_known_node("a", &labels, &mut |row| told = Some(row.usage.cpu_nanocores / 1_000_000));
        told
    };
    bench.body(ticket, 0, &[("n/p/x", 1.0, 5, None)]);
    assert_eq!((pod("p"), node()), (None, None), "never measured");
    bench.body(ticket, 10, &[("n/p/x", 2.0, 5, None), ("n/fresh/x", 1.0, 5, None)]);
    bench.directory.delete_pod("n", "p");
    assert_eq!(pod("p"), Some((100, 5, 10)));
    assert_eq!(pod("fresh"), None);
    assert_eq!(pod("none-such"), None);
    bench.directory.delete_node("a");
    bench.store.remove(ticket);
    assert_eq!(node(), Some(1000));
    assert_eq!(pod("p"), None, "forgotten with its node");
    bench.node("a", "2");
    assert_eq!(node(), Some(1000), "another of the name has no sample yet");
}

#[test]
fn a_sample_that_repeats_is_no_change() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    for key in ["n/p", "n/q"] {
        bench.pod(key, "u");
    }
    bench.synced();
    let lines = |p: f64, q: f64| [("n/p/x", p, 1, None), ("n/p/y", p, 1, None), ("n/q/x", q, 1, None)];
    let nodes = |from: &mut u64| {
        let mut seen = 0;
        loop {
            let progress = bench.store.next_change(RowKind::Nodes, *from, &mut |_| seen += 1).unwrap();
            *from = progress.until;
            if !progress.more {
                return seen;
            }
        }
    };
    bench.body(ticket, 0, &lines(1.0, 1.0));
    bench.body(ticket, 10, &lines(2.0, 2.0));
    let (mut follower, mut behind, mut from) =
        (Follower::new(&bench), Follower::new(&bench), bench.store.version());
    bench.store.nodes(None, &mut |_, _| Pick::Take, &mut |_| ControlFlow::Continue(()));
    bench.body(ticket, 10, &lines(2.0, 2.0));
    assert!(follower.follow(&bench).is_empty(), "of pods");
    assert_eq!(nodes(&mut from), 0);
    bench.body(ticket, 20, &lines(3.0, 3.0));
    assert_eq!(follower.follow(&bench), ["changed n/p", "changed n/q"]);
    assert_eq!(nodes(&mut from), 1);
    bench.body(ticket, 20, &lines(3.0, 3.0));
    assert!(follower.follow(&bench).is_empty());
    assert_eq!(behind.follow(&bench), ["changed n/p", "changed n/q"], "who was behind is told all the same");
    // Another amount at the same time is news, and so is a container that went.
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/p/y", 3.0, 2, None), ("n/q/x", 3.0, 1, None)]);
    assert_eq!(follower.follow(&bench), ["changed n/p"]);
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 3.0, 1, None)]);
    assert!(follower.follow(&bench).contains(&"changed n/p".to_owned()));
    // What had no row for a while is there again, though its sample is an old one.
    bench.body(ticket, 30, &[("n/p/x", 4.0, 0, None), ("n/q/x", 4.0, 1, None)]);
    assert_eq!(follower.follow(&bench), ["changed n/q", "left n/p"]);
    bench.body(ticket, 20, &[("n/p/x", 3.0, 1, None), ("n/q/x", 4.0, 1, None)]);
    assert_eq!(follower.follow(&bench), ["new n/p", "left n/q"]);
    assert_eq!(follower.known, list(&bench));
}

#[test]
fn samples_that_grow_too_old_leave() {
    let bench = Bench::lasting(Duration::from_millis(60));
    let ticket = bench.node("a", "1");
    bench.pod("n/p", "u");
    bench.synced();
    bench.body(ticket, 0, &[("n/p/x", 1.0, 1, None)]);
    bench.body(ticket, 10, &[("n/p/x", 2.0, 1, None)]);
    let mut follower = Follower::new(&bench);
    assert_eq!(follower.known.len(), 1);
    std::thread::sleep(Duration::from_millis(100));
    bench.store.failed(ticket);
    bench.store.failed(ticket);
    assert_eq!(follower.follow(&bench), ["left n/p"]);
}

#[test]
fn nodes_are_followed_too() {
    let bench = Bench::new();
    let ticket = bench.node("a", "1");
    bench.synced();
    let mut from = bench.store.version();
    let mut follow = |expected: &[&str]| {
        let mut seen = Vec::new();
        loop {
            let progress = bench.store.next_change(RowKind::Nodes, from, &mut |change| match change {
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
    bench.body(ticket, 0, &[]);
    bench.body(ticket, 10, &[]);
    follow(&["a true"]);
    bench.body(ticket, 20, &[]);
    follow(&["a false"]);
    bench.directory.delete_node("a");
    bench.store.remove(ticket);
    follow(&["a left"]);
    let ticket = bench.node("a", "2");
    bench.body(ticket, 30, &[]);
    bench.body(ticket, 40, &[]);
    follow(&["a true"]);
}

#[derive(Clone, Debug)]
enum Act {
    /// Of a node; perhaps of the instant of the body before.
    Body(usize, std::collections::BTreeSet<(u8, u8)>, bool),
    Replace(usize),
    Remove(usize),
    Pod(u8, u8),
    Relabel(u8, u8),
    Delete(u8),
    Follow,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..2_usize, prop::collection::btree_set((0..4_u8, 0..2_u8), 0..6), any::<bool>())
            .prop_map(|(node, containers, again)| Act::Body(node, containers, again)),
        1 => (0..2_usize).prop_map(Act::Replace),
        1 => (0..2_usize).prop_map(Act::Remove),
        2 => (0..4_u8, 0..2_u8).prop_map(|(pod, uid)| Act::Pod(pod, uid)),
        2 => (0..4_u8, 0..3_u8).prop_map(|(pod, label)| Act::Relabel(pod, label)),
        2 => (0..4_u8).prop_map(Act::Delete),
        3 => Just(Act::Follow),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_follower_has_what_a_list_shows(before in acts(), after in acts()) {
        let bench = Bench::new();
        let mut tickets: Vec<_> = (0..2).map(|node| bench.node(&format!("node{node}"), "1")).collect();
        for pod in 0..4 {
            bench.pod(&format!("n{}/p{pod}", pod % 2), "0");
        }
        bench.synced();
        let mut at = 0;
        let mut last = [0; 2];
        let mut follower = Follower::new(&bench);
        let begun = before.len();
        for (step, act) in before.into_iter().chain(after).enumerate() {
            if step == begun {
                follower = Follower::new(&bench);
            }
            at += 10;
            match act {
                Act::Body(node, containers, again) => {
                    let names: Vec<_> = containers.iter().map(|(p, c)| format!("n{}/p{p}/c{c}", p % 2)).collect();
                    let start = i64::try_from(node).unwrap() * 100 - 1000;
                    let at = if again { last[node] } else { at };
                    last[node] = at;
                    let cpu = f64::from(at) / 10.0;
                    let lines: Vec<_> = names.iter().map(|name| (&**name, cpu, 1, Some(start))).collect();
                    bench.body(tickets[node], i64::from(at), &lines);
                }
                Act::Replace(node) => tickets[node] = bench.node(&format!("node{node}"), &at.to_string()),
                Act::Remove(node) => {
                    bench.directory.delete_node(&format!("node{node}"));
                    bench.store.remove(tickets[node]);
                }
                Act::Pod(pod, uid) => bench.pod(&format!("n{}/p{pod}", pod % 2), &uid.to_string()),
                Act::Relabel(pod, label) => {
                    let labels = [("l", label.to_string())].into_iter().collect();
                    let namespace = format!("n{}", pod % 2);
                    if bench.directory.pods().get(&namespace, &format!("p{pod}")).is_some() {
                        bench.directory.apply_pod(&namespace, &format!("p{pod}"), "0", labels);
                    }
                }
                Act::Delete(pod) => bench.directory.delete_pod(&format!("n{}", pod % 2), &format!("p{pod}")),
                Act::Follow => drop(follower.follow(&bench)),
            }
        }
        // A namesake's row leaves with the next body or list; a list is what a client compares with.
        let shown = list(&bench);
        follower.follow(&bench);
        prop_assert_eq!(follower.known, shown);
    }
}
