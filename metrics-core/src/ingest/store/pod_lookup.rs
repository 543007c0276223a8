//! Looks up the samples of many pods at a time.
//!
//! A long list follows the order of names, but samples are stored by node. So each row starts with about seven
//! random memory accesses, each of which depends on the one before; row by row these were half the cost of a list
//! of all pods. Here a batch of rows takes each step together, so that their memory accesses overlap. Each pod is
//! first looked up at its last location, which saves the access to the index.

use std::ops::Range;
use std::sync::Arc;

use super::directory::StorePod;
use super::index::IndexEntry;
use super::layout::NodeLayout;
use super::location_hint::SampleLocation;
use super::scrape_batch::NodeSnapshot;
use super::{Store, StoreState};
use crate::model::labels::Labels;
use crate::model::rows::{ContainerRow, PodRow};

/// The number of pods per batch. Larger batches waste lookups whenever a chunk of a response is full.
pub(super) const LOOKUP_BATCH: usize = 16;

/// The lookup of a pod's row.
pub(super) struct PodLookup<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) pod: &'a StorePod,
    /// The hash of its names, if it is looked up in the index.
    hash: Option<u64>,
    /// Slot and row of its samples.
    pub(super) location: Option<(usize, usize)>,
    /// Whether the layout is unchanged since the last lookup, so that names need no comparison.
    confirmed: bool,
    /// Whether there may be several locations.
    ambiguous: bool,
    pub(super) found: Option<PodSamples<'a>>,
    /// The times of the row, if there is one.
    pub(super) times: Option<RowTimes>,
}

/// Reads a pod and its name, so that they are in the CPU cache when they are needed.
pub(super) fn prefetch(name: &str, pod: &StorePod) {
    std::hint::black_box((name.as_bytes().first().copied(), pod.since_ms));
}

/// The samples of a pod.
pub(super) struct PodSamples<'a> {
    pub(super) snapshot: &'a Arc<NodeSnapshot>,
    pub(super) layout: &'a NodeLayout,
    containers: Range<usize>,
    /// The version of the snapshot.
    pub(super) version: u64,
}

/// Timestamp, window and version of a pod's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowTimes {
    pub(super) timestamp_ns: i64,
    pub(super) window_ns: i64,
    pub(super) version: u64,
}

impl RowTimes {
    /// Returns the row with these times.
    pub(super) fn row<'a>(
        self,
        (namespace, name): (&'a str, &'a str),
        labels: &'a Labels,
        containers: &'a [ContainerRow<'a>],
    ) -> PodRow<'a> {
        let Self { timestamp_ns, window_ns, version } = self;
        PodRow { namespace, name, labels, version, timestamp_ns, window_ns, containers }
    }
}

impl<'a> PodLookup<'a> {
    pub(super) fn new(namespace: &'a str, name: &'a str, pod: &'a StorePod) -> Self {
        Self {
            namespace,
            name,
            pod,
            hash: None,
            location: None,
            confirmed: false,
            ambiguous: false,
            found: None,
            times: None,
        }
    }

    /// Appends its containers. If it has times, all of them have a rate.
    pub(super) fn containers(&self, containers: &mut Vec<ContainerRow<'a>>) {
        if let Some(found) = &self.found {
            containers.extend(found.rows());
        }
    }
}

impl<'a> PodSamples<'a> {
    /// Returns the samples in these rows of these snapshots, where they exist. Each step is one memory access for
    /// all of them.
    pub(super) fn all(
        snapshots: [Option<(&'a Arc<NodeSnapshot>, u64)>; LOOKUP_BATCH],
        rows: [usize; LOOKUP_BATCH],
    ) -> [Option<Self>; LOOKUP_BATCH] {
        let layouts = snapshots.map(|held| held.map(|(snapshot, _)| &*snapshot.layout));
        let pods = layouts.map(|layout| layout.map_or(0, NodeLayout::pods));
        std::array::from_fn(|at| {
            let ((snapshot, version), layout) = snapshots[at].zip(layouts[at])?;
            let containers = (rows[at] < pods[at]).then(|| layout.containers_of(rows[at]))?;
            Some(Self { snapshot, layout, containers, version })
        })
    }

    /// Returns the containers.
    pub(super) fn rows(&self) -> impl Iterator<Item = ContainerRow<'a>> {
        let Self { snapshot, layout, containers, .. } = self;
        let (snapshot, layout) = (*snapshot, *layout);
        containers
            .clone()
            .map(|at| ContainerRow { name: layout.container(at), usage: snapshot.containers[at].usage() })
    }

    /// Returns the times of the row: those of the earliest container.
    pub(super) fn times(&self) -> Option<RowTimes> {
        let measured = &self.snapshot.containers[self.containers.clone()];
        let earliest = measured.iter().min_by_key(|measured| measured.timestamp_ns)?;
        let (timestamp_ns, window_ns) = (earliest.timestamp_ns, earliest.window_ns);
        Some(RowTimes { timestamp_ns, window_ns, version: self.version })
    }
}

impl PodLookup<'_> {
    /// Returns whether the samples found are of this pod.
    fn is_match(&self) -> bool {
        self.location.zip(self.found.as_ref()).is_some_and(|((_, row), found)| {
            let (namespace, name) = found.layout.pod(row);
            // ContainerNames first: they differ more often than namespaces.
            name == self.name && namespace == self.namespace
        })
    }
}

