//! Reading twice: rows that are kept as they were.
//!
//! A row's numbers and names lie in the snapshot of its node, which is replaced whole and never changed. So all that is
//! kept of a row is which snapshot, which row of it, and which labels; a list of protobuf costs 12 bytes a pod instead
//! of the encoded pod.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Store;
use super::intake::Snapshot;
use super::seek::{Found, Sought, TOGETHER};
use crate::ingest::discover::Node;
use crate::model::labels::Labels;
use crate::model::rows::{NodeRow, Pick, PodRow, TwoPassReader, Usage};

/// Rows of a store that were read, to be read again.
pub(super) struct Keeping {
    store: Arc<Store>,
    nodes: Again<KeptNode>,
    pods: Again<KeptPod>,
    snapshots: Snapshots,
}

/// What is kept, and how much of it has been read again.
struct Again<T> {
    kept: Vec<T>,
    next: usize,
}

impl<T> Default for Again<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), next: 0 }
    }
}

struct KeptNode {
    node: Arc<Node>,
    version: u64,
    timestamp_ns: i64,
    window_ns: i64,
    usage: Usage,
}

struct KeptPod {
    /// Which of the snapshots.
    snapshot: u32,
    row: u32,
    /// Which of the labels.
    labels: u32,
}

/// The snapshots that rows were read of, each once, and the labels, which pods of one template share: they follow each
/// other.
#[derive(Default)]
struct Snapshots {
    held: Vec<(Arc<Snapshot>, u64)>,
    /// For each slot the last that was held of it.
    of_slot: Vec<Option<u32>>,
    labels: Vec<Arc<Labels>>,
}

impl Snapshots {
    /// Holds the snapshot where a pod was found.
    fn hold(&mut self, slot: usize, found: &Found<'_>) -> Option<u32> {
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, None);
        }
        let known = self.of_slot[slot].filter(|at| {
            let (snapshot, version) = &self.held[*at as usize];
            Arc::ptr_eq(snapshot, found.snapshot) && *version == found.version
        });
        if known.is_none() {
            self.of_slot[slot] = u32::try_from(self.held.len()).ok();
            self.held.push((found.snapshot.clone(), found.version));
        }
        self.of_slot[slot]
    }

    /// Rows that were kept.
    fn rows(&self, pods: &[KeptPod]) -> [Option<Found<'_>>; TOGETHER] {
        let held = std::array::from_fn(|at| self.held.get(pods.get(at)?.snapshot as usize));
        let rows = std::array::from_fn(|at| pods.get(at).map_or(0, |pod| pod.row as usize));
        Found::all(held.map(|held| held.map(|(snapshot, version)| (snapshot, *version))), rows)
    }
}

impl Keeping {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, nodes: Again::default(), pods: Again::default(), snapshots: Snapshots::default() }
    }
}

impl Snapshots {
    fn keep(&mut self, one: &Sought<'_>) -> Option<KeptPod> {
        let ((slot, row), found) = one.place.zip(one.found.as_ref())?;
        let (snapshot, row) = self.hold(slot, found).zip(u32::try_from(row).ok())?;
        if self.labels.last().is_none_or(|last| !Arc::ptr_eq(last, &one.pod.labels)) {
            self.labels.push(one.pod.labels.clone());
        }
        let labels = u32::try_from(self.labels.len() - 1).ok()?;
        Some(KeptPod { snapshot, row, labels })
    }
}

impl TwoPassReader for Keeping {
    fn nodes(
        &mut self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let Self { store, nodes, .. } = self;
        store.visit_nodes(after, pick, &mut |node, row| {
            let NodeRow { version, timestamp_ns, window_ns, usage, .. } = *row;
            nodes.kept.push(KeptNode { node: node.clone(), version, timestamp_ns, window_ns, usage });
            visit(row)
        });
    }

    fn pods(
        &mut self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let Self { store, pods, snapshots, .. } = self;
        store.visit_pods(namespace, after, pick, &mut |one, row| match snapshots.keep(one) {
            Some(kept) => {
                pods.kept.push(kept);
                visit(row)
            }
            // Beyond four billion snapshots or rows of one: not read at all rather than once.
            None => ControlFlow::Continue(()),
        });
    }

    fn replay_nodes(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let Again { kept, next } = &mut self.nodes;
        for KeptNode { node, version, timestamp_ns, window_ns, usage } in &kept[*next..] {
            *next += 1;
            let (version, timestamp_ns, window_ns, usage) = (*version, *timestamp_ns, *window_ns, *usage);
            let row =
                NodeRow { name: &node.name, labels: &node.labels, version, timestamp_ns, window_ns, usage };
            if visit(&row).is_break() {
                return;
            }
        }
    }

    fn replay_pods(&mut self, visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>) {
        let Self { pods: Again { kept, next }, snapshots, .. } = self;
        let mut containers = Vec::new();
        for together in kept[*next..].chunks(TOGETHER) {
            // The same as when they were sought: each loop is one read for all of them.
            let found = snapshots.rows(together);
            let times = found.each_ref().map(|found| found.as_ref().and_then(Found::times));
            let keys: [_; TOGETHER] = std::array::from_fn(|at| {
                let (pod, found) = together.get(at).zip(found[at].as_ref())?;
                Some((found.layout.pod(pod.row as usize), snapshots.labels.get(pod.labels as usize)?))
            });
            containers.clear();
            let of_one = found.each_ref().map(|found| {
                containers.extend(found.iter().flat_map(Found::rows));
                containers.len()
            });
            let mut start = 0;
            for ((key, times), end) in keys.into_iter().zip(times).zip(of_one).take(together.len()) {
                *next += 1;
                let containers = &containers[std::mem::replace(&mut start, end)..end];
                if let Some(((key, labels), times)) = key.zip(times)
                    && visit(&times.row(key, labels, containers)).is_break()
                {
                    return;
                }
            }
        }
    }
}
