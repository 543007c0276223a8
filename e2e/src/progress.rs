//! Prints the current steps with elapsed times to standard error; long steps print repeatedly.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Result;

/// The interval at which a long step prints a line.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// Prints steps, each with the time since the start and its duration.
#[derive(Clone, Debug)]
pub struct Progress {
    start: Instant,
    prefix: String,
    quiet: bool,
}

/// A step in progress.
#[derive(Clone, Debug, Default)]
pub struct Step {
    note: Arc<Mutex<String>>,
}

impl Step {
    /// Sets the current state of the step, which is printed when it takes long.
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
    /// Starts the clock; `prefix` distinguishes what runs in parallel (empty for none).
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}: ") };
        Self { start: Instant::now(), prefix, quiet: false }
    }

    /// Returns the same clock with another prefix.
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self { prefix: format!("{prefix}: "), ..self.clone() }
    }

    /// Prints only long steps and explicit messages.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Returns the time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Prints one line.
    pub fn say(&self, text: impl AsRef<str>) {
        let seconds = self.start.elapsed().as_secs_f64();
        // The reader may have closed the pipe (`… 2>&1 | head`): the work continues.
        let _ = writeln!(io::stderr(), "[{seconds:6.1}s] {}{}", self.prefix, text.as_ref());
    }

    /// Prints one line, unless quiet.
    pub fn detail(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Runs `work` and prints `what` with the duration; prints a line repeatedly if it takes long.
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
