//! Simulates the nanny and addon-resizer 1.8 in clusters that grow, flap, lose a zone and explode.
//!
//! `cargo run -p operator --example nanny-sim` writes a plot for each trace to docs/nanny and prints the counts.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a command-line program")]

mod addon_resizer;
mod cluster;
mod plot;

use std::path::Path;

use crds::{Estimator, MetricsPipelineSpec};
use jiff::Timestamp;
use operator::inspect::nanny::{Nanny, NannyInput, Policy};

use cluster::{Cluster, TRACES};

/// The result of one policy for a trace.
pub struct Run {
    /// The policy.
    pub name: &'static str,
    /// Memory in MiB, per second.
    pub memory: Vec<f64>,
    /// The seconds at which the size changed.
    pub changes: Vec<usize>,
    /// The number of OOM kills, at most one a minute.
    pub kills: usize,
    /// The second of the last OOM kill.
    killed: Option<usize>,
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nanny");
    std::fs::create_dir_all(&folder).expect("a folder");
    println!(
        "| trace | Measured | Linear | Exponential | addon-resizer linear | addon-resizer exponential |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    for trace in TRACES {
        let cluster = Cluster::new(trace);
        let runs = [
            ours("Measured", &spec(Estimator::Measured), &cluster),
            ours("Linear", &spec(Estimator::Linear), &cluster),
            ours("Exponential", &spec(Estimator::Exponential), &cluster),
            addon_resizer::run("addon-resizer linear", false, &cluster),
            addon_resizer::run("addon-resizer exponential", true, &cluster),
        ];
        let cells: Vec<_> = runs.iter().map(cell).collect();
        println!("| {} | {} |", trace.title, cells.join(" | "));
        let file = folder.join(format!("{}.svg", trace.name));
        std::fs::write(file, plot::svg(&cluster, &runs)).expect("a plot");
    }
}

/// Formats the number of changes and of OOM kills.
fn cell(run: &Run) -> String {
    let kills = if run.kills == 0 { String::new() } else { format!(" ({} × out of memory)", run.kills) };
    format!("{}{kills}", run.changes.len())
}

/// Returns the default spec with `minClusterSize: 5`.
fn spec(estimator: Estimator) -> MetricsPipelineSpec {
    let mut spec = MetricsPipelineSpec::default();
    spec.nanny.estimator = estimator;
    spec.nanny.min_cluster_size = 5;
    spec
}

fn ours(name: &'static str, spec: &MetricsPipelineSpec, cluster: &Cluster) -> Run {
    let policy = Policy::new(spec);
    let mut nanny = Nanny::default();
    let mut run = Run::new(name);
    for second in 0..cluster.seconds() {
        let now = time(second);
        let input = NannyInput {
            population: Some(cluster.nodes[second]),
            usage: cluster.usage(second),
            current_memory: None,
            last_oom_kill: None,
            now,
        };
        let recommended = nanny.recommend(policy, None, &input).recommended.expect("a size");
        #[allow(clippy::cast_precision_loss, reason = "a plot")]
        run.record(second, recommended.size.memory as f64 / f64::from(1 << 20), cluster);
    }
    run
}

/// Converts a second of the trace to a timestamp.
#[must_use]
pub fn time(second: usize) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap_or(0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Run {
    /// Returns an empty result.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, memory: Vec::new(), changes: Vec::new(), kills: 0, killed: None }
    }

    /// Records the size at a second and compares it with the usage.
    pub fn record(&mut self, second: usize, mebi: f64, cluster: &Cluster) {
        if self.memory.last().is_some_and(|last| (last - mebi).abs() > f64::EPSILON) {
            self.changes.push(second);
        }
        if cluster.used[second] > mebi {
            // After an OOM kill the container restarts, and is killed again within a minute if the size stays.
            self.kills += usize::from(self.killed.is_none_or(|last| second - last >= 60));
            self.killed = Some(second);
        }
        self.memory.push(mebi);
    }
}
