//! Reads rows twice: the second pass returns the same values as the first.
//!
//! The values and names of a row are in its node's snapshot, which is replaced as a whole and never modified. So a
//! kept row consists of a snapshot number, a row number and a labels number: a protobuf list keeps 12 bytes per pod
//! instead of the encoded pod.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Store;
use super::pod_lookup::{LOOKUP_BATCH, PodLookup, PodSamples};
use super::scrape_batch::NodeSnapshot;
use crate::ingest::discover::Node;
use crate::model::labels::Labels;
use crate::model::rows::{NodeRow, Pick, PodRow, TwoPassReader, Usage};

/// Keeps the rows that it read from a store, to read them again.
pub(super) struct StoreTwoPassReader {
    store: Arc<Store>,
    nodes: KeptRows<KeptNode>,
    pods: KeptRows<KeptPod>,
    snapshots: KeptSnapshots,
}

/// The kept rows, and how many have been read again.
struct KeptRows<T> {
    kept: Vec<T>,
    next: usize,
}

impl<T> Default for KeptRows<T> {
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
    /// An index into [`KeptSnapshots::snapshots`].
    snapshot: u32,
    row: u32,
    /// An index into [`KeptSnapshots::labels`].
    labels: u32,
}

/// The snapshots of the kept rows, each once, and their labels. Pods of one template share labels and mostly follow
/// each other, so only a repeat of the last labels is detected.
#[derive(Default)]
struct KeptSnapshots {
    snapshots: Vec<(Arc<NodeSnapshot>, u64)>,
    /// For each slot, the last snapshot that was kept of it.
    of_slot: Vec<Option<u32>>,
    labels: Vec<Arc<Labels>>,
    /// The memory of the snapshots in bytes.
    bytes: usize,
}

impl KeptSnapshots {
    /// Keeps the snapshot in which a pod was found.
    fn intern(&mut self, slot: usize, found: &PodSamples<'_>) -> Option<u32> {
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, None);
        }
        let known = self.of_slot[slot].filter(|at| {
            let (snapshot, version) = &self.snapshots[*at as usize];
            Arc::ptr_eq(snapshot, found.snapshot) && *version == found.version
        });
        if known.is_none() {
            self.of_slot[slot] = u32::try_from(self.snapshots.len()).ok();
            self.bytes += found.snapshot.kept_bytes();
            self.snapshots.push((found.snapshot.clone(), found.version));
        }
        self.of_slot[slot]
    }

    /// Returns the samples of kept pods.
    fn rows(&self, pods: &[KeptPod]) -> [Option<PodSamples<'_>>; LOOKUP_BATCH] {
        let snapshots = std::array::from_fn(|at| self.snapshots.get(pods.get(at)?.snapshot as usize));
        let rows = std::array::from_fn(|at| pods.get(at).map_or(0, |pod| pod.row as usize));
        PodSamples::all(
            snapshots.map(|snapshots| snapshots.map(|(snapshot, version)| (snapshot, *version))),
            rows,
        )
    }
}

impl StoreTwoPassReader {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            nodes: KeptRows::default(),
            pods: KeptRows::default(),
            snapshots: KeptSnapshots::default(),
        }
    }
}

impl KeptSnapshots {
    fn keep(&mut self, lookup: &PodLookup<'_>) -> Option<KeptPod> {
        let ((slot, row), found) = lookup.location.zip(lookup.found.as_ref())?;
        let (snapshot, row) = self.intern(slot, found).zip(u32::try_from(row).ok())?;
        if self.labels.last().is_none_or(|last| !Arc::ptr_eq(last, &lookup.pod.labels)) {
            self.labels.push(lookup.pod.labels.clone());
        }
        let labels = u32::try_from(self.labels.len() - 1).ok()?;
        Some(KeptPod { snapshot, row, labels })
    }
}

impl TwoPassReader for StoreTwoPassReader {
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
        store.visit_pods(namespace, after, pick, &mut |lookup, row| match snapshots.keep(lookup) {
            Some(kept) => {
                pods.kept.push(kept);
                visit(row)
            }
            // Beyond four billion snapshots or rows: skipped in both passes, so that both agree.
            None => ControlFlow::Continue(()),
        });
    }

    fn kept_bytes(&self) -> usize {
        let KeptSnapshots { snapshots, of_slot, labels, bytes } = &self.snapshots;
        size_of::<KeptNode>() * self.nodes.kept.capacity()
            + size_of::<KeptPod>() * self.pods.kept.capacity()
            + size_of_val(&snapshots[..])
            + size_of_val(&of_slot[..])
            + size_of_val(&labels[..])
            + bytes
    }

    fn replay_nodes(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let KeptRows { kept, next } = &mut self.nodes;
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
        let Self { pods: KeptRows { kept, next }, snapshots, .. } = self;
        let mut containers = Vec::new();
        for batch in kept[*next..].chunks(LOOKUP_BATCH) {
            // As in the first pass, each loop is one memory access for all pods of the batch.
            let found = snapshots.rows(batch);
            let times = found.each_ref().map(|found| found.as_ref().and_then(PodSamples::times));
            let keys: [_; LOOKUP_BATCH] = std::array::from_fn(|at| {
                let (pod, found) = batch.get(at).zip(found[at].as_ref())?;
                Some((found.layout.pod(pod.row as usize), snapshots.labels.get(pod.labels as usize)?))
            });
            containers.clear();
            let ends = found.each_ref().map(|found| {
                containers.extend(found.iter().flat_map(PodSamples::rows));
                containers.len()
            });
            let mut start = 0;
            for ((key, times), end) in keys.into_iter().zip(times).zip(ends).take(batch.len()) {
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
