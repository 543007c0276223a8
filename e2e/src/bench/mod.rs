//! Measurements and comparisons of metrics-core and metrics-server.

pub mod completeness;
pub mod differential;
pub mod kubelet_cost;
pub mod reaction;
pub mod scale;
pub mod servers;
