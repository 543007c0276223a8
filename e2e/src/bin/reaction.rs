//! Measures how soon an autoscaler reacts to a load, with metrics-core and with metrics-server.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use e2e::bench::reaction::{self, Case, ReactionPlan};
use e2e::testbed::cluster::{KubeletKind, autoscaler_defaults};
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Starts load in pods on a real cluster and prints how long a HorizontalPodAutoscaler takes to want another pod: median
/// and 95th percentile for each server and each kind of kubelet.
#[derive(Parser)]
#[command(name = "reaction")]
struct Arguments {
    /// Number of measurements with each server and each kind of kubelet.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Number of autoscalers that are measured in parallel, each with a pod of 100m.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16))]
    autoscalers: u32,
    /// Kinds of kubelet: cached container samples, as a stock kubelet returns them, or new ones for each request.
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_values = ["cached", "on-demand"])]
    kubelet: Vec<KubeletKind>,
    /// Servers with their scrape intervals.
    #[arg(
        long,
        value_name = "SERVER@INTERVAL",
        value_delimiter = ',',
        default_values = ["metrics-core@15s", "metrics-server@15s", "metrics-core@5s", "metrics-core@1s"]
    )]
    case: Vec<Case>,
    /// Settings of the autoscaler's controller.
    #[arg(long, value_name = "SETTINGS", default_value = "defaults")]
    hpa: Settings,
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "reaction")]
    name: String,
}

#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum Settings {
    /// The defaults of kube-controller-manager: sync period 15 s, CPU initialization period 5 min.
    Defaults,
    /// Those of the scenarios: 5 s and 10 s.
    Fast,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let (changes, sync) = match arguments.hpa {
        Settings::Defaults => (autoscaler_defaults(), "15 s, CPU initialization period 5 min"),
        Settings::Fast => (Vec::new(), "5 s, CPU initialization period 10 s"),
    };
    let spec = ClusterSpec::new(&arguments.name).controller_manager_flags(changes).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    let plan = ReactionPlan {
        steps: arguments.steps,
        autoscalers: arguments.autoscalers,
        kubelets: arguments.kubelet.clone(),
        cases: arguments.case.clone(),
    };
    let times = reaction::run(&cluster, &plan, &progress);
    Cluster::down(&arguments.name, &progress)?;
    println!("{}\nAutoscaler: sync period {sync}; {} in parallel.", times?, arguments.autoscalers);
    Ok(true)
}
