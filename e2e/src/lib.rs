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
//! taken from the distribution. See [`cluster::Cluster::up`] for where to begin.

pub mod alias;
pub mod binaries;
pub mod cgroups;
pub mod client;
pub mod cluster;
pub mod command;
pub mod differential;
pub mod digest;
pub mod error;
pub mod faults;
pub mod images;
pub mod kubeconfig;
pub mod lines;
pub mod mounts;
pub mod network;
pub mod pipeline;
pub mod pki;
pub mod plugin;
pub mod process;
pub mod progress;
pub mod reaction;
pub mod request;
pub mod requirements;
pub mod scale;
pub mod scenario;
pub mod servers;
pub mod wait;

pub use client::Client;
pub use cluster::{Cluster, ClusterSpec};
pub use error::{Error, Result};
pub use plugin::Plugin;
pub use progress::Progress;
