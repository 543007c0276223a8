//! How soon an autoscaler acts on a load, with metrics-core and with metrics-server.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::reaction;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Lets a pod on a real cluster begin to use CPU and prints how long a HorizontalPodAutoscaler took to want another
/// one: with metrics-core at 5 s, metrics-server v0.9.0 at its 15 s, and metrics-core at 15 s.
#[derive(Parser)]
#[command(name = "reaction")]
struct Arguments {
    /// How many times, with each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: u32,
    /// The cluster's name. It is taken down at the end.
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
