//! Failures of a watch: logged when they last, not when they are transient.

use std::time::{Duration, Instant};

/// A restarting API server refuses, closes and forbids requests for some seconds. Such failures are not logged.
const TRANSIENT: Duration = Duration::from_secs(5);

/// The failures of one watch since its last success.
#[derive(Debug, Default)]
pub(crate) struct WatchFailures {
    since: Option<Instant>,
    logged: Option<String>,
}

impl WatchFailures {
    /// Records a failure with this text. Returns whether to log it: it is not transient and was not logged yet.
    pub(crate) fn failed(&mut self, text: &str) -> bool {
        self.failed_at(text, Instant::now())
    }

    /// Records that the watch works.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn failed_at(&mut self, text: &str, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < TRANSIENT || self.logged.as_deref() == Some(text) {
            return false;
        }
        self.logged = Some(text.to_owned());
        true
    }
}

/// Returns whether a watch ended because its resource version is too old (410 Gone), as every watch does in time.
#[must_use]
pub(crate) fn is_expired_watch(error: &kube::runtime::watcher::Error) -> bool {
    use kube::runtime::watcher::Error;
    match error {
        Error::WatchError(status) => status.code == 410,
        Error::WatchFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 410
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{TRANSIENT, WatchFailures};

    #[test]
    fn logs_lasting_failures_once() {
        let (mut failures, start) = (WatchFailures::default(), Instant::now());
        assert!(!failures.failed_at("connection_refused", start));
        assert!(failures.failed_at("forbidden", start + TRANSIENT));
        assert!(!failures.failed_at("forbidden", start + TRANSIENT * 2));
        assert!(failures.failed_at("connection_refused", start + TRANSIENT * 3));
        failures.succeeded();
        assert!(!failures.failed_at("connection_refused", start + TRANSIENT * 4));
    }
}
