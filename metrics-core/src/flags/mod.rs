//! The command line: every flag of metrics-server (v0.3.1 and v0.9.0) under its name, and ours.
//!
//! [`table`] says for each flag what becomes of it; [`parse`] reads arguments against that table;
//! [`Options`] is what the program runs with.

mod arguments;
pub mod documentation;
mod options;
pub mod table;
#[cfg(test)]
mod tests;
mod value;

pub use arguments::{Arguments, parse};
pub use options::{KubeletTrust, Options, RequestHeaderOptions, ServingSource, TlsOptions};

/// Why the command line was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An argument that is no flag of the table, or a flag without its value. The text is whole.
    #[error("{0}")]
    Syntax(String),
    /// A value that its flag can't have.
    #[error("--{flag}={value}: {problem}; {remedy}")]
    Value {
        /// The flag's name without dashes.
        flag: &'static str,
        /// The value as it was given.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to give instead.
        remedy: String,
    },
    /// A flag whose effect is not to be had, and whose silent loss would weaken security.
    #[error("--{flag} is not supported; {remedy}")]
    Unsupported {
        /// The flag's name without dashes.
        flag: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Flags that exclude or need each other.
    #[error("{0}")]
    Conflict(String),
}

impl Error {
    /// Returns the error for a value that its flag can't have.
    #[must_use]
    pub fn value(flag: &'static str, value: &str, problem: &str, remedy: &str) -> Self {
        Self::Value { flag, value: value.to_owned(), problem: problem.to_owned(), remedy: remedy.to_owned() }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run with these options.
    Run(Box<Options>),
    /// Print this text (help or version) and end well.
    Print(String),
}
