//! What metrics-core costs in a cluster of thousands of nodes, beside the peer, on the same fleet in the same run.
//!
//! ```text
//! population   nodes and pods by number: their names, objects and addresses
//! fleet        all kubelets in one process
//! seed         them in etcd, kept for the next run
//! stand        etcd, kube-apiserver and the fleet in a network of their own
//! candidate    a server, started against the stand
//! measure      its figures, by /proc and as a client sees them (usage)
//! soak         its memory over a long time
//! conditions   under which they were had
//! report       tables, and the chart
//! ```

pub mod candidate;
pub mod chart;
pub mod conditions;
pub mod env;
pub mod fleet;
pub mod measure;
pub mod population;
pub mod report;
mod seed;
pub mod soak;
pub mod usage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::candidate::{Candidate, Kind};
pub use self::conditions::Conditions;
use self::env::Stand;
pub use self::measure::{Figures, Method};
pub use self::population::Population;
use crate::error::Result;
use crate::progress::Progress;

/// Counts in figures that are rounded anyway.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// A run, as it is handed into the network.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The name of the stand: of its directories and its network.
    pub stand: String,
    /// How to measure.
    pub method: Method,
    /// What to measure, one after the other.
    pub candidates: Vec<Candidate>,
    /// The directory of etcd and kube-apiserver.
    pub binaries: PathBuf,
}

/// Runs a plan; inside the network.
pub async fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Figures>> {
    let population = Population { nodes: plan.method.nodes, pods_per_node: plan.method.pods_per_node };
    let mut stand = Stand::start(&plan.stand, population, &plan.binaries, progress).await?;
    let mut all = Vec::new();
    for candidate in &plan.candidates {
        all.push(measure::measure(candidate, &plan.method, &mut stand, progress).await?);
    }
    Ok(all)
}
