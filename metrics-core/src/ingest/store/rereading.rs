//! What is found where it was last, and what is read twice, while nodes and pods come, move and go.

use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::Ticket;
use super::seek::Sought;
use super::tests::{Bench, Container};
use crate::model::rows::{NodeRow, Pick, PodRow, Rows, TwoPassReader};

const NODES: usize = 3;
const PODS: [&str; 4] = ["n/a", "n/b", "n/c", "o/a"];

#[derive(Clone, Debug)]
enum Step {
    /// A node reports these pods.
    Put(usize, [bool; PODS.len()]),
    Remove(usize),
    Pod(usize),
    NoPod(usize),
    /// A list in protobuf begins, and another one that began earlier is read to its end, so many rows at a time.
    Keep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, pod) = (0..NODES, 0..PODS.len());
    prop_oneof![
        6 => (node.clone(), any::<[bool; PODS.len()]>()).prop_map(|(node, pods)| Step::Put(node, pods)),
        1 => node.prop_map(Step::Remove),
        1 => pod.clone().prop_map(Step::Pod),
        1 => pod.prop_map(Step::NoPod),
        2 => (1_usize..6).prop_map(Step::Keep),
    ]
}

fn pod_text(row: &PodRow<'_>) -> String {
    format!("{row:?}")
}

fn node_text(row: &NodeRow<'_>) -> String {
    format!("{row:?}")
}

/// A keeper, and what it read.
struct Read {
    keeper: Box<dyn TwoPassReader>,
    pods: Vec<String>,
    nodes: Vec<String>,
}

impl Read {
    fn begin(bench: &Bench) -> Self {
        let mut keeper = bench.store.clone().two_pass_reader();
        let (mut pods, mut nodes) = (Vec::new(), Vec::new());
        keeper.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
            pods.push(pod_text(row));
            ControlFlow::Continue(())
        });
        keeper.nodes(None, &mut |_, _| Pick::Take, &mut |row| {
            nodes.push(node_text(row));
            ControlFlow::Continue(())
        });
        Self { keeper, pods, nodes }
    }

    fn end(mut self, at_once: usize) {
        let flow = |seen: usize| {
            if seen.is_multiple_of(at_once) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (mut pods, mut nodes) = (Vec::new(), Vec::new());
        // Once more than it takes: at the end there is nothing.
        for _ in 0..=self.pods.len().max(self.nodes.len()) {
            self.keeper.replay_pods(&mut |row| {
                pods.push(pod_text(row));
                flow(pods.len())
            });
            self.keeper.replay_nodes(&mut |row| {
                nodes.push(node_text(row));
                flow(nodes.len())
            });
        }
        assert_eq!((pods, nodes), (self.pods, self.nodes));
    }
}

/// Each pod is found where the index alone says.
fn found_as_in_the_index(bench: &Bench) {
    let pods = bench.directory.pods();
    let state = bench.store.state.read();
    let mut sought: Vec<_> =
        pods.behind(None, None).map(|(namespace, name, pod)| Sought::new(namespace, name, pod)).collect();
    state.seek(&bench.store, &mut sought, bench.directory.now_ms());
    for one in &sought {
        assert_eq!(one.place, state.locate(one.namespace, one.name), "{}/{}", one.namespace, one.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_are_found_and_read_again(steps in prop::collection::vec(step(), 1..40)) {
        let bench = Bench::new();
        let admit = |node: usize| bench.node(["x", "y", "z"][node], "1");
        let mut tickets: [Ticket; NODES] = std::array::from_fn(admit);
        for key in PODS {
        bench.pod(key, "1");
    }
        bench.synced();
        let mut read: Option<Read> = None;
        for (at, step) in steps.iter().enumerate() {
            let at_s = 15 * i64::try_from(at).unwrap();
            match step {
                Step::Put(node, there) => {
                    let keys: Vec<String> = PODS.iter().zip(there).filter(|(_, there)| **there)
                        .flat_map(|(key, _)| [format!("{key}/main"), format!("{key}/side")]).collect();
                    let cpu = 1.0 + at as f64 * 0.25;
                    let started = -100 + i64::try_from(*node).unwrap();
                    let containers: Vec<Container<'_>> =
                        keys.iter().map(|key| (key.as_str(), cpu, 4096 + at as u64, Some(started))).collect();
                    bench.body(tickets[*node], at_s, &containers);
                }
                Step::Remove(node) => {
                    bench.store.remove(tickets[*node]);
                    tickets[*node] = admit(*node);
                }
                Step::Pod(pod) => bench.pod(PODS[*pod], "1"),
                Step::NoPod(pod) => {
                    let (namespace, name) = PODS[*pod].split_once('/').unwrap();
                    bench.directory.delete_pod(namespace, name);
                }
                Step::Keep(at_once) => {
                    if let Some(earlier) = read.replace(Read::begin(&bench)) {
                        earlier.end(*at_once);
                    }
                }
            }
            found_as_in_the_index(&bench);
        }
        if let Some(last) = read {
            last.end(1);
        }
    }
}

#[test]
fn snapshots_are_held_once_and_let_go() {
    let bench = Bench::new();
    let ticket = bench.node("x", "1");
    for key in PODS {
        bench.pod(key, "1");
    }
    bench.synced();
    let containers: Vec<String> = PODS.iter().map(|key| format!("{key}/main")).collect();
    let put = |at: i64| {
        let containers: Vec<Container<'_>> =
            containers.iter().map(|key| (key.as_str(), at as f64, 4096, Some(-100))).collect();
        bench.body(ticket, at, &containers);
    };
    put(15);
    put(30);
    let snapshot = Arc::downgrade(&bench.store.state.read().slots[0].snapshot);
    let read = Read::begin(&bench);
    assert_eq!(read.pods.len(), PODS.len());
    assert_eq!(snapshot.strong_count(), 2, "the store and the keeper, once");
    put(45);
    assert_eq!(snapshot.strong_count(), 1);
    read.end(3);
    assert_eq!(snapshot.strong_count(), 0);
}
