//! Versions of changes, and a bounded history of removed objects.
//!
//! Each change takes the next version. An existing object carries the version of its last change, so a watch finds
//! what its client lacks by comparing versions; no queue per client is needed. A removed object carries no version,
//! so its removal is recorded here if any client has seen the object. A record takes about 300 bytes, whatever the
//! number of watches. A set of known keys per watch would take 100 bytes per object and watch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::labels::Labels;
use crate::model::rows::{Expired, RowKind};

/// The maximum number of removals that are kept.
const MAX_REMOVALS: usize = 4096;
/// The maximum age of a removal that is kept; kube-apiserver keeps five minutes of history, too.
const MAX_AGE_MS: u64 = 300_000;
/// A version consists of a random epoch, which differs between replicas, and a count of changes (enough for 34
/// years at a thousand a second). Both fit in 63 bits, which all clients can parse.
const COUNT_BITS: u32 = 40;
const EPOCH_BITS: u32 = 23;

/// Assigns versions and records removals.
#[derive(Debug)]
pub struct Changes {
    first: u64,
    next: AtomicU64,
    removals: Mutex<Removals>,
}

#[derive(Debug, Default)]
struct Removals {
    entries: VecDeque<Removal>,
    /// Removals before this version may have been dropped.
    complete_from: u64,
}

/// An object that clients have seen and that was removed or whose labels changed.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    /// The version of the removal.
    pub(crate) version: u64,
    /// The kind of the object.
    pub(crate) kind: RowKind,
    /// The namespace; empty for nodes.
    pub(crate) namespace: Box<str>,
    /// The name.
    pub(crate) name: Box<str>,
    /// The labels before the removal.
    pub(crate) labels: Labels,
    at_ms: u64,
}

impl Default for Changes {
    fn default() -> Self {
        let first = fastrand::u64(1..1 << EPOCH_BITS) << COUNT_BITS;
        Self { first, next: AtomicU64::new(first), removals: Mutex::default() }
    }
}

impl Changes {
    /// Returns the version that the next change will take.
    #[must_use]
    pub(crate) fn upcoming(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Takes the version of a change. Call it while holding the lock under which the change is made.
    pub(crate) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// Records that a visible object was removed or that its labels changed.
    pub(crate) fn record_removal(
        &self,
        kind: RowKind,
        (namespace, name): (&str, &str),
        labels: &Labels,
        now_ms: u64,
    ) {
        let mut removals = self.removals.lock();
        let Removals { entries, complete_from } = &mut *removals;
        while let Some(oldest) = entries.front()
            && (entries.len() >= MAX_REMOVALS || now_ms.saturating_sub(oldest.at_ms) > MAX_AGE_MS)
        {
            *complete_from = oldest.version + 1;
            entries.pop_front();
        }
        let version = self.take();
        entries.push_back(Removal {
            version,
            kind,
            namespace: namespace.into(),
            name: name.into(),
            labels: labels.clone(),
            at_ms: now_ms,
        });
    }

    /// Marks an object hidden and records the removal at `now_ms` if clients saw it.
    pub(crate) fn hide(
        &self,
        kind: RowKind,
        key: (&str, &str),
        labels: &Labels,
        visible: &VisibleSince,
        now_ms: impl FnOnce() -> u64,
    ) {
        if visible.mark_hidden() {
            self.record_removal(kind, key, labels, now_ms());
        }
    }

    /// Returns the first removal at or after version `from`, and the version before which there is no other one
    /// (that of the upcoming change).
    pub(crate) fn next_removal(&self, kind: RowKind, from: u64) -> Result<(Option<Removal>, u64), Expired> {
        let removals = self.removals.lock();
        // Both happen under the lock, so all removals before this version are in the queue.
        let until = self.upcoming();
        if from < self.first.max(removals.complete_from) || from > until {
            return Err(Expired);
        }
        let start = removals.entries.partition_point(|removal| removal.version < from);
        let found = removals.entries.range(start..).find(|removal| removal.kind == kind);
        Ok((found.cloned(), until))
    }
}

/// The version since which clients see an object; 0 while they do not.
#[derive(Debug, Default)]
pub struct VisibleSince(AtomicU64);

impl VisibleSince {
    /// Marks the object visible at this version. Returns the version since which it is visible.
    pub(crate) fn mark_visible(&self, version: u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => match self.0.compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => version,
                Err(since) => since,
            },
            since => since,
        }
    }

    /// Marks the object hidden. Returns whether it was visible.
    pub(crate) fn mark_hidden(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) != 0
    }

    /// Returns whether clients see the object.
    #[must_use]
    pub(crate) fn is_visible(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, MAX_AGE_MS, MAX_REMOVALS};
    use crate::model::labels::Labels;
    use crate::model::rows::{Expired, RowKind};

    fn next(changes: &Changes, from: u64) -> Option<String> {
        let (found, _) = changes.next_removal(RowKind::Pods, from).unwrap();
        found.map(|removal| format!("{}/{}", removal.namespace, removal.name))
    }

    #[test]
    fn keeps_removals_in_order_until_they_expire() {
        let changes = Changes::default();
        let start = changes.upcoming();
        assert_eq!(next(&changes, start), None);
        let remove =
            |name: &str, at| changes.record_removal(RowKind::Pods, ("n", name), &Labels::default(), at);
        remove("a", 1);
        changes.record_removal(RowKind::Nodes, ("", "x"), &Labels::default(), 2);
        changes.take();
        remove("b", 3);
        assert_eq!(next(&changes, start).as_deref(), Some("n/a"));
        assert_eq!(next(&changes, start + 1).as_deref(), Some("n/b"));
        assert_eq!(next(&changes, changes.upcoming()), None);
        assert_eq!(changes.next_removal(RowKind::Pods, start - 1).unwrap_err(), Expired);
        assert_eq!(changes.next_removal(RowKind::Pods, changes.upcoming() + 1).unwrap_err(), Expired);
        remove("c", 3 + MAX_AGE_MS);
        assert_eq!(changes.next_removal(RowKind::Pods, start).unwrap_err(), Expired);
        assert_eq!(next(&changes, start + 2).as_deref(), Some("n/b"));
        for _ in 0..MAX_REMOVALS {
            remove("d", 3 + MAX_AGE_MS);
        }
        assert_eq!(changes.next_removal(RowKind::Pods, start + 3).unwrap_err(), Expired);
        assert_eq!(next(&changes, start + 5).as_deref(), Some("n/d"));
    }

    #[test]
    fn versions_fit_a_signed_integer_and_differ_between_replicas() {
        let (a, b) = (Changes::default(), Changes::default());
        assert!(i64::try_from(a.upcoming()).is_ok() && a.upcoming() > 0);
        assert_ne!(a.upcoming() >> super::COUNT_BITS, b.upcoming() >> super::COUNT_BITS);
    }
}
