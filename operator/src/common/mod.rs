//! What every step of a reconcile shares: names, the table of managed objects, ownership, problems, quantities, and
//! the normalization of quoted messages.
//!
//! Nothing here has a client, and nothing here imports another module of the operator.

pub mod error_chain;
pub mod managed_object;
pub mod names;
pub mod normalize;
pub mod optional_permission;
pub mod ownership;
mod problem;
pub mod quantity;

pub use managed_object::ManagedObject;
pub use names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, METRICS_CORE, NANNY_FIELD_MANAGER};
pub use optional_permission::{OptionalPermission, OptionalPermissions};
pub use problem::Problem;
