//! What is being done, on standard error, with elapsed times; never silent for long.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Result;

/// A step that takes longer than this says so, again and again.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// Prints steps with the time since the beginning and the time each took.
#[derive(Clone, Debug)]
pub struct Progress {
    start: Instant,
    prefix: String,
    quiet: bool,
}

/// A step under way.
#[derive(Clone, Debug, Default)]
pub struct Step {
    note: Arc<Mutex<String>>,
}

impl Step {
    /// What the step is at; shown when it takes long.
    pub fn note(&self, text: impl Into<String>) {
        *self.note.lock() = text.into();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new("")
    }
}

impl Progress {
    /// Starts the clock; `prefix` tells apart what runs side by side (empty for none).
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}: ") };
        Self { start: Instant::now(), prefix, quiet: false }
    }

    /// The same clock with another prefix.
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self { prefix: format!("{prefix}: "), ..self.clone() }
    }

    /// Prints only what takes long and what is said.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The time since the clock was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints one line.
    pub fn say(&self, text: impl AsRef<str>) {
        let seconds = self.start.elapsed().as_secs_f64();
        // Nobody may be listening any more (`… 2>&1 | head`): the work goes on.
        let _ = writeln!(io::stderr(), "[{seconds:6.1}s] {}{}", self.prefix, text.as_ref());
    }

    /// Prints one line, unless quiet.
    pub fn detail(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Does `work`, prints `what` with the time it took, and meanwhile a sign of life.
    pub fn step<T>(&self, what: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let step = Step::default();
        let result = thread::scope(|scope| {
            let (done, waiting) = mpsc::channel::<()>();
            let note = &step.note;
            scope.spawn(move || {
                while waiting.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                    let note = note.lock().clone();
                    let note = if note.is_empty() { note } else { format!(": {note}") };
                    self.say(format!("  … {what} ({:.0} s so far){note}", began.elapsed().as_secs_f64()));
                }
            });
            let result = work(&step);
            drop(done);
            result
        });
        match &result {
            Ok(_) if self.quiet => {}
            Ok(_) => self.say(format!("{what} ({:.1} s)", began.elapsed().as_secs_f64())),
            Err(_) => self.say(format!("{what}: FAILED after {:.1} s", began.elapsed().as_secs_f64())),
        }
        result
    }
}
