//! Looking up many pods together.
//!
//! A long list goes in the order of names, but samples lie by node, so each row begins with some seven reads from
//! anywhere in memory, each of which needs what the one before brought. Row after row they were half the cost of a list
//! of all pods. So some rows are taken together and each goes one read further in turn: what one waits for, the others
//! wait for at the same time.

use std::ops::Range;

use super::intake::Snapshot;
use super::layout::Layout;
use super::{Slot, State, Store};
use crate::discover::Pod;
use crate::rows::ContainerRow;

/// So many go together. More would be looked up in vain whenever a chunk of an answer is full.
pub(super) const TOGETHER: usize = 16;

/// A pod whose row is looked for.
pub(super) struct Sought<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) pod: &'a Pod,
    hash: u64,
    /// Slot and row of its samples.
    pub(super) place: Option<(usize, usize)>,
    /// Whether there may be another.
    ambiguous: bool,
    found: Option<Found<'a>>,
    /// What comes of it.
    pub(super) times: Option<Times>,
}

/// Where its samples are.
struct Found<'a> {
    snapshot: &'a Snapshot,
    layout: &'a Layout,
    containers: Range<usize>,
    version: u64,
}

/// Timestamp, window and version of a pod's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) timestamp_ns: i64,
    pub(super) window_ns: i64,
    pub(super) version: u64,
}

impl<'a> Sought<'a> {
    pub(super) fn new(namespace: &'a str, name: &'a str, pod: &'a Pod) -> Self {
        Self { namespace, name, pod, hash: 0, place: None, ambiguous: false, found: None, times: None }
    }

    /// Its containers, of which all have a rate if it has times.
    pub(super) fn containers(&self) -> impl Iterator<Item = ContainerRow<'a>> {
        self.found.iter().flat_map(|found| {
            let of = found.containers.clone();
            of.map(|at| ContainerRow {
                name: found.layout.container(at),
                usage: found.snapshot.containers[at].usage(),
            })
        })
    }
}

impl<'a> Found<'a> {
    fn at(slot: &'a Slot, row: usize) -> Self {
        let snapshot = &*slot.snapshot;
        let layout = &*snapshot.layout;
        Self { snapshot, layout, containers: layout.containers_of(row), version: slot.version }
    }
}

impl State {
    /// Finds the rows of all that are sought. Each loop is one read, or what follows from it, for all of them.
    pub(super) fn seek<'a>(&'a self, store: &Store, sought: &mut [Sought<'a>], now_ms: u64) {
        for one in &mut *sought {
            one.hash = self.index.hash(one.namespace, one.name);
        }
        for one in &mut *sought {
            let mut candidates = self.index.candidates_of(one.hash);
            one.place = candidates.next().map(|place| (place.slot as usize, place.row as usize));
            one.ambiguous = candidates.next().is_some();
        }
        for one in &mut *sought {
            one.found = one.place.map(|(slot, row)| Found::at(&self.slots[slot], row));
        }
        for one in &mut *sought {
            let is_it = one
                .place
                .zip(one.found.as_ref())
                .is_some_and(|((_, row), found)| found.layout.pod(row) == (one.namespace, one.name));
            if one.ambiguous || !is_it {
                one.place = self.locate(one.namespace, one.name);
                one.found = one.place.map(|(slot, row)| Found::at(&self.slots[slot], row));
            }
        }
        for one in sought {
            one.times = one.found.as_ref().and_then(|found| times(store, one.pod, found, now_ms));
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
    let mut times: Option<(i64, i64)> = None;
    for measured in &snapshot.containers[found.containers.clone()] {
        if !measured.is_measured() {
            return None;
        }
        // Without a start the counter alone would tell a namesake's first sample from this pod's.
        let began_ms = snapshot.requested_ms.saturating_sub(measured.window_ns.unsigned_abs() / 1_000_000);
        if measured.start_ns == 0 && pod.since_ms > 0 && began_ms < pod.since_ms {
            return None;
        }
        if times.is_none_or(|(earliest, _)| measured.timestamp_ns < earliest) {
            times = Some((measured.timestamp_ns, measured.window_ns));
        }
    }
    let (timestamp_ns, window_ns) = times?;
    Some(Times { timestamp_ns, window_ns, version: found.version })
}
