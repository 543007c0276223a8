//! Failures of a watch: told when they last, not when they pass.

use std::time::{Duration, Instant};

/// An API server that restarts refuses, breaks off and forbids for some seconds; that is nobody's trouble.
const PASSES: Duration = Duration::from_secs(5);

/// The failures of one watch since it last worked.
#[derive(Debug, Default)]
pub struct Trouble {
    since: Option<Instant>,
    told: Option<String>,
}

impl Trouble {
    /// The watch failed with this text. Whether to tell it: it lasts, and was not told yet.
    pub fn failed(&mut self, text: &str) -> bool {
        self.failed_at(text, Instant::now())
    }

    /// The watch works.
    pub fn over(&mut self) {
        *self = Self::default();
    }

    fn failed_at(&mut self, text: &str, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < PASSES || self.told.as_deref() == Some(text) {
            return false;
        }
        self.told = Some(text.to_owned());
        true
    }
}

/// Whether a watch ended as watches do: its version is too old, and it begins anew (410).
#[must_use]
pub fn is_routine(error: &kube::runtime::watcher::Error) -> bool {
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

    use super::{PASSES, Trouble};

    #[test]
    fn only_what_lasts_is_told_and_only_once() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert!(!trouble.failed_at("connection_refused", start));
        assert!(trouble.failed_at("forbidden", start + PASSES));
        assert!(!trouble.failed_at("forbidden", start + PASSES * 2));
        assert!(trouble.failed_at("connection_refused", start + PASSES * 3));
        trouble.over();
        assert!(!trouble.failed_at("connection_refused", start + PASSES * 4));
    }
}
