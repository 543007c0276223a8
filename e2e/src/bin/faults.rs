//! Injects one fault after the other and prints how the conditions and `doctor` report each.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::faults::{self, FRONT_PROXY, Fault, FaultEnv, KUBELETS, PATH, SAMPLES, Table};
use e2e::testbed::images;
use e2e::{Cluster, ClusterSpec, Progress, Result};

/// Injects each fault into a real cluster. Prints which condition reported it with which reason, and the seconds
/// until the condition reported it, until `doctor` did, and until both were as before after the repair. Fails if any
/// of these takes longer than the fault's limit, usually 30 s.
#[derive(Parser)]
#[command(name = "faults")]
struct Arguments {
    /// Only faults whose name contains this text.
    filter: Option<String>,
    /// Name of the cluster; an existing one is used. It is taken down at the end.
    #[arg(long, default_value = "faults")]
    name: String,
    /// Use the pipeline that is installed, without loading images.
    #[arg(long)]
    as_is: bool,
    /// Keep the cluster.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let spec = ClusterSpec::new(&arguments.name).apiserver_flags(faults::flags());
    let spec = if arguments.keep { spec } else { spec.owned_by_this_process() };
    let cluster = Cluster::up(&spec, &progress)?;
    let (before, began) = (load(), jiff::Timestamp::now());
    let table = all(arguments, &cluster, &progress);
    if !arguments.keep {
        Cluster::down(&arguments.name, &progress)?;
    }
    let table = table?;
    println!("{table}");
    println!(
        "Measured from {began:.0} to {:.0}, {}; load average {before} before and {} after (1, 5 and 15 min).",
        jiff::Timestamp::now(),
        e2e::testbed::binaries::versions(),
        load()
    );
    Ok(table.is_good())
}

fn all(arguments: &Arguments, cluster: &Cluster, progress: &Progress) -> Result<Table> {
    let env = FaultEnv::new(cluster, progress)?;
    progress.step("the pipeline is Ready", |_| {
        if arguments.as_is {
            faults::settled(&env.client)
        } else {
            faults::prepare(&env.client, cluster, &images::for_scenarios(progress)?, progress)
        }
    })?;
    let mut table = Table::default();
    let wanted =
        |fault: &&Fault| arguments.filter.as_ref().is_none_or(|part| fault.name.contains(part.as_str()));
    for fault in [FRONT_PROXY, KUBELETS, SAMPLES, PATH].into_iter().flatten().filter(wanted) {
        let outcome = progress.step(fault.name, |_| fault.run(&env));
        table.add(fault, outcome);
    }
    Ok(table)
}

/// Returns the load averages of the machine.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
