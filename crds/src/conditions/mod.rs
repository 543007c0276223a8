//! The vocabulary of `status.conditions`: condition types and reasons.

mod condition_type;
mod reason;

pub use condition_type::ConditionType;
pub use reason::Reason;
