//! The events of the last five minutes by cause, with a count and the latest examples, in bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::report::MAX_EXAMPLES;
use jiff::Timestamp;
use parking_lot::Mutex;

/// How long an event counts.
const WINDOW: Duration = Duration::from_secs(300);
/// Counts are kept per slice, so that old ones can be dropped.
const SLICE: Duration = Duration::from_secs(15);
/// The slices of the window and the current one.
const SLICES: usize = 21;

/// Events by cause. `C` must have few values. Clones share their content.
#[derive(Clone, Debug)]
pub(crate) struct RecentEvents<C, E>(Arc<Mutex<BTreeMap<C, CauseHistory<E>>>>, Instant);

#[derive(Debug)]
struct CauseHistory<E> {
    counts: [u64; SLICES],
    /// The latest slice with a count.
    slice: u64,
    last: Timestamp,
    /// Latest first.
    examples: Vec<Example<E>>,
}

#[derive(Clone, Debug)]
struct Example<E> {
    of: E,
    seen: Instant,
    last: Timestamp,
}

/// The events of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occurrences<C, E> {
    /// The cause.
    pub(crate) cause: C,
    /// The number of events.
    pub(crate) count: u64,
    /// The time of the latest event.
    pub(crate) last: Timestamp,
    /// The latest distinct examples, latest first, each with the time of its latest event.
    pub(crate) examples: Vec<(E, Timestamp)>,
}

impl<C, E> Default for RecentEvents<C, E> {
    fn default() -> Self {
        Self(Arc::default(), Instant::now())
    }
}

impl<C: Copy + Ord, E: Clone + PartialEq> RecentEvents<C, E> {
    /// Records an event.
    pub(crate) fn record(&self, cause: C, example: E) {
        self.record_at(cause, example, Instant::now(), Timestamp::now());
    }

    /// Returns the events by cause, the cause of the latest event first.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Occurrences<C, E>> {
        self.list_at(Instant::now())
    }

    fn slice(&self, at: Instant) -> u64 {
        at.duration_since(self.1).as_secs() / SLICE.as_secs()
    }

    fn record_at(&self, cause: C, example: E, at: Instant, last: Timestamp) {
        let slice = self.slice(at);
        let mut causes = self.0.lock();
        let history = causes.entry(cause).or_insert_with(|| CauseHistory {
            counts: [0; SLICES],
            slice,
            last,
            examples: Vec::new(),
        });
        history.advance(slice);
        history.counts[index(slice)] += 1;
        history.last = last;
        history.examples.retain(|other| other.of != example);
        history.examples.insert(0, Example { of: example, seen: at, last });
        history.examples.truncate(MAX_EXAMPLES);
    }

    fn list_at(&self, at: Instant) -> Vec<Occurrences<C, E>> {
        let slice = self.slice(at);
        let mut causes = self.0.lock();
        let mut list: Vec<_> = causes
            .iter_mut()
            .map(|(cause, history)| {
                history.advance(slice);
                history.examples.retain(|example| at.duration_since(example.seen) < WINDOW);
                Occurrences {
                    cause: *cause,
                    count: history.counts.iter().sum(),
                    last: history.last,
                    examples: history
                        .examples
                        .iter()
                        .map(|example| (example.of.clone(), example.last))
                        .collect(),
                }
            })
            .filter(|occurrences| occurrences.count > 0)
            .collect();
        list.sort_by_key(|occurrences| std::cmp::Reverse(occurrences.last));
        list
    }
}

impl<E> CauseHistory<E> {
    /// Drops the counts of slices that left the window.
    fn advance(&mut self, slice: u64) {
        let passed = slice.saturating_sub(self.slice).min(SLICES as u64);
        for step in 1..=passed {
            self.counts[index(self.slice + step)] = 0;
        }
        self.slice = self.slice.max(slice);
    }
}

#[allow(clippy::cast_possible_truncation)] // It is less than SLICES.
fn index(slice: u64) -> usize {
    (slice % SLICES as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{RecentEvents, WINDOW};

    #[test]
    fn drops_counts_and_examples_older_than_the_window() {
        let recent = RecentEvents::<u8, u8>::default();
        let start = recent.1;
        let note = |cause, example, seconds: u64| {
            let time = Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
            recent.record_at(cause, example, start + Duration::from_secs(seconds), time);
        };
        let list = |seconds| recent.list_at(start + Duration::from_secs(seconds));
        for seconds in 0..100 {
            note(1, u8::try_from(seconds % 5).unwrap(), seconds);
        }
        note(2, 7, 50);
        let now = list(100);
        assert_eq!(
            now.iter().map(|found| (found.cause, found.count)).collect::<Vec<_>>(),
            [(1, 100), (2, 1)]
        );
        let examples: Vec<_> =
            now[0].examples.iter().map(|(example, last)| (*example, last.as_second())).collect();
        assert_eq!(examples, [(4, 99), (3, 98), (2, 97)]);
        note(1, 4, 200);
        let later = list(65 + WINDOW.as_secs());
        assert_eq!(later.len(), 1, "one cause has expired: {later:?}");
        assert_eq!(later[0].count, 100 - 60 + 1, "slices of 15 s expire as a whole");
        assert_eq!(later[0].examples.len(), 3);
        assert_eq!(list(199 + WINDOW.as_secs())[0].examples.len(), 1);
        assert!(list(10_000).is_empty());
    }
}
