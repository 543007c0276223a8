//! Reads the cluster: the MetricsPipelines, every managed object, the pods, the nodes, whether metrics are served, and
//! what the replicas of metrics-core report. Nothing is decided here.
//!
//! [`Observer::observe`] is the first step of a round. It reads again what a watch marked as changed ([`watches`]), polls
//! what can't be watched (`observer/polling.rs`), and derives the [`Facts`] that all later steps use. What can't be read
//! keeps its last state for a bounded time ([`freshness`]), and slow polls run beside the loop ([`background`]). What the apply step
//! writes comes back through [`Observer::learn`], and its versions at once through [`Known`], so that no object is read again
//! only because the operator changed it.

mod active_pipeline;
mod announced;
mod background;
mod cert_manager;
mod facts;
mod freshness;
mod kubelets;
mod learned;
mod nodes;
mod observed;
mod observer;
mod pipeline;
mod poll_scope;
mod previous_namespace;
mod proof;
mod replicas;
mod report_token;
mod samples;
mod served;
mod signing_requests;
mod symptoms;
mod usage;
mod watches;

pub use active_pipeline::{ActivePipeline, select_active};
pub(crate) use facts::Facts;
pub(crate) use kubelets::{Coverage, FailingNodes};
pub(crate) use learned::Learned;
pub(crate) use observed::{Found, KubeletCa, Observed, ServingSource};
pub use observed::{FrontProxyMap, Unreadable};
pub(crate) use observer::{ObserveError, Observer};
pub use pipeline::Pipeline;
pub(crate) use poll_scope::{FULL_POLL, MIN_ROUND, PollScope, poll_scope};
pub(crate) use previous_namespace::{PreviousNamespace, moves_from};
pub(crate) use proof::{ExpectedCertificate, Proof};
#[cfg(test)]
pub(crate) use proof::{Replica, Seen};
pub(crate) use replicas::{ReplicaReport, ReportError};
#[cfg(test)]
pub(crate) use report_token::TokenError;
pub(crate) use samples::FaultySamples;
pub(crate) use served::Served;
pub(crate) use symptoms::{Symptoms, Unavailable};
pub(crate) use watches::{Changes, Known, Source};
