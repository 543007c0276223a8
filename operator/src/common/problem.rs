//! Why an object is not as it shall be.

use crds::Reason;

/// Why an object is not as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In a word.
    pub reason: Reason,
    /// Cause, evidence, remedy.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
