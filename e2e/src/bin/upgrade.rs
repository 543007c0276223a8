//! Measures whether lists of pods fail while the chart is upgraded from an earlier commit, rolled back and upgraded again.

#![allow(clippy::print_stdout, reason = "what it shows is its output")]

use std::process::ExitCode;

use clap::Parser;
use e2e::bench::upgrade::{self, Release};
use e2e::testbed::cluster::KubeletKind;
use e2e::testbed::images::ProjectImages;
use e2e::testbed::{images, pipeline};
use e2e::{Cluster, ClusterSpec, Progress, Result};
use serde_json::json;

/// Installs the chart of an earlier commit with its images, upgrades to this chart, rolls back, and upgrades again, while all
/// pods are listed ten times a second and the operator is killed in each step. Fails if a list fails. The first run builds the
/// programs of the earlier commit, which takes some minutes, and caches them.
#[derive(Parser)]
#[command(name = "cargo upgrade")]
struct Arguments {
    /// The earlier commit.
    #[arg(long, default_value = "b1217cc")]
    from: String,
    /// Name of the cluster, which is taken down at the end.
    #[arg(long, default_value = "upgrade")]
    name: String,
}

/// The image of metrics-core in its Deployment.
const IMAGE: &str = "/spec/template/spec/containers/0/image";

fn main() -> ExitCode {
    e2e::cli::main(run)
}

fn run(arguments: &Arguments) -> Result<bool> {
    let progress = Progress::default();
    let (earlier, chart) = images::of_commit(&arguments.from, &progress)?;
    let current = images::for_scenarios(&progress)?;
    let release = |title: &str, chart, images: &ProjectImages| Release {
        title: title.to_owned(),
        chart,
        values: pipeline::values(images),
        shown_by: (IMAGE, json!(images.metrics_core.reference)),
    };
    let from = release(&arguments.from, chart, &earlier);
    let to = release("this chart", pipeline::chart(), &current);
    // Earlier charts create no MetricsPipeline; the hook of this one leaves it alone.
    let manifest = pipeline::manifest(pipeline::NAME, &json!({"metricsCore": {"replicas": 2}}));

    let spec = ClusterSpec::new(&arguments.name).kubelet(KubeletKind::Cached).owned_by_this_process();
    let cluster = Cluster::up(&spec, &progress)?;
    cluster.load(&images::busybox()?)?;
    pipeline::load(&cluster, &earlier)?;
    pipeline::load(&cluster, &current)?;
    let found = upgrade::run(&cluster, &from, &to, Some(&manifest), &progress);
    Cluster::down(&arguments.name, &progress)?;
    let found = found?;
    println!("{found}\nMeasured {:.0}, {}.", jiff::Timestamp::now(), e2e::testbed::binaries::versions());
    Ok(found.failed.is_empty())
}
