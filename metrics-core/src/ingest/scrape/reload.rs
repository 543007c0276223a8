//! A file that is read again when it changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::Error;
use crate::telemetry::Occasional;
use crate::watched_file::{self, read_one};

/// How often the file is looked at. Tokens are replaced long before they expire.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often at most because kubelets refuse what was read: thousands may at once.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// Makes a value of a file's content, or says what is wrong with it.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// A value that follows a small file. It is read (not watched: mounted Secrets and ConfigMaps change by a
/// renamed symbolic link) at most every 10 s; the value is made anew only when the content changed. A file
/// that became unusable leaves the last good value.
pub(super) struct Reloaded<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<State<T>>,
    log: Occasional<News>,
}

struct State<T> {
    looked: Option<Instant>,
    /// Whether the value was refused since.
    doubted: bool,
    /// When the file was last looked at for that.
    looked_in_doubt: Option<Instant>,
    content: Vec<u8>,
    value: Option<Arc<T>>,
    complaint: String,
}

/// What the log tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum News {
    Changed,
    Unreadable,
    TooLarge,
    Unusable,
}

impl<T> Reloaded<T> {
    pub(super) fn new(path: PathBuf, parse: Parse<T>) -> Self {
        let state = State {
            looked: None,
            doubted: false,
            looked_in_doubt: None,
            content: Vec::new(),
            value: None,
            complaint: String::new(),
        };
        Self { path, parse, state: Mutex::new(state), log: Occasional::default() }
    }

    /// The value now.
    pub(super) fn get(&self) -> Result<Arc<T>, Error> {
        self.get_at(Instant::now())
    }

    fn get_at(&self, now: Instant) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock();
        let rested = |last: Option<Instant>, rest| last.is_none_or(|last| now.duration_since(last) >= rest);
        let in_doubt = state.doubted && rested(state.looked_in_doubt, IN_DOUBT);
        if in_doubt || rested(state.looked, INTERVAL) {
            state.looked = Some(now);
            if std::mem::take(&mut state.doubted) {
                state.looked_in_doubt = Some(now);
            }
            self.look(&mut state);
        }
        state
            .value
            .clone()
            .ok_or_else(|| Error::File { path: self.path.clone(), reason: state.complaint.clone() })
    }

    /// Has the file looked at sooner, as its value was refused.
    pub(super) fn expire(&self) {
        self.state.lock().doubted = true;
    }

    fn look(&self, state: &mut State<T>) {
        // Blocking, as the files are small and in memory (mounted by the kubelet).
        let made = match read_one(&self.path) {
            Ok(content) if state.value.is_some() && content == state.content => {
                state.complaint.clear();
                return;
            }
            Ok(content) => match (self.parse)(&content) {
                Ok(value) => Ok((content, value)),
                Err(complaint) => Err((News::Unusable, complaint)),
            },
            Err(watched_file::Error::Read { source, .. }) => {
                Err((News::Unreadable, format!("cannot be read: {source}")))
            }
            Err(watched_file::Error::TooLarge { .. }) => Err((News::TooLarge, "is too large".to_owned())),
        };
        match made {
            Ok((content, value)) => {
                if state.value.is_some()
                    && let Some(since_last) = self.log.due(News::Changed)
                {
                    tracing::info!(path = %self.path.display(), since_last, "file changed, read again");
                }
                (state.content, state.value) = (content, Some(Arc::new(value)));
                state.complaint.clear();
            }
            Err((news, complaint)) => {
                if let Some(since_last) = self.log.due(news) {
                    let kept = state.value.is_some();
                    tracing::warn!(path = %self.path.display(), kept_last_good = kept, since_last, "{complaint}");
                }
                state.complaint = complaint;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{IN_DOUBT, INTERVAL, News, Reloaded};

    fn number(path: std::path::PathBuf) -> Reloaded<u32> {
        Reloaded::new(path, |content| {
            String::from_utf8_lossy(content).parse().map_err(|_| "not a number".to_owned())
        })
    }

    #[test]
    fn follows_the_file_and_keeps_the_last_good_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = number(path.clone());
        let start = Instant::now();
        let error = file.get_at(start).unwrap_err().to_string();
        assert!(error.contains("cannot be read") && error.contains("/n:"), "{error}");
        std::fs::write(&path, "1").unwrap();
        assert!(file.get_at(start).is_err(), "not looked at again yet");
        let first = file.get_at(start + INTERVAL).unwrap();
        let same = file.get_at(start + 2 * INTERVAL).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &same), "the same value while nothing changed");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(*file.get_at(start + 3 * INTERVAL).unwrap(), 1);
        std::fs::write(&path, "2").unwrap();
        assert_eq!(*file.get_at(start + 4 * INTERVAL).unwrap(), 2);
    }

    #[test]
    fn a_refused_value_is_looked_at_soon_but_not_for_each_refusal_and_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = number(path.clone());
        let start = Instant::now();
        std::fs::write(&path, "0").unwrap();
        assert_eq!(*file.get_at(start).unwrap(), 0);
        for round in 1..=5u32 {
            std::fs::write(&path, round.to_string()).unwrap();
            let then = start + (round - 1) * IN_DOUBT;
            file.expire();
            assert_eq!(*file.get_at(then).unwrap(), round, "at once");
            std::fs::write(&path, "100").unwrap();
            for _ in 0..100 {
                file.expire();
                assert_eq!(*file.get_at(then + IN_DOUBT / 2).unwrap(), round, "but not for each refusal");
            }
        }
        assert_eq!(file.log.due(News::Changed), None, "told within this interval");
        assert_eq!(file.log.due(News::Unreadable), Some(0));
    }
}
