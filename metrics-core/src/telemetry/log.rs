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
    let targets = targets(logging.level);
    let layer = match logging.format {
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(std::io::stderr).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()
}

/// Returns which levels of which modules are logged.
fn targets(level: tracing::Level) -> Targets {
    let ours = LevelFilter::from_level(level);
    let theirs = match level {
        tracing::Level::TRACE => LevelFilter::DEBUG,
        tracing::Level::DEBUG => LevelFilter::INFO,
        tracing::Level::ERROR => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    // kube's own lines about failed requests repeat what the caller logs with a remedy.
    let kubes = if level >= tracing::Level::DEBUG { theirs } else { LevelFilter::OFF };
    Targets::new()
        .with_default(theirs)
        .with_target("metrics_core", ours)
        .with_targets([("kube_client", kubes), ("kube_runtime", kubes)])
        // It logs the body of each response that it can't decode, also that of the serving Secret.
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_target("kube_client::client::tls", kubes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn bodies_of_responses_are_not_logged_at_any_level() {
        for ours in [tracing::Level::INFO, tracing::Level::DEBUG, tracing::Level::TRACE] {
            let targets = super::targets(ours);
            for level in [tracing::Level::ERROR, tracing::Level::WARN, tracing::Level::DEBUG] {
                assert!(!targets.would_enable("kube_client::client", &level), "{ours} {level}");
            }
            assert!(targets.would_enable("metrics_core::api", &tracing::Level::INFO));
        }
    }
}
