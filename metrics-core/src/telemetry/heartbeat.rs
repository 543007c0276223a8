//! When a task last made progress, or kube-apiserver last confirmed what a watch knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time at which something last happened. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    origin: Instant,
    /// Milliseconds since the origin.
    last_ms: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { origin: Instant::now(), last_ms: Arc::default() }
    }
}

impl Heartbeat {
    /// Records progress.
    pub(crate) fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// Returns the time since the last progress, or since the creation if there was none.
    #[must_use]
    pub(crate) fn age(&self) -> Duration {
        self.age_at(Instant::now())
    }

    /// Returns a heartbeat of this age.
    #[cfg(test)]
    pub(crate) fn of_age(age: Duration) -> Self {
        let heartbeat = Self::default();
        Self { origin: heartbeat.origin.checked_sub(age).unwrap_or(heartbeat.origin), ..heartbeat }
    }

    fn beat_at(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.origin).as_millis();
        self.last_ms.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn age_at(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.origin).saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Heartbeat;

    #[test]
    fn ages_from_the_last_beat_of_any_clone() {
        let heartbeat = Heartbeat::default();
        let at = |seconds| heartbeat.origin + Duration::from_secs(seconds);
        assert_eq!(heartbeat.age_at(at(7)), Duration::from_secs(7));
        heartbeat.clone().beat_at(at(8));
        assert_eq!(heartbeat.age_at(at(10)), Duration::from_secs(2));
    }
}
