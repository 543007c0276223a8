//! The command line: every flag of metrics-server (v0.3.1 and v0.9.0), and those of metrics-core.
//!
//! [`table`] declares each flag, [`parse`] reads arguments according to it, [`Options`] are the result.

mod arguments;
pub mod documentation;
mod options;
pub mod table;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use arguments::Arguments;
pub use arguments::parse;
pub(crate) use options::{KubeletTrust, Options, ServingSource, TlsOptions};

/// An error of the command line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An unknown flag, or a flag without its value.
    #[error("{0}")]
    Syntax(String),
    /// An invalid value.
    #[error("--{flag}={value}: {problem}; {remedy}")]
    Value {
        /// The flag's name without dashes.
        flag: &'static str,
        /// The value.
        value: String,
        /// The problem.
        problem: String,
        /// The remedy.
        remedy: String,
    },
    /// A flag that is not supported, and that is not ignored because that would weaken security.
    #[error("--{flag} is not supported; {remedy}")]
    Unsupported {
        /// The flag's name without dashes.
        flag: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// Flags that exclude or require each other.
    #[error("{0}")]
    Conflict(String),
}

impl Error {
    /// Returns the error for an invalid value.
    #[must_use]
    pub(crate) fn value(flag: &'static str, value: &str, problem: &str, remedy: &str) -> Self {
        Self::Value { flag, value: value.to_owned(), problem: problem.to_owned(), remedy: remedy.to_owned() }
    }
}

/// The parsed command line.
#[derive(Debug)]
pub enum CommandLine {
    /// Run the server with these options.
    Run(Box<Options>),
    /// Print this text (help or version) and exit with code 0.
    Print(String),
}
