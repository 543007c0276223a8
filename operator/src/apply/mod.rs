//! Writes what differs, in order, and nothing else.

mod diff;
mod quantity;
mod resize;
mod writer;

pub use diff::differences;
pub use quantity::{nanos, same_quantity};
pub use resize::{Resized, Resizer};
pub use writer::{Outcome, Writer};
