//! What can go wrong on the bench, with what a person needs to go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure of the bench.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine lacks something; the text says what and how to get it.
    #[error("{0}")]
    Missing(String),
    /// What was asked for makes no sense; the text names it and the remedy.
    #[error("{0}")]
    Invalid(String),
    /// An operation on a file, a process or a mount failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// Its standard error, or the last of its log.
        output: String,
    },
    /// A state did not come about in time.
    #[error("{what}: not within {} s; last seen: {last}", after.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The last state seen.
        last: String,
    },
    /// A component of the cluster ended by itself.
    #[error("{component} ended by itself; the last of {}:\n{tail}", log.display())]
    Ended {
        /// The component.
        component: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A key or certificate could not be made or read.
    #[error("certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// Something that should be JSON is not, or not of the expected shape.
    #[error("{what}: {source}")]
    Json {
        /// What was read.
        what: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// Says what was being done when the system refused it.
pub trait Doing<T> {
    /// Adds `what` to the error.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

impl<T> Doing<T> for serde_json::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Json { what: what(), source })
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { what: what(), source: errno.into() })
    }
}
