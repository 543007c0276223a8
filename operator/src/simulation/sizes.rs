//! The nanny over hours: clusters that grow, shrink and flap, usage with noise, restarts, and clocks that step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crds::{Estimator, MetricsPipelineSpec, ResourceAmounts};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{in_threads, number, shrink};
use crate::nanny::{Nanny, NannyInput, Policy, RecommendedSize, Size, Usage};

/// The count of traces in a normal run of the tests.
const SAMPLE: u64 = 60;

/// The time between two inputs.
const TICK: i64 = 15;

/// Some time with one behaviour of the cluster.
#[derive(Clone, Debug)]
struct Phase {
    minutes: i64,
    /// The counts of nodes between which it alternates.
    nodes: (u32, u32),
    /// Seconds from one count to the other.
    period: i64,
    /// The usage in thousandths of the usual one.
    usage: u64,
    /// By how many percent single samples differ at most.
    noise: u64,
    /// The operator starts again.
    restart: bool,
    /// Its clock steps by this many seconds.
    step: i64,
    /// The usage is unknown.
    blind: bool,
}

fn trace(seed: u64) -> (Policy, Vec<Phase>) {
    let mut random = Rng::with_seed(seed);
    let mut spec = MetricsPipelineSpec::default();
    let nanny = &mut spec.nanny;
    nanny.estimator = [Estimator::Measured, Estimator::Measured, Estimator::Linear, Estimator::Exponential]
        [random.usize(..4)];
    let seconds = |seconds: u64| kube::core::Duration::from(std::time::Duration::from_secs(seconds));
    nanny.scale_up_delay = seconds([5, 5, 0, 60][random.usize(..4)]);
    nanny.scale_down_delay = seconds([600, 600, 60, 1800][random.usize(..4)]);
    nanny.threshold = [5, 5, 0, 20][random.usize(..4)];
    let memory = |mebi: u32| ResourceAmounts { cpu: None, memory: Some(Quantity(format!("{mebi}Mi"))) };
    nanny.min = (random.u8(..4) == 0).then(|| memory(random.u32(10..100)));
    nanny.max = (random.u8(..4) == 0).then(|| memory(random.u32(100..500)));
    let policy = Policy::new(&spec);
    let phases = (0..random.usize(2..7)).map(|_| phase(&mut random, policy)).collect();
    (policy, phases)
}

fn phase(random: &mut Rng, policy: Policy) -> Phase {
    let nodes = [0, 1, 3, 20, 150, 1000, 5000][random.usize(..7)];
    // A few nodes come and go, or many for good.
    let more = if random.bool() { 0 } else { random.u32(0..=(nodes / 10).max(2)) };
    let most = u64::try_from(policy.scale_down_delay.as_secs() / 3).expect("positive");
    Phase {
        minutes: random.i64(60..240),
        nodes: (nodes, nodes + more),
        period: i64::try_from(random.u64(15..=most.max(16))).expect("small"),
        usage: random.u64(300..3000),
        noise: random.u64(..5),
        restart: random.u8(..4) == 0,
        step: [0, 0, 0, 61, -61, 3600, -3600, -86_400][random.usize(..8)],
        blind: random.u8(..8) == 0,
    }
}

struct Run {
    policy: Policy,
    nanny: Nanny,
    /// The time, and how far the clock is ahead.
    now: i64,
    ahead: i64,
    /// The size in the status of the MetricsPipeline.
    recorded: Option<RecommendedSize>,
    /// When the size last changed, by the true clock.
    changed: Option<i64>,
    random: Rng,
    calls: u64,
}

/// A change of the size.
struct Change {
    at: i64,
    from: Size,
    to: Size,
}

impl Run {
    /// Calls the nanny once. Returns the change, if there is one.
    fn tick(&mut self, nodes: u32, usage: Option<Usage>) -> Result<Option<Change>, String> {
        self.calls += 1;
        let input = NannyInput {
            population: Some(u64::from(nodes)),
            usage,
            current_memory: self.recorded.as_ref().map(|recorded| recorded.size.memory),
            last_oom_kill: None,
            now: self.clock(),
        };
        let advice = self.nanny.recommend(self.policy, self.recorded.clone(), &input);
        let new = advice.recommended.ok_or("no size")?;
        let before = self.recorded.replace(new.clone());
        let (min, max) = (self.policy.min, self.policy.max);
        if new.size.clamp(min, max) != new.size {
            return Err(format!("{} is not between {min} and {max}", new.size));
        }
        let Some(before) = before.filter(|before| before.size != new.size) else { return Ok(None) };
        self.decrease_is_safe(before.size, new.size, usage)?;
        self.changed = Some(self.now);
        Ok(Some(Change { at: self.now, from: before.size, to: new.size }))
    }

