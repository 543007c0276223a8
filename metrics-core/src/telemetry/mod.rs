//! What metrics-core tells of itself: its log, and metrics about the process and its requests.

mod excerpt;
mod exposition;
mod log;
mod occasional;
mod process;
mod recent;
mod trouble;

use std::sync::Arc;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use excerpt::excerpt;
pub use exposition::{OPENMETRICS, TEXT, accepts_openmetrics, encode};
pub use log::{LogFormat, Logging, start as start_log};
pub use occasional::Occasional;
pub use recent::{Occurrences, Recent};
pub use trouble::{Trouble, is_routine};

/// A registry with the build's and the process's metrics.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("metrics_core_build", "The build of metrics-core", build);
    registry.register_collector(Box::new(process::Process::new()));
    registry
}

/// The registry when all have registered; from then on it is only read.
pub type Shared = Arc<Registry>;
