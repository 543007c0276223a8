//! Versions of changes, and a bounded history of removed and relabeled objects.
//!
//! Each change takes the next version. An existing object carries the version of its last sample, so a watch finds
//! what its client lacks by comparing versions; no queue per client is needed. A removed object carries no version,
//! and a row does not carry the labels that it had before. So both are recorded here, in about 300 bytes each, whatever
//! the number of watches. A set of known keys per watch would take 100 bytes per object and watch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::labels::Labels;
use crate::model::rows::{Expired, RowKind};

/// The maximum number of updates of each kind of object that are kept.
const MAX_UPDATES: usize = 4096;
/// The maximum age of an update that is kept; kube-apiserver keeps five minutes of history, too.
const MAX_AGE_MS: u64 = 300_000;
/// A version consists of a random epoch, which differs between replicas, and a count of changes (enough for 34
/// years at a thousand a second). Both fit in 63 bits, which all clients can parse.
const COUNT_BITS: u32 = 40;
const EPOCH_BITS: u32 = 23;

/// Assigns versions and records updates of objects.
#[derive(Debug)]
pub struct Changes {
    first: u64,
    next: AtomicU64,
    nodes: Mutex<Updates>,
    pods: Mutex<Updates>,
}

#[derive(Debug, Default)]
struct Updates {
    entries: VecDeque<Update>,
    /// Updates before this version may have been dropped.
    complete_from: u64,
}

/// The removal of an object that clients have seen, or a change of an object other than a new sample.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// The version of the update.
    pub(crate) version: u64,
    /// The namespace; empty for nodes.
    pub(crate) namespace: Box<str>,
    /// The name.
    pub(crate) name: Box<str>,
    /// The labels before the update.
    pub(crate) before: Arc<Labels>,
    /// The labels after the update, which may be the same; `None` if the object was removed.
    pub(crate) after: Option<Arc<Labels>>,
    at_ms: u64,
}

