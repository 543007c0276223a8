//! The log, on standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Logging {
    /// The format.
    pub(crate) format: LogFormat,
    /// The least severe level that is logged.
    pub(crate) level: tracing::Level,
}

/// Installs the log. Libraries log one level less than metrics-core does.
pub(crate) fn start(logging: Logging) -> Result<(), TryInitError> {
    let ours = LevelFilter::from_level(logging.level);
    let theirs = match logging.level {
        tracing::Level::TRACE => LevelFilter::DEBUG,
        tracing::Level::DEBUG => LevelFilter::INFO,
        tracing::Level::ERROR => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    // kube's own lines about failed requests repeat what the caller logs with a remedy.
    let kubes = if logging.level >= tracing::Level::DEBUG { theirs } else { LevelFilter::OFF };
    let targets = Targets::new()
        .with_default(theirs)
        .with_target("metrics_core", ours)
        .with_targets([("kube_client", kubes), ("kube_runtime", kubes)]);
    let layer = match logging.format {
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(std::io::stderr).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()
}
