//! The cost of metrics-core in a cluster of thousands of nodes, compared with metrics-server or with other builds, on the
//! same fleet in the same run.
//!
//! ```text
//! population   nodes and pods by number: their names, objects and addresses
//! fleet        all kubelets in one process
//! seed         the population in etcd, kept for the next run
//! env          etcd, kube-apiserver and the fleet in a network of their own
//! candidate    a server to measure, as a process in that network
//! measure      its figures, from /proc (usage) and as a client sees them
//! soak         its memory over a long time
//! median       the figures of several runs of one server
//! conditions   machine, versions and date of the figures
//! report       tables (and chart)
//! ```

pub mod candidate;
pub mod chart;
pub mod conditions;
pub mod env;
pub mod fleet;
pub mod measure;
mod median;
pub mod population;
pub mod report;
mod seed;
pub mod soak;
pub mod usage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::candidate::{Candidate, ServerKind};
pub use self::conditions::Conditions;
use self::env::BenchEnv;
pub use self::measure::{Figures, Method};
pub use self::median::medians;
pub use self::population::Population;
use crate::error::Result;
use crate::progress::Progress;

/// Converts a count for figures, which are rounded anyway.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A run, as the outer process hands it to the one inside the network.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The name of the environment, of its directories and of its network.
    pub name: String,
    /// How to measure.
    pub method: Method,
    /// The servers to measure, one after the other.
    pub candidates: Vec<Candidate>,
    /// The directory of etcd and kube-apiserver.
    pub binaries: PathBuf,
}

/// Runs a plan inside the network; returns the figures of each run, the candidates taking turns.
pub async fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Figures>> {
    let population = Population { nodes: plan.method.nodes, pods_per_node: plan.method.pods_per_node };
    let mut env = BenchEnv::start(&plan.name, population, &plan.binaries, progress).await?;
    let mut runs = Vec::new();
    for repetition in 1..=plan.method.repetitions {
        for candidate in &plan.candidates {
            if plan.method.repetitions > 1 {
                progress
                    .say(format!("round {repetition} of {}: {}", plan.method.repetitions, candidate.name));
            }
            runs.push(measure::measure(candidate, &plan.method, &mut env, progress).await?);
        }
    }
    Ok(runs)
}
