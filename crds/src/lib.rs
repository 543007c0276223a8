//! The MetricsPipeline API (`metrics-pipeline.dev/v1alpha1`) and what the operator, metrics-core and the kubectl
//! plugin share. Each part is a module of its own:
//!
//! - [`api`]: the types of spec and status, and the CustomResourceDefinition that is generated from them;
//! - [`conditions`]: the condition types and reasons in `status.conditions`;
//! - [`cause`]: the cause codes in metrics, in the report and in the status;
//! - [`report`]: the response of metrics-core to `GET /report`;
//! - [`memory`]: how much memory metrics-core needs, which its limit follows;
//! - [`extension_apiserver_authentication`]: the parser of the ConfigMap of that name.
//!
//! The generated CustomResourceDefinition is checked in once, as `charts/metrics-pipeline/templates/crd.yaml`.
//! After a change of a type, run `cargo run -p crds --example generate`; a test fails if the file is outdated.

mod api;
pub mod cause;
mod conditions;
pub mod extension_apiserver_authentication;
pub mod memory;
pub mod report;

pub use api::*;
pub use conditions::{ConditionType, Reason};

/// The API group of MetricsPipeline.
pub const GROUP: &str = "metrics-pipeline.dev";

/// The finalizer with which the operator deletes the APIServices before the objects that they refer to.
pub const FINALIZER: &str = "metrics-pipeline.dev/ordered-deletion";
