//! The log: lines on standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// How lines are written.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
}

/// Starts it. Libraries are heard from debug on, and their own debug lines at trace only.
pub fn start(logging: Logging) -> Result<(), TryInitError> {
    let ours = LevelFilter::from_level(logging.level);
    let theirs = match logging.level {
        tracing::Level::TRACE => LevelFilter::DEBUG,
        tracing::Level::DEBUG => LevelFilter::INFO,
        tracing::Level::ERROR => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    // kube's own lines on failed requests repeat what the asker tells with its remedy.
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
