//! Lookups by last location and two-pass reads while nodes and pods are added, moved and removed.

use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::{ContainerSample, TestStore};
use crate::ingest::store::Ticket;
use crate::ingest::store::pod_lookup::PodLookup;
use crate::model::rows::{NodeRow, Pick, PodRow, Rows, TwoPassReader};

const NODES: usize = 3;
const PODS: [&str; 4] = ["n/a", "n/b", "n/c", "o/a"];

#[derive(Clone, Debug)]
enum TestStep {
    /// A node reports these pods.
    Put(usize, [bool; PODS.len()]),
    Remove(usize),
    Pod(usize),
    NoPod(usize),
    /// Starts a two-pass read and finishes the previous one, this many rows at a time.
    Keep(usize),
}

fn step() -> impl Strategy<Value = TestStep> {
    let (node, pod) = (0..NODES, 0..PODS.len());
    prop_oneof![
        6 => (node.clone(), any::<[bool; PODS.len()]>()).prop_map(|(node, pods)| TestStep::Put(node, pods)),
        1 => node.prop_map(TestStep::Remove),
        1 => pod.clone().prop_map(TestStep::Pod),
        1 => pod.prop_map(TestStep::NoPod),
        2 => (1_usize..6).prop_map(TestStep::Keep),
    ]
}

fn pod_text(row: &PodRow<'_>) -> String {
    format!("{row:?}")
}

fn node_text(row: &NodeRow<'_>) -> String {
    format!("{row:?}")
}

/// A two-pass reader and what its first pass read.
struct TwoPassRead {
    reader: Box<dyn TwoPassReader>,
    pods: Vec<String>,
    nodes: Vec<String>,
}

impl TwoPassRead {
    fn begin(fixture: &TestStore) -> Self {
        let mut reader = fixture.store.clone().two_pass_reader();
        let (mut pods, mut nodes) = (Vec::new(), Vec::new());
        reader.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
            pods.push(pod_text(row));
            ControlFlow::Continue(())
        });
        reader.nodes(None, &mut |_, _| Pick::Take, &mut |row| {
            nodes.push(node_text(row));
            ControlFlow::Continue(())
        });
        Self { reader, pods, nodes }
    }

    fn end(mut self, at_once: usize) {
        let flow = |seen: usize| {
            if seen.is_multiple_of(at_once) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (mut pods, mut nodes) = (Vec::new(), Vec::new());
        // One call more than needed: the last one returns nothing.
        for _ in 0..=self.pods.len().max(self.nodes.len()) {
            self.reader.replay_pods(&mut |row| {
                pods.push(pod_text(row));
                flow(pods.len())
            });
            self.reader.replay_nodes(&mut |row| {
                nodes.push(node_text(row));
                flow(nodes.len())
            });
        }
        assert_eq!((pods, nodes), (self.pods, self.nodes));
    }
}

/// Asserts that each lookup returns the location that the index alone returns.
fn assert_found_as_in_index(fixture: &TestStore) {
    let pods = fixture.directory.pods();
    let state = fixture.store.state.read();
    let mut lookups: Vec<_> = pods
        .iter_after(None, None)
        .map(|(namespace, name, pod)| PodLookup::new(namespace, name, pod))
        .collect();
    state.look_up(&fixture.store, &mut lookups, fixture.directory.now_ms());
    for lookup in &lookups {
        assert_eq!(
            lookup.location,
            state.locate(lookup.namespace, lookup.name),
            "{}/{}",
            lookup.namespace,
            lookup.name
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_second_pass_returns_the_rows_of_the_first(steps in prop::collection::vec(step(), 1..40)) {
        let fixture = TestStore::new();
        let admit = |node: usize| fixture.node(["x", "y", "z"][node], "1");
        let mut tickets: [Ticket; NODES] = std::array::from_fn(admit);
        for key in PODS {
            fixture.pod(key, "1");
        }
        fixture.synced();
        let mut read: Option<TwoPassRead> = None;
        for (at, step) in steps.iter().enumerate() {
            let at_s = 15 * i64::try_from(at).unwrap();
            match step {
                TestStep::Put(node, there) => {
                    let keys: Vec<String> = PODS.iter().zip(there).filter(|(_, there)| **there)
                        .flat_map(|(key, _)| [format!("{key}/main"), format!("{key}/side")]).collect();
                    let cpu = 1.0 + at as f64 * 0.25;
                    let started = -100 + i64::try_from(*node).unwrap();
                    let containers: Vec<ContainerSample<'_>> =
                        keys.iter().map(|key| (key.as_str(), cpu, 4096 + at as u64, Some(started))).collect();
                    fixture.body(tickets[*node], at_s, &containers);
                }
                TestStep::Remove(node) => {
                    fixture.store.remove_node(tickets[*node]);
                    tickets[*node] = admit(*node);
                }
                TestStep::Pod(pod) => fixture.pod(PODS[*pod], "1"),
                TestStep::NoPod(pod) => {
                    let (namespace, name) = PODS[*pod].split_once('/').unwrap();
                    fixture.directory.delete_pod(namespace, name);
                }
                TestStep::Keep(at_once) => {
                    if let Some(earlier) = read.replace(TwoPassRead::begin(&fixture)) {
                        earlier.end(*at_once);
                    }
                }
            }
            assert_found_as_in_index(&fixture);
        }
        if let Some(last) = read {
            last.end(1);
        }
    }
}

#[test]
fn keeps_each_snapshot_once_and_releases_it() {
    let fixture = TestStore::new();
    let ticket = fixture.node("x", "1");
    for key in PODS {
        fixture.pod(key, "1");
    }
    fixture.synced();
    let containers: Vec<String> = PODS.iter().map(|key| format!("{key}/main")).collect();
    let put = |at: i64| {
        let containers: Vec<ContainerSample<'_>> =
            containers.iter().map(|key| (key.as_str(), at as f64, 4096, Some(-100))).collect();
        fixture.body(ticket, at, &containers);
    };
    put(15);
    put(30);
    let snapshot = Arc::downgrade(&fixture.store.state.read().slots[0].snapshot);
    let read = TwoPassRead::begin(&fixture);
    assert_eq!(read.pods.len(), PODS.len());
    assert_eq!(snapshot.strong_count(), 2, "the store and the reader, once");
    put(45);
    assert_eq!(snapshot.strong_count(), 1);
    read.end(3);
    assert_eq!(snapshot.strong_count(), 0);
}
