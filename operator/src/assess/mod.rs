//! What the conditions say, from what was observed, planned and applied. Pure.

pub mod conditions;
pub mod diagnosis;
