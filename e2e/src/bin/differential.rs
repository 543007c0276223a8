//! metrics-core beside the real metrics-server: prints the matrix with its counts.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::differential;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Asks metrics-core and metrics-server v0.9.0, side by side on one cluster, the same questions; prints how many
/// answers are equal, each intended difference with its reason and count, and all that are not intended.
#[derive(Parser)]
#[command(name = "differential")]
struct Arguments {
    /// The cluster's name. It is taken down at the end.
    #[arg(long, default_value = "differential")]
    name: String,
    /// Leave the cluster up, with both servers' logs.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let spec = ClusterSpec::new(&arguments.name).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    let report = differential::run(&cluster, &progress);
    if !arguments.keep {
        Cluster::down(&arguments.name, &progress)?;
    }
    let report = report?;
    println!("{report}");
    Ok(report.is_as_intended())
}
