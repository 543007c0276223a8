//! Measures how soon an autoscaler reacts to a load, with metrics-core and with metrics-server.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::reaction;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Starts load in a pod on a real cluster and prints how long a HorizontalPodAutoscaler takes to want another pod:
/// with metrics-core at 5 s, metrics-server v0.9.0 at 15 s, and metrics-core at 15 s.
#[derive(Parser)]
#[command(name = "reaction")]
struct Arguments {
    /// Number of measurements with each server.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: u32,
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "reaction")]
    name: String,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let spec = ClusterSpec::new(&arguments.name).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    let report = reaction::run(&cluster, arguments.steps, &progress);
    Cluster::down(&arguments.name, &progress)?;
    println!("{}", report?);
    Ok(true)
}
