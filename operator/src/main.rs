//! The process: flags, log, one thread, and then [`operator::run`].

use clap::Parser;
use operator::settings::{Flags, LogFormat};
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
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
    match runtime.block_on(operator::run::run(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn log(flags: &Flags) {
    // Libraries log at debug what may hold object contents; only their warnings are ever shown.
    let levels = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("operator", flags.log_level)
        // Reconnects of watches are normal; what matters of them is told by the operator itself.
        .with_target("kube_runtime::watcher", tracing_subscriber::filter::LevelFilter::ERROR)
        // Each answer of 5xx is told by whoever asked, with what it means.
        .with_target("kube_client::client::builder", tracing_subscriber::filter::LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(levels);
    match flags.log_format {
        LogFormat::Text => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).init();
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
        }
    }
}