impl StoreState {
    /// Looks up the rows of all pods. Each loop is one memory access, or what follows from it, for all of them.
    pub(super) fn look_up<'a>(&'a self, store: &Store, lookups: &mut [PodLookup<'a>], now_ms: u64) {
        if self.index.is_unambiguous() {
            for lookup in &mut *lookups {
                if let Some(last) = lookup.pod.state.location_hint.get() {
                    lookup.location = Some((last.slot, last.row));
                    lookup.confirmed = self.layout_version(last.slot) == Some(last.layout_version);
                }
            }
            self.resolve(lookups);
            for lookup in lookups.iter_mut().filter(|lookup| !lookup.confirmed) {
                if lookup.is_match() {
                    self.remember(lookup);
                } else {
                    (lookup.location, lookup.found) = (None, None);
                }
            }
        }
        if lookups.iter().any(|lookup| lookup.found.is_none()) {
            self.look_up_in_index(lookups);
        }
        for lookup in lookups {
            lookup.times = lookup.found.as_ref().and_then(|found| times(store, lookup.pod, found, now_ms));
        }
    }

    /// Looks up those in the index that were not at their last location.
    fn look_up_in_index<'a>(&'a self, lookups: &mut [PodLookup<'a>]) {
        for lookup in lookups.iter_mut().filter(|lookup| lookup.found.is_none()) {
            lookup.hash = Some(self.index.hash(lookup.namespace, lookup.name));
        }
        for lookup in &mut *lookups {
            if let Some(hash) = lookup.hash {
                let mut candidates = self.index.candidates_of(hash);
                lookup.location = candidates.next().map(IndexEntry::location);
                lookup.ambiguous = candidates.next().is_some();
            }
        }
        self.resolve(lookups);
        for lookup in lookups.iter_mut().filter(|lookup| lookup.hash.is_some()) {
            if lookup.ambiguous || !lookup.is_match() {
                lookup.location = self.locate(lookup.namespace, lookup.name);
                lookup.found = None;
                self.resolve(std::slice::from_mut(lookup));
            }
            self.remember(lookup);
        }
    }

    /// Stores where a pod was found.
    fn remember(&self, lookup: &PodLookup<'_>) {
        if let Some((slot, row)) = lookup.location
            && let Some(layout_version) = self.layout_version(slot)
        {
            lookup.pod.state.location_hint.set(SampleLocation { slot, row, layout_version });
        }
    }

    /// Returns the version of a slot's layout.
    fn layout_version(&self, slot: usize) -> Option<u32> {
        self.slots.get(slot).map(|slot| slot.layout_version)
    }

    /// Reads the samples at the locations of those that are not found yet.
    fn resolve<'a>(&'a self, lookups: &mut [PodLookup<'a>]) {
        for batch in lookups.chunks_mut(LOOKUP_BATCH) {
            let mut slots = [None; LOOKUP_BATCH];
            let mut rows = [0; LOOKUP_BATCH];
            for ((lookup, slot), row) in batch.iter().zip(&mut slots).zip(&mut rows) {
                if let Some((at, of_layout)) = lookup.location.filter(|_| lookup.found.is_none()) {
                    (*slot, *row) = (self.slots.get(at), of_layout);
                }
            }
            let snapshots = slots.map(|slot| slot.map(|slot| (&slot.snapshot, slot.version)));
            for (lookup, found) in batch.iter_mut().zip(PodSamples::all(snapshots, rows)) {
                if found.is_some() {
                    lookup.found = found;
                }
            }
        }
    }
}

/// Returns the times of a pod of which all containers have a rate: those of the earliest container.
fn times(store: &Store, pod: &StorePod, found: &PodSamples<'_>, now_ms: u64) -> Option<RowTimes> {
    let snapshot = found.snapshot;
    // A sample requested before this pod was seen Running may be of a deleted pod with the same name. So a pod gets
    // a row only by a later sample, never by being seen.
    if snapshot.requested_ms <= pod.since_ms || !store.fresh(snapshot, now_ms) {
        return None;
    }
    for measured in &snapshot.containers[found.containers.clone()] {
        if !store.serves(measured, now_ms) {
            return None;
        }
        // Without a reliable start time, only the counter distinguishes the first sample of a deleted pod of that name from
        // this one's.
        let began_ms = snapshot.requested_ms.saturating_sub(measured.window_ns.unsigned_abs() / 1_000_000);
        if pod.since_ms > 0 && !measured.has_reliable_start() && began_ms < pod.since_ms {
            return None;
        }
    }
    found.times()
}
