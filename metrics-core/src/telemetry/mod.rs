//! The log and the metrics of metrics-core itself.

mod excerpt;
mod exposition;
mod heartbeat;
mod log;
mod log_limiter;
mod process;
mod recent_events;
mod watch_ages;
mod watch_failures;
mod without_values;

use std::sync::Arc;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use excerpt::excerpt;
pub(crate) use exposition::{OPENMETRICS, TEXT, accepts_openmetrics, encode};
pub(crate) use heartbeat::Heartbeat;
pub(crate) use log::{LogFormat, Logging, start as start_log};
pub(crate) use log_limiter::LogLimiter;
pub(crate) use recent_events::RecentEvents;
pub use watch_ages::WatchAges;
pub(crate) use watch_failures::{WatchFailures, is_expired_watch};
pub(crate) use without_values::without_values;

/// Returns a registry with metrics of the build and of the process.
#[must_use]
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("metrics_core_build", "The build of metrics-core", build);
    registry.register_collector(Box::new(process::Process::new()));
    registry
}

/// The registry after start-up: complete, and only read.
pub(crate) type SharedRegistry = Arc<Registry>;
