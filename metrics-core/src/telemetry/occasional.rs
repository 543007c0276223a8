//! One log line a cause and interval, however often the cause strikes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(300);

/// Remembers when a cause was last told. `C` must have few values.
#[derive(Clone, Debug)]
pub struct Occasional<C>(Arc<Mutex<HashMap<C, Told>>>);

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    silent: u64,
}

impl<C> Default for Occasional<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<C: Eq + Hash> Occasional<C> {
    /// Whether the cause is due to be told: then how often it struck in silence since it was last told.
    pub fn due(&self, cause: C) -> Option<u64> {
        self.due_at(cause, Instant::now())
    }

    fn due_at(&self, cause: C, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        match told.get_mut(&cause) {
            Some(last) if now.duration_since(last.at) < INTERVAL => {
                last.silent += 1;
                None
            }
            last => {
                let silent = last.map_or(0, |last| last.silent);
                told.insert(cause, Told { at: now, silent: 0 });
                Some(silent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{INTERVAL, Occasional};

    #[test]
    fn each_cause_is_told_once_an_interval_with_the_count_of_the_rest() {
        let (log, start) = (Occasional::default(), Instant::now());
        assert_eq!(log.due_at("eof", start), Some(0));
        assert_eq!(log.due_at("reset", start), Some(0));
        for _ in 0..7 {
            assert_eq!(log.due_at("eof", start + INTERVAL / 2), None);
        }
        assert_eq!(log.due_at("eof", start + INTERVAL), Some(7));
        assert_eq!(log.due_at("eof", start + INTERVAL), None);
    }
}
