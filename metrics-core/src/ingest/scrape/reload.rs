//! A file that is reloaded when it changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::Error;
use crate::telemetry::LogLimiter;
use crate::watched_file::{self, Source};

/// How often the file is checked. Tokens are replaced long before they expire.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is checked at most because kubelets rejected the value: thousands may do so at once.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Parses a file's content, or returns what is wrong with it.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// A value that is read from a small file, or from inline data. The file is polled at most every 10 s rather than watched, because
/// mounted Secrets and ConfigMaps change by renaming a symbolic link. If it becomes unusable, the last good value
/// stays. The value is replaced only by another content than the one it was parsed from.
pub(super) struct ReloadedFile<T> {
    source: Source,
    parse: Parse<T>,
    state: Mutex<ReloadState<T>>,
    log: LogLimiter<FileEvent>,
}

struct ReloadState<T> {
    checked: Option<Instant>,
    /// Whether a kubelet rejected the value since the last check.
    rejected: bool,
    /// When the file was last checked because of a rejection.
    checked_after_rejection: Option<Instant>,
    /// The content that `value` was parsed from.
    content: Vec<u8>,
    value: Option<Arc<T>>,
    problem: String,
}

/// What is logged about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileEvent {
    Changed,
    Unreadable,
    TooLarge,
    Unusable,
}

impl<T> ReloadedFile<T> {
    pub(super) fn new(source: impl Into<Source>, parse: Parse<T>) -> Self {
        let state = ReloadState {
            checked: None,
            rejected: false,
            checked_after_rejection: None,
            content: Vec::new(),
            value: None,
            problem: String::new(),
        };
        Self { source: source.into(), parse, state: Mutex::new(state), log: LogLimiter::default() }
    }

    /// Returns the current value.
    pub(super) fn get(&self) -> Result<Arc<T>, Error> {
        self.get_at(Instant::now())
    }

    fn get_at(&self, now: Instant) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock();
        let elapsed = |last: Option<Instant>, rest| last.is_none_or(|last| now.duration_since(last) >= rest);
        let recheck = state.rejected && elapsed(state.checked_after_rejection, RECHECK_INTERVAL);
        if recheck || elapsed(state.checked, INTERVAL) {
            state.checked = Some(now);
            if std::mem::take(&mut state.rejected) {
                state.checked_after_rejection = Some(now);
            }
            self.reload(&mut state, now);
        }
        state
            .value
            .clone()
            .ok_or_else(|| Error::FileUnreadable { path: self.source.name(), reason: state.problem.clone() })
    }

    /// Requests a check soon because a kubelet rejected the value.
    pub(super) fn recheck(&self) {
        self.state.lock().rejected = true;
    }

    fn reload(&self, state: &mut ReloadState<T>, now: Instant) {
        // Blocking is acceptable: the files are small and in memory (mounted by the kubelet).
        let loaded = match self.source.read() {
            Ok(content) if state.value.is_some() && content == state.content => {
                state.problem.clear();
                return;
            }
            Ok(content) => match (self.parse)(&content) {
                Ok(value) => Ok((content, value)),
                Err(problem) => Err((FileEvent::Unusable, problem)),
            },
            Err(watched_file::Error::Read { source, .. }) => {
                Err((FileEvent::Unreadable, format!("cannot be read: {source}")))
            }
            Err(watched_file::Error::TooLarge { .. }) => {
                Err((FileEvent::TooLarge, "is too large".to_owned()))
            }
        };
        match loaded {
            Ok((content, value)) => {
                if state.value.is_some()
                    && let Some(since_last) = self.log.due_at(FileEvent::Changed, now)
                {
                    tracing::info!(path = ?self.source, since_last, "reloaded the changed file");
                }
                (state.content, state.value) = (content, Some(Arc::new(value)));
                state.problem.clear();
            }
            Err((event, problem)) => {
                if let Some(since_last) = self.log.due_at(event, now) {
                    let kept = state.value.is_some();
                    tracing::warn!(path = ?self.source, kept_last_good = kept, since_last, "{problem}");
                }
                state.problem = problem;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{FileEvent, INTERVAL, RECHECK_INTERVAL, ReloadedFile};

    fn number(path: std::path::PathBuf) -> ReloadedFile<u32> {
        ReloadedFile::new(path, |content| {
            String::from_utf8_lossy(content).parse().map_err(|_| "not a number".to_owned())
        })
    }

    #[test]
    fn reloads_the_file_and_keeps_the_last_good_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = number(path.clone());
        let start = Instant::now();
        let error = file.get_at(start).unwrap_err().to_string();
        assert!(error.contains("cannot be read") && error.contains("/n:"), "{error}");
        std::fs::write(&path, "1").unwrap();
        assert!(file.get_at(start).is_err(), "not checked again yet");
        let first = file.get_at(start + INTERVAL).unwrap();
        let same = file.get_at(start + 2 * INTERVAL).unwrap();
        assert!(Arc::ptr_eq(&first, &same), "the same value while the file is unchanged");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(*file.get_at(start + 3 * INTERVAL).unwrap(), 1);
        std::fs::write(&path, "1").unwrap();
        let again = file.get_at(start + 4 * INTERVAL).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "the same value after a problem");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*file.get_at(start + 5 * INTERVAL).unwrap(), 1);
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*file.get_at(start + 6 * INTERVAL).unwrap(), 2);
    }

    #[test]
    fn requests_a_log_line_at_each_check_while_a_problem_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = number(path.clone());
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let check = |from: Instant| (0..3).for_each(|at| drop(file.get_at(from + at * INTERVAL)));
        check(start);
        assert_eq!(file.log.due_at(FileEvent::Unreadable, start + hour), Some(2));
        std::fs::write(&path, "x").unwrap();
        check(start + hour);
        assert_eq!(file.log.due_at(FileEvent::Unusable, start + 2 * hour), Some(2));
        std::fs::write(&path, "1").unwrap();
        assert_eq!(*file.get_at(start + 2 * hour).unwrap(), 1);
        std::fs::write(&path, "x").unwrap();
        check(start + 3 * hour);
        assert_eq!(file.log.due_at(FileEvent::Unusable, start + 4 * hour), Some(2), "with a last good value");
    }

    #[test]
    fn rechecks_a_rejected_value_soon_but_not_per_rejection_and_logs_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = number(path.clone());
        let start = Instant::now();
        std::fs::write(&path, "0").unwrap();
        assert_eq!(*file.get_at(start).unwrap(), 0);
        for round in 1..=5u32 {
            std::fs::write(&path, round.to_string()).unwrap();
            let then = start + (round - 1) * RECHECK_INTERVAL;
            file.recheck();
            assert_eq!(*file.get_at(then).unwrap(), round, "at once");
            std::fs::write(&path, "100").unwrap();
            for _ in 0..100 {
                file.recheck();
                assert_eq!(
                    *file.get_at(then + RECHECK_INTERVAL / 2).unwrap(),
                    round,
                    "but not for each rejection"
                );
            }
        }
        assert_eq!(file.log.due(FileEvent::Changed), None, "logged within this interval");
        assert_eq!(file.log.due(FileEvent::Unreadable), Some(0));
    }
}
