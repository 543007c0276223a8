//! The pauses between two attempts of a failing watch.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(800);
/// The maximum pause without jitter. With the timeout of a response head it bounds the time until a watch recovers with
/// kube-apiserver.
const MAX: Duration = Duration::from_secs(10);
/// The time without a failure after which the next pause is short again.
const RESET_AFTER: Duration = Duration::from_secs(60);

/// A backoff that doubles, with jitter of 25 %. A watch that starts does not reset it, because the watcher also reports
/// the start of lists that fail.
#[derive(Debug)]
pub(crate) struct WatchBackoff {
    next: Duration,
    last: Option<Instant>,
}

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { next: FIRST, last: None }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) > RESET_AFTER) {
            self.next = FIRST;
        }
        self.last = Some(now);
        let pause = self.next;
        self.next = (pause * 2).min(MAX);
        Some(pause.mul_f64(1.0 + fastrand::f64() / 4.0))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn doubles_up_to_a_maximum_and_starts_again_after_a_minute_without_failures() {
        let mut backoff = WatchBackoff::default();
        let mut previous = Duration::ZERO;
        for _ in 0..4 {
            let pause = backoff.next().unwrap();
            assert!(pause > previous && pause <= MAX, "{pause:?}");
            previous = pause;
            backoff.reset();
        }
        for _ in 0..9 {
            assert!((MAX..=MAX * 5 / 4).contains(&backoff.next().unwrap()));
        }
        tokio::time::advance(RESET_AFTER + Duration::from_secs(1)).await;
        assert!(backoff.next().unwrap() < FIRST * 2);
    }
}
