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
//! | `schedule`, `table` | which runs, and their results |

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

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use env::Programs;
pub use journey::Journey;
pub use table::Results;

use crate::command;
use crate::error::{Doing as _, Result};
use crate::progress::Progress;
use crate::testbed::cluster::Layout;
use crate::testbed::{images, isolated};
use env::Env;

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
}

/// Runs the plan in a network of its own.
pub fn run(plan: &Plan, programs: Programs, progress: &Progress) -> Result<Results> {
    let (layout, network) = isolated::prepare(&plan.name)?;
    let results = network.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing(|| "start a runtime".to_owned())?;
        runtime.block_on(run_inside(plan, layout.clone(), programs, progress))
    });
    isolated::remove(&layout);
    results
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

async fn run_inside(plan: &Plan, layout: Layout, programs: Programs, progress: &Progress) -> Result<Results> {
    let mut env = Env::start(layout, programs, progress).await?;
    let mut results = Results::default();
    let (mut all, mut once) = (Vec::new(), BTreeSet::new());
    for journey in plan.journeys.iter().copied() {
        let (baseline, violations) = run::undisturbed(&mut env, journey).await?;
        progress.say(format!(
            "{journey}: {} writes in {:.1} s: {}",
            baseline.writes.len(),
            baseline.took.as_secs_f64(),
            baseline.writes.join(", ")
        ));
        for violation in violations {
            progress.say(format!("{journey}, undisturbed: {violation}"));
            results.problems.push(format!("{journey}, undisturbed: {violation}"));
        }
        all.extend(schedule::faults(&baseline, &mut once).into_iter().map(|fault| (journey, fault)));
        results.baselines.insert(journey, baseline);
    }
    all.retain(|(_, fault)| {
        plan.filter.as_ref().is_none_or(|text| fault.to_string().contains(text.as_str()))
    });
    results.listed = all.len();
    let runs = schedule::sample(all, plan.sample.unwrap_or(usize::MAX), plan.seed);
    let count = runs.len();
    for (number, (journey, fault)) in runs.into_iter().enumerate() {
        let Some(baseline) = results.baselines.get(&journey) else { continue };
        match run::disturbed(&mut env, journey, &fault, baseline).await {
            Ok(outcome) => {
                let reached = if outcome.reached { "" } else { " (not reached)" };
                let took = outcome.took.as_secs_f64();
                progress.say(format!("{}/{count} {journey}, {fault}: {took:.1} s{reached}", number + 1));
                for violation in &outcome.violations {
                    progress.say(format!("  VIOLATION {violation}"));
                }
                if !outcome.violations.is_empty() {
                    progress.say(env::last_log(&env.layout));
                }
                results.outcomes.push(outcome);
            }
            Err(error) => {
                let kubelet = env.kubelet_error.lock().clone();
                let problem = format!("{journey}, {fault}: {error} (stand-in: {kubelet})");
                progress.say(&problem);
                results.problems.push(problem);
            }
        }
    }
    env.kill_operators().await?;
    Ok(results)
}
