//! Compares metrics-core with metrics-server and prints the result of each request of the matrix.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::differential;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Sends the same requests to metrics-core and to metrics-server v0.9.0 on one cluster. Prints how many responses are
/// equal, each intended difference with its reason and count, and all other differences.
#[derive(Parser)]
#[command(name = "differential")]
struct Arguments {
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "differential")]
    name: String,
    /// Keep the cluster, with the logs of both servers.
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
