//! A real Kubernetes on one machine, the scenarios on it, and the measurements.
//!
//! ```text
//! testbed   clusters from real components: binaries, images, network, cgroups, pki, cluster; clients: kubectl, http
//! suite     the runner of the scenarios in tests/scenarios: shared clusters, parallel runs, dumps of failures
//! faults    the list of faults: injected, reported by conditions and `doctor`, repaired
//! bench     scale (thousands of fake nodes), differential (metrics-server compared with metrics-core), reaction (how
//!           soon an autoscaler acts), completeness (lists while replicas and containers are replaced), kubelet_cost
//! plot      SVG plots
//! cli       what the programs in src/bin share
//! ```
//!
//! The files beside these folders (`command`, `wait`, `progress`, `digest`, `error`) are used by all of them. `testbed`
//! imports none of the other folders; `suite`, `faults` and `bench` import `testbed`, but not each other.
//!
//! Nothing here imitates Kubernetes: every component is built from its Go module or comes from the distribution. Start
//! reading at [`testbed::cluster::Cluster::up`], or at [`suite::Suite`] for the scenarios.

pub mod bench;
pub mod cli;
pub mod command;
pub mod digest;
pub mod error;
pub mod faults;
pub mod plot;
pub mod progress;
pub mod suite;
pub mod testbed;
pub mod wait;

pub use error::{Error, Result};
pub use progress::Progress;
pub use testbed::cluster::{Cluster, ClusterSpec};
pub use testbed::kubectl::Client;
pub use testbed::plugin::Plugin;
