//! Writes what differs, in order, and nothing else.

mod diff;
mod quantity;
mod writer;

pub use diff::differences;
pub use writer::{Outcome, Writer};
