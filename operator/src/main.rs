//! The process: parses flags, starts the log and one thread, and calls [`operator::run`].

use clap::Parser;
use operator::{Flags, LogFormat};
use std::process::ExitCode;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let flags = Flags::parse();
    log(&flags);
    // One thread is enough for one reconcile at a time, and keeps the operator small.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the asynchronous runtime did not start");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(operator::run(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn log(flags: &Flags) {
    let registry = tracing_subscriber::registry().with(levels(flags.log_level));
    // At debug level, each step of a round logs its end with its duration.
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_span_events(FmtSpan::CLOSE);
    match flags.log_format {
        LogFormat::Text => {
            registry.with(layer).init();
        }
        LogFormat::Json => {
            registry.with(layer.json()).init();
        }
    }
}

/// Returns which levels of which modules are logged.
fn levels(ours: LevelFilter) -> Targets {
    // Libraries may log object contents at debug level, so only their warnings are shown.
    Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("operator", ours)
        // Reconnects of watches are normal. The operator logs the errors that matter.
        .with_target("kube_runtime::watcher", LevelFilter::ERROR)
        // It logs the body of each response that it can't decode, also of a Secret; and the operator logs each 5xx response
        // with its consequence.
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_target("kube_client::client::tls", LevelFilter::WARN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_responses_are_not_logged_at_any_level() {
        for ours in [LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE] {
            let levels = levels(ours);
            for level in [tracing::Level::ERROR, tracing::Level::WARN, tracing::Level::DEBUG] {
                assert!(!levels.would_enable("kube_client::client", &level), "{level}");
            }
            assert!(levels.would_enable("kube_client::client::tls", &tracing::Level::WARN));
            assert!(levels.would_enable("operator::run", &tracing::Level::INFO));
        }
    }
}
