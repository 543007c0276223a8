//! Why an object is not as desired.

use crds::Reason;

/// Why an object is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The machine-readable reason of the condition.
    pub reason: Reason,
    /// Cause, evidence and remedy, in full sentences.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Problem {
    /// Creates a problem.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
