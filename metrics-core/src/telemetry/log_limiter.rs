//! A rate limit for log lines: one per cause and interval.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(300);

/// Remembers when each cause was logged last. `C` must have few values. Clones share their content.
#[derive(Clone, Debug)]
pub(crate) struct LogLimiter<C>(Arc<Mutex<HashMap<C, LastLogged>>>);

#[derive(Clone, Copy, Debug)]
struct LastLogged {
    at: Instant,
    suppressed: u64,
}

impl<C> Default for LogLimiter<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<C: Eq + Hash> LogLimiter<C> {
    /// Returns `Some` if the cause should be logged now: the number of occurrences since the last log line, which were
    /// not logged.
    pub(crate) fn due(&self, cause: C) -> Option<u64> {
        self.due_at(cause, Instant::now())
    }

    /// Like [`LogLimiter::due`], at a given time.
    pub(crate) fn due_at(&self, cause: C, now: Instant) -> Option<u64> {
        let mut logged = self.0.lock();
        match logged.get_mut(&cause) {
            Some(last) if now.duration_since(last.at) < INTERVAL => {
                last.suppressed += 1;
                None
            }
            last => {
                let suppressed = last.map_or(0, |last| last.suppressed);
                logged.insert(cause, LastLogged { at: now, suppressed: 0 });
                Some(suppressed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{INTERVAL, LogLimiter};

    #[test]
    fn logs_each_cause_once_per_interval_with_the_count_of_the_suppressed() {
        let (log, start) = (LogLimiter::default(), Instant::now());
        assert_eq!(log.due_at("eof", start), Some(0));
        assert_eq!(log.due_at("reset", start), Some(0));
        for _ in 0..7 {
            assert_eq!(log.due_at("eof", start + INTERVAL / 2), None);
        }
        assert_eq!(log.due_at("eof", start + INTERVAL), Some(7));
        assert_eq!(log.due_at("eof", start + INTERVAL), None);
    }
}
