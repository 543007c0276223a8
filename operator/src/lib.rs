//! The operator: installs, certifies, repairs and explains the resource-metrics pipeline of a cluster.
//!
//! One reconcile goes one way: [`observe`] reads, [`plan`] judges without a client, [`apply`] writes what
//! differs in order, [`assess`] judges what came of it, [`report`] tells. [`run`] is the only module that knows all of them.

pub mod apply;
pub mod assess;
pub mod common;
pub mod csr;
pub mod inspect;
pub mod nanny;
pub mod observe;
pub mod pki;
pub mod plan;
pub mod report;
pub mod run;
pub mod settings;
