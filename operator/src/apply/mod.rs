//! Writes what differs, in order, and nothing else.

mod csr_approval;
mod resize;
mod writer;

pub use csr_approval::{Approvals, Approver};
pub use resize::{Resized, Resizer};
pub use writer::{Outcome, Writer};