    fn decrease_is_safe(&self, from: Size, to: Size, usage: Option<Usage>) -> Result<(), String> {
        if to.memory < from.memory {
            let usage = usage.ok_or("memory decreases while the usage is unknown")?;
            if to.memory < usage.memory / 100 * 125 && to.memory < self.policy.max.memory {
                return Err(format!("memory decreases to {} with a usage of {}", to.memory, usage.memory));
            }
        }
        let is_smaller = to.memory < from.memory || to.cpu < from.cpu;
        let since = self.changed.map(|changed| SignedDuration::from_secs(self.now - changed));
        // A clock that steps changes how long the delay seems to be.
        if is_smaller && self.ahead == 0 && since.is_some_and(|since| since < self.policy.scale_down_delay) {
            return Err(format!("{to} instead of {from} after {since:?} only"));
        }
        Ok(())
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.now + self.ahead).expect("a time")
    }

    fn usage(&mut self, nodes: u32, permille: u64, noise: u64) -> Usage {
        let mut of = |base: u64, node: u64, noise: u64| {
            let mean = (base + node * u64::from(nodes)) * permille / 1000;
            mean * self.random.u64(100 - noise..=100 + noise) / 100
        };
        Usage {
            cpu: of(2_000_000, 8_000, noise),
            memory: of(12 << 20, 56 << 10, noise),
            sampled: self.clock(),
        }
    }

    fn play(&mut self, phase: &Phase) -> Result<(), String> {
        if phase.restart {
            self.nanny = Nanny::default();
        }
        self.ahead += phase.step;
        // Until then the size follows the previous phase.
        let warm_up = self.now + 1200 + 4 * self.policy.scale_down_delay.as_secs();
        let end = self.now + phase.minutes * 60;
        let mut late: Vec<Change> = Vec::new();
        while self.now < end {
            let nodes = if self.now / phase.period % 2 == 0 { phase.nodes.0 } else { phase.nodes.1 };
            let usage = (!phase.blind).then(|| self.usage(nodes, phase.usage, phase.noise));
            let change = self.tick(nodes, usage)?;
            late.extend(change.filter(|change| change.at > warm_up));
            self.now += TICK;
        }
        let ups = late
            .iter()
            .any(|change| change.to.cpu > change.from.cpu || change.to.memory > change.from.memory);
        let downs = late
            .iter()
            .any(|change| change.to.cpu < change.from.cpu || change.to.memory < change.from.memory);
        if (ups && downs) || late.len() > 3 {
            let sizes: Vec<_> = late
                .iter()
                .map(|change| format!("{} s: {} → {}", change.at, change.from, change.to))
                .collect();
            return Err(format!("the size oscillates in {phase:?}: {sizes:?}"));
        }
        Ok(())
    }

    /// Constant input: the size fits, and does not change any more.
    fn settle(&mut self) -> Result<(), String> {
        let nodes = 300;
        let end = self.now + 4 * 3600 + 6 * self.policy.scale_down_delay.as_secs();
        let mut last = None;
        while self.now < end {
            let usage = self.usage(nodes, 1000, 0);
            last = self.tick(nodes, Some(usage))?.map(|change| change.at).or(last);
            self.now += TICK;
        }
        let usage = self.usage(nodes, 1000, 0);
        let size = self.recorded.as_ref().ok_or("no size")?.size;
        if last.is_some_and(|last| last > end - 3600) {
            return Err(format!("the size still changes: {size}"));
        }
        let (min, max) = (self.policy.min.memory, self.policy.max.memory);
        if self.policy.by_formula(300).is_none() {
            // The nanny adds 32 MiB to the measured usage.
            let (min_needed, max_useful) = (usage.memory / 100 * 125, usage.memory / 10 * 25 + (36 << 20));
            if size.memory < min_needed.min(max) || size.memory > max_useful.max(min) {
                return Err(format!("{size} does not fit a usage of {}", usage.memory));
            }
        }
        Ok(())
    }
}

fn play(seed: u64, policy: Policy, phases: &[Phase]) -> Result<u64, String> {
    let mut run = Run {
        policy,
        nanny: Nanny::default(),
        now: 0,
        ahead: 0,
        recorded: None,
        changed: None,
        random: Rng::with_seed(seed),
        calls: 0,
    };
    phases.iter().try_for_each(|phase| run.play(phase))?;
    run.settle()?;
    Ok(run.calls)
}

#[test]
fn sizes_neither_oscillate_nor_take_memory_in_use() {
    let one = number("SIMULATION_SEED");
    let from = one.or_else(|| number("SIMULATION_FROM")).unwrap_or(0);
    let seeds = one.map_or_else(|| number("SIMULATION_SEEDS").unwrap_or(SAMPLE), |_| 1);
    let (begin, calls) = (Instant::now(), AtomicU64::new(0));
    let failed = in_threads(from, seeds, |seed| {
        let (policy, phases) = trace(seed);
        let called = play(seed, policy, &phases).map_err(|_| seed)?;
        calls.fetch_add(called, Ordering::Relaxed);
        Ok(())
    });
    println!("{seeds} traces, {} calls, {:.0} s", calls.into_inner(), begin.elapsed().as_secs_f64());
    let Some(seed) = failed.first() else { return };
    let (policy, phases) = trace(*seed);
    let phases = shrink(phases, |fewer| play(*seed, policy, fewer).is_err());
    let why = play(*seed, policy, &phases).expect_err("it failed before");
    panic!("seed {seed} (of {} that fail): {why}\n{policy:#?}\n{phases:#?}", failed.len());
}