impl Default for Changes {
    fn default() -> Self {
        let first = fastrand::u64(1..1 << EPOCH_BITS) << COUNT_BITS;
        Self { first, next: AtomicU64::new(first), nodes: Mutex::default(), pods: Mutex::default() }
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

    fn updates(&self, kind: RowKind) -> &Mutex<Updates> {
        match kind {
            RowKind::Nodes => &self.nodes,
            RowKind::Pods => &self.pods,
        }
    }

    /// Records that a visible object was removed, or that an object has other labels or another source of samples.
    /// Returns the version of the update.
    pub(crate) fn record(
        &self,
        kind: RowKind,
        (namespace, name): (&str, &str),
        before: Arc<Labels>,
        after: Option<Arc<Labels>>,
        now_ms: u64,
    ) -> u64 {
        let mut updates = self.updates(kind).lock();
        let Updates { entries, complete_from } = &mut *updates;
        while let Some(oldest) = entries.front()
            && (entries.len() >= MAX_UPDATES || now_ms.saturating_sub(oldest.at_ms) > MAX_AGE_MS)
        {
            *complete_from = oldest.version + 1;
            entries.pop_front();
        }
        let version = self.take();
        let (namespace, name) = (namespace.into(), name.into());
        entries.push_back(Update { version, namespace, name, before, after, at_ms: now_ms });
        version
    }

    /// Records that the labels of an object changed.
    pub(crate) fn relabel(
        &self,
        kind: RowKind,
        key: (&str, &str),
        (before, after): (Arc<Labels>, Arc<Labels>),
        visibility: &Visibility,
        now_ms: u64,
    ) {
        let version = self.record(kind, key, before, Some(after), now_ms);
        visibility.relabeled.store(version, Ordering::Relaxed);
    }

    /// Marks an object hidden and records the removal at `now_ms` if clients saw it.
    pub(crate) fn hide(
        &self,
        kind: RowKind,
        key: (&str, &str),
        labels: impl FnOnce() -> Arc<Labels>,
        visibility: &Visibility,
        now_ms: impl FnOnce() -> u64,
    ) {
        if visibility.mark_hidden() {
            self.record(kind, key, labels(), None, now_ms());
        }
    }

    /// Returns the first update at or after version `from` that `select` selects, and the version before which there
    /// is no other one (that of the upcoming change).
    pub(crate) fn next_update(
        &self,
        kind: RowKind,
        from: u64,
        select: &mut dyn FnMut(&Update) -> bool,
    ) -> Result<(Option<Update>, u64), Expired> {
        let updates = self.updates(kind).lock();
        // Both happen under the lock, so all updates before this version are in the queue.
        let until = self.upcoming();
        if from < self.first.max(updates.complete_from) || from > until {
            return Err(Expired);
        }
        let start = updates.entries.partition_point(|update| update.version < from);
        let found = updates.entries.range(start..).find(|update| select(update));
        Ok((found.cloned(), until))
    }

    /// Returns the labels of an object as of `version` if they changed since then.
    pub(crate) fn labels_at(
        &self,
        kind: RowKind,
        (namespace, name): (&str, &str),
        visibility: &Visibility,
        version: u64,
    ) -> Option<Arc<Labels>> {
        if visibility.relabeled.load(Ordering::Relaxed) <= version {
            return None;
        }
        let updates = self.updates(kind).lock();
        let start = updates.entries.partition_point(|update| update.version <= version);
        let mut later = updates.entries.range(start..);
        let first = later.find(|update| (&*update.namespace, &*update.name) == (namespace, name));
        first.map(|update| update.before.clone())
    }
}

/// Since when clients see an object, and when its labels last changed.
#[derive(Debug, Default)]
pub struct Visibility {
    /// The version since which clients see the object; 0 while they do not.
    since: AtomicU64,
    /// The version of the last change of its labels; 0 if there was none.
    relabeled: AtomicU64,
}

impl Visibility {
    /// Marks the object visible at this version. Returns the version since which it is visible.
    pub(crate) fn mark_visible(&self, version: u64) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => match self.since.compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => version,
                Err(since) => since,
            },
            since => since,
        }
    }

    /// Marks the object hidden. Returns whether it was visible.
    pub(crate) fn mark_hidden(&self) -> bool {
        self.since.load(Ordering::Relaxed) != 0 && self.since.swap(0, Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Changes, MAX_AGE_MS, MAX_UPDATES, Visibility};
    use crate::model::labels::Labels;
    use crate::model::rows::{Expired, RowKind};

    fn next(changes: &Changes, from: u64) -> Option<String> {
        let (found, _) = changes.next_update(RowKind::Pods, from, &mut |_| true).unwrap();
        found.map(|update| format!("{}/{}", update.namespace, update.name))
    }

    fn remove(changes: &Changes, kind: RowKind, name: &str, at: u64) {
        changes.record(kind, ("n", name), Arc::default(), None, at);
    }

    #[test]
    fn keeps_updates_in_order_until_they_expire() {
        let changes = Changes::default();
        let expired = |from| changes.next_update(RowKind::Pods, from, &mut |_| true).unwrap_err() == Expired;
        let start = changes.upcoming();
        assert_eq!(next(&changes, start), None);
        remove(&changes, RowKind::Pods, "a", 1);
        remove(&changes, RowKind::Nodes, "x", 2);
        changes.take();
        remove(&changes, RowKind::Pods, "b", 3);
        assert_eq!(next(&changes, start).as_deref(), Some("n/a"));
        assert_eq!(next(&changes, start + 1).as_deref(), Some("n/b"));
        assert_eq!(next(&changes, changes.upcoming()), None);
        assert!(expired(start - 1) && expired(changes.upcoming() + 1));
        let (only_b, _) =
            changes.next_update(RowKind::Pods, start, &mut |update| &*update.name == "b").unwrap();
        assert_eq!(only_b.unwrap().version, start + 3);
        remove(&changes, RowKind::Pods, "c", 3 + MAX_AGE_MS);
        assert!(expired(start));
        assert_eq!(next(&changes, start + 2).as_deref(), Some("n/b"));
        for _ in 0..MAX_UPDATES {
            remove(&changes, RowKind::Pods, "d", 3 + MAX_AGE_MS);
        }
        assert!(expired(start + 3));
        assert_eq!(next(&changes, start + 5).as_deref(), Some("n/d"));
        assert!(
            changes.next_update(RowKind::Nodes, start, &mut |_| true).is_ok(),
            "pods do not expire nodes"
        );
    }

    #[test]
    fn returns_the_labels_as_of_a_version() {
        let changes = Changes::default();
        let visibility = Visibility::default();
        let labels = |value: &str| -> Arc<Labels> { Arc::new([("l", value)].into_iter().collect()) };
        let start = changes.upcoming();
        for (before, after) in [("0", "1"), ("1", "2")] {
            changes.relabel(RowKind::Pods, ("n", "a"), (labels(before), labels(after)), &visibility, 1);
            remove(&changes, RowKind::Pods, "b", 1);
        }
        let at = |version| changes.labels_at(RowKind::Pods, ("n", "a"), &visibility, version);
        assert_eq!(at(start - 1), Some(labels("0")));
        assert_eq!([at(start), at(start + 1)], [Some(labels("1")), Some(labels("1"))]);
        assert_eq!([at(start + 2), at(start + 3)], [None, None]);
    }

    #[test]
    fn versions_fit_a_signed_integer_and_differ_between_replicas() {
        let (a, b) = (Changes::default(), Changes::default());
        assert!(i64::try_from(a.upcoming()).is_ok() && a.upcoming() > 0);
        assert_ne!(a.upcoming() >> super::COUNT_BITS, b.upcoming() >> super::COUNT_BITS);
    }
}
