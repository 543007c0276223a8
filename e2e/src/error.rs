//! The errors of this crate, with what a user needs to continue.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine lacks a requirement; the text names it and the remedy.
    #[error("{0}")]
    Missing(String),
    /// An input or a response is invalid; the text names it and the remedy.
    #[error("{0}")]
    Invalid(String),
    /// An operation on a file, a process or a mount failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// Its standard error, or the end of its log.
        output: String,
    },
    /// A state did not occur in time.
    #[error("{what}: not within {} s; last seen: {last}", after.as_secs())]
    Timeout {
        /// The expected state.
        what: String,
        /// The timeout.
        after: Duration,
        /// The last state seen.
        last: String,
    },
    /// A component of the cluster ended unexpectedly.
    #[error("{component} ended unexpectedly; the end of {}:\n{tail}", log.display())]
    Ended {
        /// The component.
        component: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A key or certificate could not be created or read.
    #[error("certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// A text is not JSON, or not of the expected shape.
    #[error("{what}: {source}")]
    Json {
        /// The text.
        what: String,
        /// The position and the reason.
        source: serde_json::Error,
    },
}

/// Adds the operation to an error of the system.
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
