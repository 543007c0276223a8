//! Limits how often the changes of another writer are reverted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::writer::FieldsOf;

/// The maximum count of reverts of one object within [`WINDOW`].
pub(super) const MAX_REVERTS: u32 = 10;

/// The time after which reverts are counted from zero.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Counts the drift of every object. Against a writer that changes an object again and again, unlimited reverts would be
/// an endless stream of writes and events, and the object would never be as either wants it.
#[derive(Default)]
pub(super) struct DriftLimiter(BTreeMap<FieldsOf, Drifts>);

impl DriftLimiter {
    /// Counts one more drift. Returns whether it may be reverted.
    pub(super) fn admit(&mut self, key: FieldsOf) -> bool {
        let now = Instant::now();
        self.0.entry(key).or_insert(Drifts { since: now, count: 0 }).admit(now)
    }
}

#[derive(Clone, Copy)]
struct Drifts {
    since: Instant,
    count: u32,
}

impl Drifts {
    fn admit(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MAX_REVERTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_reverting_after_the_maximum_and_resumes_after_the_window() {
        let begin = Instant::now();
        let mut drifts = Drifts { since: begin, count: 0 };
        assert!((0..MAX_REVERTS).all(|_| drifts.admit(begin)));
        assert!(!drifts.admit(begin + Duration::from_secs(59)));
        assert!(drifts.admit(begin + WINDOW));
    }
}
