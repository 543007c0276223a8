//! Faults between the operator and a real kube-apiserver.
//!
//! etcd, kube-apiserver and kube-controller-manager are the real ones. `kubelet` and `replica` stand in for the nodes and
//! for metrics-core, so that a journey takes seconds. The operator is a child process with the chart's permissions; it
//! reaches kube-apiserver only through `proxy`, which injects one `fault` into each run.
//!
//! | module | does |
//! |---|---|
//! | `journey` | the state before, the trigger, and when it is complete |
//! | `fault`, `call` | decides which request meets the fault (pure) |
//! | `run` | one journey with one fault, then the rules |
//! | `sampler`, `inventory`, `foreign` | what the rules are about: APIServices, objects, objects of others |
//! | `schedule`, `workers`, `table` | which runs, on how many control planes, and their results |

mod api;
mod call;
mod env;
mod fault;
mod foreign;
mod inventory;
mod journey;
mod kubelet;
mod operator;
mod proxy;
mod replica;
mod run;
mod sampler;
mod schedule;
mod table;
mod workers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use env::Programs;
pub use journey::Journey;
pub use table::Results;
pub use workers::run;

use crate::command;
use crate::error::Result;
use crate::progress::Progress;
use crate::testbed::images;

/// The namespace of the operator, and the one that it moves to.
const NAMESPACES: [&str; 2] = ["metrics-pipeline", "metrics-pipeline-2"];
/// The name of the MetricsPipeline.
const PIPELINE: &str = "cluster";
/// The name of the cluster's node.
const NODE: &str = "node";

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the network and the directories.
    pub name: String,
    /// The journeys.
    pub journeys: Vec<Journey>,
    /// Only faults whose description contains this text.
    pub filter: Option<String>,
    /// The number of runs; all if absent.
    pub sample: Option<usize>,
    /// The seed of the sample.
    pub seed: u64,
    /// The number of control planes on which runs are made at the same time.
    pub parallel: usize,
    /// No run begins after this time.
    pub time: Option<Duration>,
}

/// Builds the operator of this checkout; returns the program.
pub fn built_operator(progress: &Progress) -> Result<PathBuf> {
    let name = "metrics-pipeline-operator";
    progress.step("the operator built", |_| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command::output(cargo.args(["build", "--quiet", "--package", "operator", "--bin", name]))
    })?;
    Ok(images::target().join("debug").join(name))
}
