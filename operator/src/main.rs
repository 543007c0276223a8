//! The process: parses flags, starts the log and one thread, and calls [`operator::run`].

use clap::Parser;
use operator::{Flags, LogFormat};
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
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
    // Libraries may log object contents at debug level, so only their warnings are shown.
    let levels = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("operator", flags.log_level)
        // Reconnects of watches are normal. The operator logs the errors that matter.
        .with_target("kube_runtime::watcher", tracing_subscriber::filter::LevelFilter::ERROR)
        // The caller logs each 5xx response with its consequence.
        .with_target("kube_client::client::builder", tracing_subscriber::filter::LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(levels);
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
