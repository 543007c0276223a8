//! Measurements and comparisons of metrics-core and metrics-server.

pub mod differential;
mod fake_kubelet;
pub mod reaction;
pub mod scale;
pub mod servers;
