//! What the nanny does as a cluster grows, flaps, breaks and explodes, beside what addon-resizer 1.8 would do.
//!
//! `cargo run -p operator --example nanny-sim` writes a plot for each trace to docs/nanny and prints the counts.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for a terminal")]

mod addon_resizer;
mod cluster;
mod plot;

use std::path::Path;

use crds::{Estimator, MetricsPipelineSpec};
use jiff::Timestamp;
use operator::nanny::{Nanny, NannyInput, Policy};

use cluster::{Cluster, TRACES};

/// One policy's way through a trace.
pub struct Run {
    /// Whose.
    pub name: &'static str,
    /// Memory in MiB, at each second.
    pub memory: Vec<f64>,
    /// When it changed.
    pub changes: Vec<usize>,
    /// How often more was used than there was, with a minute between.
    pub kills: usize,
    /// When it last was.
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

/// Changes, and how often memory ran out.
fn cell(run: &Run) -> String {
    let kills = if run.kills == 0 { String::new() } else { format!(" ({} × out of memory)", run.kills) };
    format!("{}{kills}", run.changes.len())
}

/// The defaults for metrics-core; the formulas with minClusterSize 5 as the seed has it.
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
        let sight = NannyInput {
            population: Some(cluster.nodes[second]),
            usage: cluster.usage(second),
            present: None,
            killed: None,
            now,
        };
        let recommended = nanny.step(policy, None, &sight).recommended.expect("a size");
        #[allow(clippy::cast_precision_loss, reason = "a plot")]
        run.take(second, recommended.size.memory as f64 / f64::from(1 << 20), cluster);
    }
    run
}

/// A second of the trace as a time.
#[must_use]
pub fn time(second: usize) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap_or(0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Run {
    /// One that has not begun.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, memory: Vec::new(), changes: Vec::new(), kills: 0, killed: None }
    }

    /// Takes the size at a second, and compares it with what is used then.
    pub fn take(&mut self, second: usize, mebi: f64, cluster: &Cluster) {
        if self.memory.last().is_some_and(|last| (last - mebi).abs() > f64::EPSILON) {
            self.changes.push(second);
        }
        if cluster.used[second] > mebi {
            // It is killed, starts again, and is killed again if nothing changed within a minute.
            self.kills += usize::from(self.killed.is_none_or(|last| second - last >= 60));
            self.killed = Some(second);
        }
        self.memory.push(mebi);
    }
}
