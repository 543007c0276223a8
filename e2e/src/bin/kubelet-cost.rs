//! Measures what a scrape costs a node.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::bench::kubelet_cost::{self, KubeletCostPlan};
use e2e::testbed::cluster::KubeletKind;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Scrapes a real kubelet four times a second and prints the CPU that a scrape costs the kubelet, containerd and its shims:
/// their CPU while they are scraped, less what they use otherwise.
#[derive(Parser)]
#[command(name = "kubelet-cost")]
struct Arguments {
    /// Kinds of kubelet.
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_values = ["cached", "on-demand"])]
    kubelet: Vec<KubeletKind>,
    /// Numbers of containers, which idle; a pod has five.
    #[arg(long, value_delimiter = ',', default_values = ["10", "60", "220"])]
    containers: Vec<u32>,
    /// Seconds of each measurement, with scrapes and without.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Number of measurements, in turns with and without scrapes.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "kubelet-cost")]
    name: String,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let spec = ClusterSpec::new(&arguments.name).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    let plan = KubeletCostPlan {
        kubelets: arguments.kubelet.clone(),
        containers: arguments.containers.clone(),
        duration: Duration::from_secs(arguments.seconds),
        rounds: arguments.rounds,
    };
    let costs = kubelet_cost::run(&cluster, &plan, &progress);
    Cluster::down(&arguments.name, &progress)?;
    println!("{}\nMeasured {:.0}, {}.", costs?, jiff::Timestamp::now(), e2e::testbed::binaries::versions());
    Ok(true)
}
