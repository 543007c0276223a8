//! A simulated world for the pure parts: [`plan`](crate::plan), [`pki`](crate::pki) and [`nanny`](crate::nanny).
//!
//! A seed gives a history: a spec, and what users, other controllers, machines, clocks and the operator's own process do
//! ([`event`]). [`world`] is the cluster around the operator: [`store`] has the objects with their field managers,
//! [`replicas`] the pods and their kubelets, and each of three kube-apiservers learns of changed APIServices with a lag. [`operator`] is the
//! process around the real planner: it reads, plans, writes in order, and any write may fail or be its last. [`rules`] has what must hold at every moment.
//! In the end all disturbances end: then the desired state must be reached, and after that nothing may be written.
//!
//! A failing seed is reported with the fewest events that still break the rule. `SIMULATION_SEED=7 cargo test -p operator
//! simulation` replays one with its trace; `SIMULATION_SEEDS=100000 cargo simulate` plays many. Time is simulated: nothing waits.

mod event;
mod history;
mod operator;
mod replicas;
mod rules;
mod sizes;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use event::{Event, history as history_of};
use history::{Counts, Failure, play};

/// The namespaces that the operator may be installed into.
const NAMESPACES: [&str; 3] = ["metrics-system", "other", "third"];

/// The count of kube-apiservers.
const SERVERS: usize = 3;

/// The count of histories in a normal run of the tests.
const SAMPLE: u64 = 7;

#[test]
fn histories_break_no_rule_and_end_settled() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let events = history_of(seed);
        if let Err(failure) = play(seed, &events, true) {
            report(seed, &events, &failure);
        }
        return;
    }
    let (from, seeds) =
        (number("SIMULATION_FROM").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(SAMPLE));
    let (begin, counts) = (Instant::now(), [AtomicU64::new(0), AtomicU64::new(0)]);
    let failed = in_threads(from, seeds, |seed| {
        let Counts { rounds, writes } = play(seed, &history_of(seed), false).map_err(|_| seed)?;
        counts[0].fetch_add(rounds, Ordering::Relaxed);
        counts[1].fetch_add(writes, Ordering::Relaxed);
        Ok(())
    });
    println!(
        "{seeds} histories, {} rounds, {} writes, {:.0} s",
        counts[0].load(Ordering::Relaxed),
        counts[1].load(Ordering::Relaxed),
        begin.elapsed().as_secs_f64()
    );
    if let Some(seed) = failed.first() {
        println!("{} seeds fail: {:?}", failed.len(), &failed[..failed.len().min(20)]);
        let events = history_of(*seed);
        let failure = play(*seed, &events, false).expect_err("it failed before");
        report(*seed, &events, &failure);
    }
}

/// Panics with the fewest events that break the same rule.
fn report(seed: u64, events: &[Event], failure: &Failure) {
    let class =
        |failure: &Failure| failure.why.split(|c: char| c.is_ascii_digit()).next().unwrap_or("").to_owned();
    let wanted = class(failure);
    let events = shrink(events.to_vec(), |fewer| {
        play(seed, fewer, false).is_err_and(|failure| class(&failure) == wanted)
    });
    let failure = play(seed, &events, true).expect_err("it failed before");
    let shown: Vec<_> = events.iter().map(|event| format!("  {event:?}")).collect();
    panic!(
        "seed {seed}: {}\nevents:\n{}\ntrace:\n{}",
        failure.why,
        shown.join("\n"),
        failure.trace.join("\n")
    );
}

/// Removes items as long as what is left still fails.
fn shrink<T: Clone>(mut items: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut at = items.len();
    while at > 0 {
        at -= 1;
        let mut fewer = items.clone();
        fewer.remove(at);
        if fails(&fewer) {
            items = fewer;
        }
    }
    items
}

/// Runs seeds on all processors. Returns those that fail.
fn in_threads(from: u64, seeds: u64, run: impl Fn(u64) -> Result<(), u64> + Sync) -> Vec<u64> {
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut failed: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds {
                    return failed;
                }
                failed.extend(run(seed).err());
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    failed.sort_unstable();
    failed
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
