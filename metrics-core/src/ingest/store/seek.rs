//! Looking up many pods together.
//!
//! A long list goes in the order of names, but samples lie by node, so each row begins with some seven reads from
//! anywhere in memory, each of which needs what the one before brought. Row after row they were half the cost of a list
//! of all pods. So some rows are taken together and each goes one read further in turn: what one waits for, the others
//! wait for at the same time. And each is first looked for where it was last, which spares the index.

use std::ops::Range;
use std::sync::Arc;

use super::directory::Pod;
use super::index::Place;
use super::intake::Snapshot;
use super::last_place::LastPlace;
use super::layout::Layout;
use super::{State, Store};

use crate::model::labels::Labels;
use crate::model::rows::{ContainerRow, PodRow};

/// So many go together. More would be looked up in vain whenever a chunk of an answer is full.
pub(super) const TOGETHER: usize = 16;

/// A pod whose row is looked for.
pub(super) struct Sought<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) pod: &'a Pod,
    /// That of its names, if it is looked for in the index.
    hash: Option<u64>,
    /// Slot and row of its samples.
    pub(super) place: Option<(usize, usize)>,
    /// Whether it needs no look at the names there.
    certain: bool,
    /// Whether there may be another place.
    ambiguous: bool,
    pub(super) found: Option<Found<'a>>,
    /// What comes of it.
    pub(super) times: Option<Times>,
}

/// Reads where a pod and its name stand, so that they are there once they are needed.
pub(super) fn touch(name: &str, pod: &Pod) {
    std::hint::black_box((name.as_bytes().first().copied(), pod.since_ms));
}

/// Where its samples are.
pub(super) struct Found<'a> {
    pub(super) snapshot: &'a Arc<Snapshot>,
    pub(super) layout: &'a Layout,
    containers: Range<usize>,
    /// That of the snapshot.
    pub(super) version: u64,
}

/// Timestamp, window and version of a pod's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) timestamp_ns: i64,
    pub(super) window_ns: i64,
    pub(super) version: u64,
}

impl Times {
    /// The row of these times.
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

impl<'a> Sought<'a> {
    pub(super) fn new(namespace: &'a str, name: &'a str, pod: &'a Pod) -> Self {
        Self {
            namespace,
            name,
            pod,
            hash: None,
            place: None,
            certain: false,
            ambiguous: false,
            found: None,
            times: None,
        }
    }

    /// Appends its containers, of which all have a rate if it has times.
    pub(super) fn containers(&self, containers: &mut Vec<ContainerRow<'a>>) {
        if let Some(found) = &self.found {
            containers.extend(found.rows());
        }
    }
}

impl<'a> Found<'a> {
    /// Rows of snapshots, where these have so many. Each step is one read for all of them.
    pub(super) fn all(
        snapshots: [Option<(&'a Arc<Snapshot>, u64)>; TOGETHER],
        rows: [usize; TOGETHER],
    ) -> [Option<Self>; TOGETHER] {
        let layouts = snapshots.map(|held| held.map(|(snapshot, _)| &*snapshot.layout));
        let pods = layouts.map(|layout| layout.map_or(0, Layout::pods));
        std::array::from_fn(|at| {
            let ((snapshot, version), layout) = snapshots[at].zip(layouts[at])?;
            let containers = (rows[at] < pods[at]).then(|| layout.containers_of(rows[at]))?;
            Some(Self { snapshot, layout, containers, version })
        })
    }

    /// The containers.
    pub(super) fn rows(&self) -> impl Iterator<Item = ContainerRow<'a>> {
        let Self { snapshot, layout, containers, .. } = self;
        let (snapshot, layout) = (*snapshot, *layout);
        containers
            .clone()
            .map(|at| ContainerRow { name: layout.container(at), usage: snapshot.containers[at].usage() })
    }

    /// The times of its row: those of the earliest container.
    pub(super) fn times(&self) -> Option<Times> {
        let measured = &self.snapshot.containers[self.containers.clone()];
        let earliest = measured.iter().min_by_key(|measured| measured.timestamp_ns)?;
        let (timestamp_ns, window_ns) = (earliest.timestamp_ns, earliest.window_ns);
        Some(Times { timestamp_ns, window_ns, version: self.version })
    }
}

impl Sought<'_> {
    /// Whether what was found is of this pod.
    fn is_it(&self) -> bool {
        self.place.zip(self.found.as_ref()).is_some_and(|((_, row), found)| {
            let (namespace, name) = found.layout.pod(row);
            // Names differ more than namespaces.
            name == self.name && namespace == self.namespace
        })
    }
}

impl State {
    /// Finds the rows of all that are sought. Each loop is one read, or what follows from it, for all of them.
    pub(super) fn seek<'a>(&'a self, store: &Store, sought: &mut [Sought<'a>], now_ms: u64) {
        if self.index.is_unambiguous() {
            for one in &mut *sought {
                if let Some(last) = one.pod.state.last_place.get() {
                    one.place = Some((last.slot, last.row));
                    one.certain = self.stamp(last.slot) == Some(last.stamp);
                }
            }
            self.look(sought);
            for one in sought.iter_mut().filter(|one| !one.certain) {
                if one.is_it() {
                    self.note(one);
                } else {
                    (one.place, one.found) = (None, None);
                }
            }
        }
        if sought.iter().any(|one| one.found.is_none()) {
            self.seek_in_index(sought);
        }
        for one in sought {
            one.times = one.found.as_ref().and_then(|found| times(store, one.pod, found, now_ms));
        }
    }

