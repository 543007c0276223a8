//! The operator: installs, certifies, repairs and explains the resource-metrics pipeline of a cluster.
//!
//! One reconcile goes one way: [`observe`] reads, [`decide`] judges without a client, [`apply`] writes what
//! differs in order, [`report`] tells. [`run`] is the only module that knows all of them.

pub mod apply;
pub mod approval;
mod causes;
pub mod decide;
pub mod diagnosis;
pub mod flags;
pub mod nanny;
pub mod observe;
pub mod owned;
pub mod pki;
pub mod plugin;
pub mod powers;
pub mod quote;
pub mod report;
pub mod run;
