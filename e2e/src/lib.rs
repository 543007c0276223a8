//! A real Kubernetes on one machine, and what the scenarios on it need.
//!
//! ```text
//! requirements → binaries → cluster (network, cgroups, pki, control plane, node) → client, request
//!                           images  (static binaries → OCI archives → the node's containerd)
//!                           differential (metrics-server beside metrics-core, answer by answer)
//!                           reaction (how soon an autoscaler sees a load, with either server)
//!                           faults  (what may be wrong, brought about, and what the conditions and `doctor` say of it)
//!                           plugin  (the kubectl plugin, as users run it)
//!                           scale   (thousands of fake nodes, metrics-core and its peer measured on them)
//!                           scenario (clusters shared by groups of scenarios, dumps on failure)
//! ```
//!
//! Nothing here imitates Kubernetes: every component is the real one, built from its Go module or
//! taken from the distribution. See [`testbed::cluster::Cluster::up`] for where to begin.

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
pub use testbed::client::Client;
pub use testbed::cluster::{Cluster, ClusterSpec};
pub use testbed::plugin::Plugin;
