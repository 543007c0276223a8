//! Makes the runs of a plan, on several control planes at the same time: a run mostly waits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::env::{self, Env};
use super::fault::Fault;
use super::journey::Journey;
use super::run::{self, Outcome};
use super::table::Results;
use super::{Plan, Programs, schedule};
use crate::error::{Doing as _, Error, Result};
use crate::progress::Progress;
use crate::testbed::isolated;

/// What the workers share.
struct Shared<'a> {
    plan: &'a Plan,
    programs: &'a Programs,
    began: Instant,
    results: Mutex<Results>,
    queue: Mutex<VecDeque<(Journey, Fault)>>,
}

/// Makes the runs of a plan, each worker in a network of its own.
pub fn run(plan: &Plan, programs: &Programs, progress: &Progress) -> Result<Results> {
    let shared =
        Shared { plan, programs, began: Instant::now(), results: Mutex::default(), queue: Mutex::default() };
    let shared = &shared;
    let (begin, others): (Vec<_>, Vec<_>) = (1..plan.parallel).map(|_| channel()).unzip();
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let first = scope.spawn(|| worker(shared, 0, Start::Baselines(begin), progress));
        let others: Vec<_> = others
            .into_iter()
            .zip(1..)
            .map(|(begin, number)| scope.spawn(move || worker(shared, number, Start::After(begin), progress)))
            .collect();
        let panicked = |_| Err(Error::Invalid("a worker panicked".to_owned()));
        std::iter::once(first).chain(others).map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    let mut results = std::mem::take(&mut *shared.results.lock());
    results.outcomes.sort_by(|left, right| (left.journey, &left.fault).cmp(&(right.journey, &right.fault)));
    Ok(results)
}

/// With what a worker begins.
enum Start {
    /// The undisturbed runs; then the others begin.
    Baselines(Vec<Sender<()>>),
    /// When the undisturbed runs were made.
    After(Receiver<()>),
}

fn worker(shared: &Shared<'_>, number: usize, start: Start, progress: &Progress) -> Result<()> {
    let begin = match start {
        Start::Baselines(begin) => Some(begin),
        Start::After(begin) => {
            // The first worker failed and reports why.
            if begin.recv().is_err() || shared.queue.lock().len() <= number {
                return Ok(());
            }
            None
        }
    };
    let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    let (layout, network) = isolated::prepare(&format!("{}{suffix}", shared.plan.name))?;
    let result = network.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.doing(|| "start a runtime".to_owned())?.block_on(async {
            let mut env = Env::start(layout.clone(), shared.programs.clone(), progress).await?;
            if let Some(begin) = begin {
                baselines(shared, &mut env, progress).await?;
                // A worker that is gone needs no message.
                for begin in &begin {
                    let _ = begin.send(());
                }
            }
            disturbed(shared, &mut env, progress).await;
            env.kill_operators().await
        })
    });
    isolated::remove(&layout);
    result
}

/// Runs each journey undisturbed, and lists the runs with faults.
async fn baselines(shared: &Shared<'_>, env: &mut Env, progress: &Progress) -> Result<()> {
    let plan = shared.plan;
    let (mut all, mut once) = (Vec::new(), BTreeSet::new());
    for journey in plan.journeys.iter().copied() {
        let (baseline, violations) = run::undisturbed(env, journey).await?;
        progress.say(format!(
            "{journey}: {} writes in {:.1} s: {}",
            baseline.writes.len(),
            baseline.took.as_secs_f64(),
            baseline.writes.join(", ")
        ));
        all.extend(schedule::faults(&baseline, &mut once).into_iter().map(|fault| (journey, fault)));
        let mut results = shared.results.lock();
        for violation in violations {
            progress.say(format!("{journey}, undisturbed: VIOLATION {violation}"));
            results.problems.push(format!("{journey}, undisturbed: {violation}"));
        }
        results.baselines.insert(journey, baseline);
    }
    all.retain(|(_, fault)| {
        plan.filter.as_ref().is_none_or(|text| fault.to_string().contains(text.as_str()))
    });
    shared.results.lock().listed = all.len();
    let runs = schedule::sample(all, plan.sample.unwrap_or(usize::MAX), plan.seed);
    *shared.queue.lock() = runs.into();
    Ok(())
}

/// Makes runs until none is left or the time is over.
async fn disturbed(shared: &Shared<'_>, env: &mut Env, progress: &Progress) {
    while shared.plan.time.is_none_or(|time| shared.began.elapsed() < time) {
        let Some((journey, fault)) = shared.queue.lock().pop_front() else { return };
        let Some(baseline) = shared.results.lock().baselines.get(&journey).cloned() else { continue };
        let outcome = run::disturbed(env, journey, &fault, &baseline).await;
        let left = shared.queue.lock().len();
        match outcome {
            Ok(outcome) => {
                progress.say(describe(&outcome, env, left));
                shared.results.lock().outcomes.push(outcome);
            }
            Err(error) => {
                let kubelet = env.kubelet_error.lock().clone();
                let problem = format!("{journey}, {fault}: {error} (stand-in: {kubelet})");
                progress.say(&problem);
                shared.results.lock().problems.push(problem);
            }
        }
    }
}

fn describe(outcome: &Outcome, env: &Env, left: usize) -> String {
    let Outcome { journey, fault, took, violations, .. } = outcome;
    let reached = if outcome.reached { "" } else { " (not reached)" };
    let mut text = format!("{left} left; {journey}, {fault}: {:.1} s{reached}", took.as_secs_f64());
    for violation in violations {
        text.push_str("\n  VIOLATION ");
        text.push_str(violation);
    }
    if !violations.is_empty() {
        text.push('\n');
        text.push_str(&env::last_log(&env.layout));
    }
    text
}
