//! What every step of a reconcile shares: names, the table of managed objects, ownership, problems, quantities, and
//! the normalization of quoted messages.
//!
//! Nothing here has a client, and nothing here imports another module of the operator.

mod error_chain;
pub(crate) mod label_selector;
pub(crate) mod managed_object;
pub(crate) mod names;
pub(crate) mod normalize;
pub(crate) mod optional_permission;
pub(crate) mod ownership;
mod problem;
pub(crate) mod quantity;

pub use error_chain::error_chain;
pub(crate) use managed_object::ManagedObject;
pub(crate) use names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, METRICS_CORE, NANNY_FIELD_MANAGER};
pub(crate) use optional_permission::{OptionalPermission, OptionalPermissions};
pub(crate) use problem::Problem;
