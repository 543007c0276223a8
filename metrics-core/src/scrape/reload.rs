//! A file that is read again when it changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::Error;
use crate::watched_file::{self, read_one};

/// How often the file is looked at. Tokens are replaced long before they expire.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes a value of a file's content, or says what is wrong with it.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// A value that follows a small file. It is read (not watched: mounted Secrets and ConfigMaps change by a
/// renamed symbolic link) at most every 10 s; the value is made anew only when the content changed. A file
/// that became unusable leaves the last good value.
pub(super) struct Reloaded<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Option<Instant>,
    content: Vec<u8>,
    value: Option<Arc<T>>,
    complaint: String,
}

impl<T> Reloaded<T> {
    pub(super) fn new(path: PathBuf, parse: Parse<T>) -> Self {
        let state = State { looked: None, content: Vec::new(), value: None, complaint: String::new() };
        Self { path, parse, state: Mutex::new(state) }
    }

    /// The value now.
    pub(super) fn get(&self) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock();
        if state.looked.is_none_or(|looked| looked.elapsed() >= INTERVAL) {
            state.looked = Some(Instant::now());
            self.look(&mut state);
        }
        state
            .value
            .clone()
            .ok_or_else(|| Error::File { path: self.path.clone(), reason: state.complaint.clone() })
    }

    /// Looks at the file at the next [`Self::get`], whenever it was looked at before.
    pub(super) fn expire(&self) {
        self.state.lock().looked = None;
    }

    fn look(&self, state: &mut State<T>) {
        // Blocking, as the files are small and in memory (mounted by the kubelet).
        let made = match read_one(&self.path) {
            Ok(content) if state.value.is_some() && content == state.content => {
                state.complaint.clear();
                return;
            }
            Ok(content) => (self.parse)(&content).map(|value| (content, value)),
            Err(error) => Err(match error {
                watched_file::Error::Read { source, .. } => format!("cannot be read: {source}"),
                watched_file::Error::TooLarge { .. } => "is too large".to_owned(),
            }),
        };
        match made {
            Ok((content, value)) => {
                if state.value.is_some() {
                    tracing::info!(path = %self.path.display(), "file changed, read again");
                }
                (state.content, state.value) = (content, Some(Arc::new(value)));
                state.complaint.clear();
            }
            Err(complaint) => {
                if complaint != state.complaint {
                    let kept = state.value.is_some();
                    tracing::warn!(path = %self.path.display(), kept_last_good = kept, "{complaint}");
                }
                state.complaint = complaint;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reloaded;

    #[test]
    fn follows_the_file_and_keeps_the_last_good_value() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("n");
        let file = Reloaded::<u32>::new(path.clone(), |content| {
            String::from_utf8_lossy(content).parse().map_err(|_| "not a number".to_owned())
        });
        let error = file.get().unwrap_err().to_string();
        assert!(error.contains("cannot be read") && error.contains("/n:"), "{error}");
        std::fs::write(&path, "1").unwrap();
        assert!(file.get().is_err(), "not looked at again yet");
        file.expire();
        let first = file.get().unwrap();
        file.expire();
        assert!(std::sync::Arc::ptr_eq(&first, &file.get().unwrap()), "the same value while nothing changed");
        std::fs::write(&path, "x").unwrap();
        file.expire();
        assert_eq!(*file.get().unwrap(), 1);
        std::fs::write(&path, "2").unwrap();
        file.expire();
        assert_eq!(*file.get().unwrap(), 2);
    }
}
