//! The order of changes: a counter, who was shown, and the last objects that left.
//!
//! A change takes the next version. What is there carries the version of its last change, so whoever knows up to
//! which version a client is can find what the client lacks, without a queue for each client. Only what is gone can't
//! be found so: it is noted here, if it was ever shown to anybody. That costs some 300 bytes for each of the last
//! objects that left, whatever the number of watchers; a set of known keys for each watcher would cost 100 bytes an
//! object and watcher.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::labels::Labels;
use crate::model::rows::{Expired, RowKind};

/// At most so many departures are kept …
const MOST: usize = 4096;
/// … and none for longer than this; the API server keeps its history for five minutes, too.
const LONGEST_MS: u64 = 300_000;
/// Versions are an epoch, which another replica does not share, and a count of changes (at a thousand a second,
/// enough for 34 years); both fit the 63 bits that all clients can read.
const COUNT_BITS: u32 = 40;
const EPOCH_BITS: u32 = 23;

/// Hands out versions and remembers departures.
#[derive(Debug)]
pub struct Changes {
    first: u64,
    next: AtomicU64,
    departures: Mutex<Departures>,
}

#[derive(Debug, Default)]
struct Departures {
    entries: VecDeque<Departure>,
    /// Departures before this version may have been forgotten.
    complete_from: u64,
}

/// An object that was shown and is gone, or is no more what it was.
#[derive(Clone, Debug)]
pub struct Departure {
    /// When.
    pub version: u64,
    /// Of which kind.
    pub kind: RowKind,
    /// Empty for nodes.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The labels that it had.
    pub labels: Labels,
    at_ms: u64,
}

impl Default for Changes {
    fn default() -> Self {
        let first = fastrand::u64(1..1 << EPOCH_BITS) << COUNT_BITS;
        Self { first, next: AtomicU64::new(first), departures: Mutex::default() }
    }
}

impl Changes {
    /// The version that the next change will have.
    #[must_use]
    pub fn upcoming(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Takes the version of a change. To be called within the lock under which the change is made.
    pub fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// Notes that an object that was shown left, or changed its labels.
    pub fn depart(&self, kind: RowKind, (namespace, name): (&str, &str), labels: &Labels, now_ms: u64) {
        let mut departures = self.departures.lock();
        let Departures { entries, complete_from } = &mut *departures;
        while let Some(oldest) = entries.front()
            && (entries.len() >= MOST || now_ms.saturating_sub(oldest.at_ms) > LONGEST_MS)
        {
            *complete_from = oldest.version + 1;
            entries.pop_front();
        }
        let version = self.take();
        entries.push_back(Departure {
            version,
            kind,
            namespace: namespace.into(),
            name: name.into(),
            labels: labels.clone(),
            at_ms: now_ms,
        });
    }

    /// Notes that an object is not shown any more, if it was, at `now_ms`.
    pub fn hide(
        &self,
        kind: RowKind,
        key: (&str, &str),
        labels: &Labels,
        shown: &Shown,
        now_ms: impl FnOnce() -> u64,
    ) {
        if shown.hide() {
            self.depart(kind, key, labels, now_ms());
        }
    }

    /// The first departure at or behind `from`, and the version up to which there is no other (that of the upcoming
    /// change).
    pub fn departure(&self, kind: RowKind, from: u64) -> Result<(Option<Departure>, u64), Expired> {
        let departures = self.departures.lock();
        // All departures before this version are in the queue, as both happen under the lock.
        let until = self.upcoming();
        if from < self.first.max(departures.complete_from) || from > until {
            return Err(Expired);
        }
        let start = departures.entries.partition_point(|departure| departure.version < from);
        let found = departures.entries.range(start..).find(|departure| departure.kind == kind);
        Ok((found.cloned(), until))
    }
}

/// Since which version an object has been shown to clients.
#[derive(Debug, Default)]
pub struct Shown(AtomicU64);

impl Shown {
    /// The object is shown, at this version; since which one it has been.
    pub fn show(&self, version: u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => match self.0.compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => version,
                Err(since) => since,
            },
            since => since,
        }
    }

    /// The object is not shown any more; whether it was.
    pub fn hide(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0 && self.0.swap(0, Ordering::Relaxed) != 0
    }

    /// Whether it is shown.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, LONGEST_MS, MOST};
    use crate::model::labels::Labels;
    use crate::model::rows::{Expired, RowKind};

    fn next(changes: &Changes, from: u64) -> Option<String> {
        let (found, _) = changes.departure(RowKind::Pods, from).unwrap();
        found.map(|departure| format!("{}/{}", departure.namespace, departure.name))
    }

    #[test]
    fn departures_are_kept_in_order_for_a_while() {
        let changes = Changes::default();
        let start = changes.upcoming();
        assert_eq!(next(&changes, start), None);
        let depart = |name: &str, at| changes.depart(RowKind::Pods, ("n", name), &Labels::default(), at);
        depart("a", 1);
        changes.depart(RowKind::Nodes, ("", "x"), &Labels::default(), 2);
        changes.take();
        depart("b", 3);
        assert_eq!(next(&changes, start).as_deref(), Some("n/a"));
        assert_eq!(next(&changes, start + 1).as_deref(), Some("n/b"));
        assert_eq!(next(&changes, changes.upcoming()), None);
        assert_eq!(changes.departure(RowKind::Pods, start - 1).unwrap_err(), Expired);
        assert_eq!(changes.departure(RowKind::Pods, changes.upcoming() + 1).unwrap_err(), Expired);
        depart("c", 3 + LONGEST_MS);
        assert_eq!(changes.departure(RowKind::Pods, start).unwrap_err(), Expired);
        assert_eq!(next(&changes, start + 2).as_deref(), Some("n/b"));
        for _ in 0..MOST {
            depart("d", 3 + LONGEST_MS);
        }
        assert_eq!(changes.departure(RowKind::Pods, start + 3).unwrap_err(), Expired);
        assert_eq!(next(&changes, start + 5).as_deref(), Some("n/d"));
    }

    #[test]
    fn versions_fit_a_signed_integer_and_differ_between_replicas() {
        let (a, b) = (Changes::default(), Changes::default());
        assert!(i64::try_from(a.upcoming()).is_ok() && a.upcoming() > 0);
        assert_ne!(a.upcoming() >> super::COUNT_BITS, b.upcoming() >> super::COUNT_BITS);
    }
}
