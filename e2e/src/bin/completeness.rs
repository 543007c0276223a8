//! Measures whether lists of pods are complete and plausible while replicas are replaced and containers restart.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::completeness::{self, CompletenessPlan};
use e2e::testbed::cluster::KubeletKind;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Lists all pods ten times a second on a real cluster with a cached kubelet: while two replicas of metrics-core are rolled
/// out, killed and evicted, after starts of an only replica, and while containers that use CPU restart. Fails if a
/// list lacks a pod that ran for a minute while two replicas serve, or has an implausible value.
#[derive(Parser)]
#[command(name = "completeness")]
struct Arguments {
    /// Number of rollouts, of kills and of evictions.
    #[arg(long, default_value_t = 20)]
    disruptions: u32,
    /// Number of starts of an only replica, with each kind of kubelet.
    #[arg(long, default_value_t = 10)]
    starts: u32,
    /// Number of restarts of containers.
    #[arg(long, default_value_t = 1000)]
    restarts: u32,
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "completeness")]
    name: String,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let spec = ClusterSpec::new(&arguments.name).kubelet(KubeletKind::Cached).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    let plan = CompletenessPlan {
        disruptions: arguments.disruptions,
        starts: arguments.starts,
        restarts: arguments.restarts,
    };
    let found = completeness::run(&cluster, &plan, &progress);
    Cluster::down(&arguments.name, &progress)?;
    let found = found?;
    println!("{found}\nMeasured {:.0}, {}.", jiff::Timestamp::now(), e2e::testbed::binaries::versions());
    Ok(found.problems.is_empty())
}