    /// Finds those that were not found where they were last.
    fn seek_in_index<'a>(&'a self, sought: &mut [Sought<'a>]) {
        for one in sought.iter_mut().filter(|one| one.found.is_none()) {
            one.hash = Some(self.index.hash(one.namespace, one.name));
        }
        for one in &mut *sought {
            if let Some(hash) = one.hash {
                let mut candidates = self.index.candidates_of(hash);
                one.place = candidates.next().map(Place::at);
                one.ambiguous = candidates.next().is_some();
            }
        }
        self.look(sought);
        for one in sought.iter_mut().filter(|one| one.hash.is_some()) {
            if one.ambiguous || !one.is_it() {
                one.place = self.locate(one.namespace, one.name);
                one.found = None;
                self.look(std::slice::from_mut(one));
            }
            self.note(one);
        }
    }

    /// Notes where a pod was found.
    fn note(&self, one: &Sought<'_>) {
        if let Some((slot, row)) = one.place
            && let Some(stamp) = self.stamp(slot)
        {
            one.pod.state.last_place.set(LastPlace { slot, row, stamp });
        }
    }

    /// The same for as long as a slot has the same names.
    fn stamp(&self, slot: usize) -> Option<u32> {
        self.slots.get(slot).map(|slot| slot.stamp)
    }

    /// Goes to the places of those that are not found yet.
    fn look<'a>(&'a self, sought: &mut [Sought<'a>]) {
        for together in sought.chunks_mut(TOGETHER) {
            let mut slots = [None; TOGETHER];
            let mut rows = [0; TOGETHER];
            for ((one, slot), row) in together.iter().zip(&mut slots).zip(&mut rows) {
                if let Some((at, of_layout)) = one.place.filter(|_| one.found.is_none()) {
                    (*slot, *row) = (self.slots.get(at), of_layout);
                }
            }
            let snapshots = slots.map(|slot| slot.map(|slot| (&slot.snapshot, slot.version)));
            for (one, found) in together.iter_mut().zip(Found::all(snapshots, rows)) {
                if found.is_some() {
                    one.found = found;
                }
            }
        }
    }
}

/// The times of a pod of which all containers have a rate: those of the earliest.
fn times(store: &Store, pod: &Pod, found: &Found<'_>, now_ms: u64) -> Option<Times> {
    let snapshot = found.snapshot;
    // What was asked for before this pod was seen Running may be of a namesake that is gone. So a pod has a row
    // only from a later sample on, never by being seen.
    if snapshot.requested_ms <= pod.since_ms || !store.fresh(snapshot, now_ms) {
        return None;
    }
    for measured in &snapshot.containers[found.containers.clone()] {
        if !measured.is_measured() {
            return None;
        }
        // Without a start the counter alone would tell a namesake's first sample from this pod's.
        let began_ms = snapshot.requested_ms.saturating_sub(measured.window_ns.unsigned_abs() / 1_000_000);
        if measured.start_ns == 0 && pod.since_ms > 0 && began_ms < pod.since_ms {
            return None;
        }
    }
    found.times()
}
