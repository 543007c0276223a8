//! The operator: installs, certifies, repairs and explains the resource-metrics pipeline of a cluster.
//!
//! # One round
//!
//! The operator runs rounds of five steps, in this order. Each step takes the results of those before it:
//!
//! | step | module | input → output |
//! |---|---|---|
//! | 1 | [`observe`] | kube-apiserver, pods of metrics-core → [`observe::Observed`] |
//! | 2 | [`plan`] | observed → [`plan::Plan`]: objects, certificates, sizes, finalizers |
//! | 3 | [`apply`] | plan → writes, and [`apply::Applied`]: what was done and learned |
//! | 4 | [`assess`] | observed, plan, applied → [`assess::Assessment`]: conditions and causes |
//! | 5 | [`report`] | all of them → status, events, metrics |
//!
//! `run/reconcile.rs` calls them; start reading there. [`run`](mod@run) also elects one of several operators, serves the health and
//! metrics endpoints, and decides when the next round starts.
//!
//! # Modules
//!
//! A module imports only modules to its left:
//!
//! [`common`] → [`pki`] → [`nanny`] → [`csr`] → [`settings`] → [`observe`] → [`plan`] → [`apply`] → [`assess`] →
//! [`report`] → [`run`](mod@run) → [`hook`] → [`inspect`]
//!
//! [`pki`] (certificates and their rollover), [`nanny`] (sizes) and [`csr`] (which kubelet requests may be approved) are
//! pure: they have no client and know no step. [`plan`] and [`assess`] are pure as well. Only [`observe`], [`apply`] and
//! [`report`] talk to the cluster; [`hook`] is a program of its own, which the Helm chart runs in Jobs.
//!
//! # From a changed MetricsPipeline to its condition
//!
//! 1. `observe/watches.rs` receives the watch event and wakes the loop in `run/mod.rs`.
//! 2. `run/reconcile.rs` starts a round.
//! 3. `observe/observer.rs` reads the object, polls what can't be watched, and derives `observe/facts.rs`.
//! 4. `plan/planner.rs` selects the action; `plan/maintain.rs` builds every object with `plan/objects/`.
//! 5. `apply/writer.rs` applies what differs, in order.
//! 6. `assess/conditions/mod.rs` evaluates the conditions, with the causes of `assess/diagnosis/mod.rs`.
//! 7. `report/mod.rs` writes the status that `report/status.rs` builds, and the events of `report/event_dedup.rs`.

mod apply;
mod assess;
mod common;
mod csr;
mod hook;
pub mod inspect;
mod nanny;
mod observe;
mod pki;
mod plan;
mod report;
mod run;
mod settings;
#[cfg(test)]
mod simulation;

pub use hook::{HookCommand, HookError, run_hook};
pub use run::{RunError, run};
pub use settings::{FlagError, Flags, LogFormat};
