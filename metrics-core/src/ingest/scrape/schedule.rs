//! Decides when to scrape which node. Pure: the caller passes the time in milliseconds from any origin.
//!
//! - Each node has a scrape slot within the scrape interval. There are few slots (one every 0.25 to 1 s), so that
//!   nodes are woken in groups, and nodes are spread evenly over them.
//! - A new node is scraped at once and again shortly after, as two samples make the first rates of its pods. It is
//!   scraped once more when its own sample is due to change, and then moves to its slot. Thousands of new nodes are
//!   started evenly over half the scrape interval, with a limit on concurrent scrapes.
//! - A failing node is retried soon, so that a repair shows quickly. The more nodes fail, the longer the pauses,
//!   with jitter, up to a maximum. Failing nodes have a concurrency limit of their own, so they never delay others.

use std::collections::{BTreeSet, HashMap};

/// Times outside the slots are rounded up to a multiple of this, so that these nodes are woken in groups, too.
const ROUNDING_MS: u64 = 250;
/// The pause between the first two scrapes of a node.
const SECOND_SCRAPE_MS: u64 = 1_250;
/// The maximum number of extra scrapes of a new node for its own first rate.
const MAX_FAST_SCRAPES: u32 = 6;
/// How often a kubelet samples its node.
const NODE_SAMPLE_MS: u64 = 10_000;
/// The maximum number of concurrent first scrapes, and the minimum number started per rounding period.
const MAX_NEW_IN_FLIGHT: usize = 256;
const MIN_NEW_PER_PERIOD: usize = 32;
/// The maximum number of concurrent scrapes of failing nodes.
const MAX_FAILING_IN_FLIGHT: usize = 64;
/// The maximum number of concurrent scrapes of other nodes; reached only if very many stop responding at once.
const MAX_STEADY_IN_FLIGHT: usize = 4096;
/// The minimum retry pause without jitter, unless the scrape interval is shorter. A kubelet that rejects a token
/// caches that for 30 s by default, so a retry costs it little.
const MIN_RETRY_MS: u64 = 5_000;
/// The maximum retry pause, unless the scrape interval is longer: a repair should show within half a minute.
const MAX_RETRY_MS: u64 = 15_000;
/// The maximum rate of retries over all failing nodes, up to the maximum pause: when a thousand certificates expire
/// at once, a thousand failed handshakes must not cost more than the scrapes did.
const RETRIES_PER_SECOND: u64 = 20;

/// Identifies a node in the schedule; assigned by the caller.
pub(super) type Id = u32;

/// The result of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Samples were stored.
    Stored {
        /// Whether pods have rates now.
        pods_measured: bool,
        /// Whether the node itself has a rate.
        node_measured: bool,
        /// The age of the node's own sample, if known.
        node_age_ms: Option<u64>,
    },
    /// The scrape failed.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodePhase {
    New { tries: u32 },
    Steady,
    Failing,
}

#[derive(Debug)]
struct ScheduledNode {
    slot: usize,
    phase: NodePhase,
    /// When the last scrape started, or when the node was added.
    started_ms: u64,
    /// When the node is due; `None` during a scrape.
    due_ms: Option<u64>,
    /// Whether [`Schedule::wake`] was called during the scrape.
    woken: bool,
}

/// The schedule of all nodes.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ms: u64,
    /// The number of nodes in each slot.
    nodes_per_slot: Vec<u32>,
    nodes: HashMap<Id, ScheduledNode>,
    /// When each node is due. Of nodes that are due together, the one with the oldest scrape comes first: where
    /// concurrency is limited, nodes that have been dead for long must not starve one that failed once.
    due: BTreeSet<(u64, u64, Id)>,
    in_flight: [usize; 3],
    new: usize,
    failing: usize,
    /// The maximum number of new nodes since there were none.
    peak: usize,
    /// The rounding period in which new nodes were last started, and how many were.
    admitted: (u64, usize),
    jitter: fastrand::Rng,
}

impl Schedule {
    /// Returns an empty schedule. `interval_ms` is at least 1.
    pub(super) fn new(interval_ms: u64, seed: u64) -> Self {
        let interval_ms = interval_ms.max(1);
        let slot_ms = (interval_ms / 15).clamp(250, 1000);
        let slots = usize::try_from((interval_ms / slot_ms).max(1)).unwrap_or(1);
        Self {
            interval_ms,
            nodes_per_slot: vec![0; slots],
            nodes: HashMap::new(),
            due: BTreeSet::new(),
            in_flight: [0; 3],
            new: 0,
            failing: 0,
            peak: 0,
            admitted: (0, 0),
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a node, due at once.
    pub(super) fn insert(&mut self, id: Id, now_ms: u64) {
        self.remove(id);
        let slot = self.emptiest_slot();
        self.nodes_per_slot[slot] += 1;
        self.peak = if self.new == 0 { 1 } else { self.peak.max(self.new + 1) };
        self.new += 1;
        let phase = NodePhase::New { tries: 0 };
        let node = ScheduledNode { slot, phase, started_ms: now_ms, due_ms: Some(now_ms), woken: false };
        self.nodes.insert(id, node);
        self.due.insert((now_ms, now_ms, id));
    }

    /// Removes a node. If it is being scraped, its [`Self::finish`] is ignored.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(node) = self.nodes.remove(&id) else { return };
        self.nodes_per_slot[node.slot] -= 1;
        self.new -= usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing -= usize::from(node.phase == NodePhase::Failing);
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
            }
            None => self.in_flight[class(node.phase)] -= 1,
        }
    }

    /// Makes a node due at once, because a change may have fixed its failure.
    pub(super) fn wake(&mut self, id: Id, now_ms: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
                node.due_ms = Some(now_ms.min(due_ms));
                self.due.insert((now_ms.min(due_ms), node.started_ms, id));
            }
            None => node.woken = true,
        }
    }

    /// Returns when [`Self::take`] next returns a node, unless a concurrency limit delays it.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Returns the nodes to scrape now. Each is in flight until [`Self::finish`] or [`Self::remove`].
    pub(super) fn take(&mut self, now_ms: u64) -> Vec<Id> {
        let period = now_ms / ROUNDING_MS;
        if self.admitted.0 != period {
            self.admitted = (period, 0);
        }
        let periods = usize::try_from(self.interval_ms / 2 / ROUNDING_MS).unwrap_or(usize::MAX).max(1);
        let new_per_period = self.peak.div_ceil(periods).max(MIN_NEW_PER_PERIOD);
        let mut taken = Vec::new();
        let mut deferred = Vec::new();
        while let Some(first) = self.due.first().copied().filter(|(due_ms, ..)| *due_ms <= now_ms) {
            self.due.remove(&first);
            let (.., id) = first;
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let class = class(node.phase);
            let first = node.phase == NodePhase::New { tries: 0 };
            let full = self.in_flight[class]
                >= [MAX_NEW_IN_FLIGHT, MAX_STEADY_IN_FLIGHT, MAX_FAILING_IN_FLIGHT][class];
            if full || (first && self.admitted.1 >= new_per_period) {
                deferred.push(id);
                continue;
            }
            self.admitted.1 += usize::from(first);
            self.in_flight[class] += 1;
            node.started_ms = now_ms;
            node.due_ms = None;
            taken.push(id);
        }
        let next_ms = (period + 1) * ROUNDING_MS;
        for id in deferred {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.due_ms = Some(next_ms);
                self.due.insert((next_ms, node.started_ms, id));
            }
        }
        taken
    }

    /// Records the result of a scrape.
    pub(super) fn finish(&mut self, id: Id, now_ms: u64, outcome: Outcome) {
        let emptiest = self.emptiest_slot();
        let fair_share = self.nodes.len().div_ceil(self.nodes_per_slot.len());
        let pause_ms = self.retry_ms();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.due_ms.is_some() {
            return;
        }
        self.in_flight[class(node.phase)] -= 1;
        self.new -= usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing -= usize::from(node.phase == NodePhase::Failing);
        // Removed nodes may have left the slots unbalanced.
        if self.nodes_per_slot[node.slot] as usize > fair_share {
            self.nodes_per_slot[node.slot] -= 1;
            self.nodes_per_slot[emptiest] += 1;
            node.slot = emptiest;
        }
        let slots = self.nodes_per_slot.len() as u64;
        let offset_ms = node.slot as u64 * self.interval_ms / slots;
        let slot_from = |from_ms: u64| next_slot(from_ms, self.interval_ms, offset_ms).max(now_ms + 1);
        let next_slot_ms = slot_from(node.started_ms + self.interval_ms / 2);
        let tries = match node.phase {
            NodePhase::New { tries } => tries,
            // A node that never responded before counts as new.
            NodePhase::Failing => 0,
            NodePhase::Steady => MAX_FAST_SCRAPES,
        };
        let due_ms = match (node.phase, outcome) {
            (_, Outcome::Stored { pods_measured, node_measured, node_age_ms })
                if tries < MAX_FAST_SCRAPES && !(pods_measured && node_measured) =>
            {
                node.phase = NodePhase::New { tries: tries + 1 };
                let pause_ms = match node_age_ms {
                    Some(age_ms) if pods_measured => {
                        // The kubelet needs a moment to sample.
                        (NODE_SAMPLE_MS + ROUNDING_MS)
                            .saturating_sub(age_ms)
                            .clamp(SECOND_SCRAPE_MS, NODE_SAMPLE_MS)
                    }
                    _ if pods_measured => 2 * SECOND_SCRAPE_MS,
                    _ => SECOND_SCRAPE_MS,
                };
                round_up(node.started_ms.max(now_ms.saturating_sub(ROUNDING_MS)) + pause_ms).min(next_slot_ms)
            }
            (_, Outcome::Stored { .. }) => {
                node.phase = NodePhase::Steady;
                next_slot_ms
            }
            (_, Outcome::Failed) => {
                node.phase = NodePhase::Failing;
                // Counted from the end of the scrape, so that a node that times out is not retried more often than
                // it takes.
                round_up(now_ms + pause_ms + self.jitter.u64(..=pause_ms / 4))
            }
        };
        let due_ms = if std::mem::take(&mut node.woken) { now_ms } else { due_ms };
        self.new += usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing += usize::from(node.phase == NodePhase::Failing);
        node.due_ms = Some(due_ms);
        self.due.insert((due_ms, node.started_ms, id));
    }

    /// Returns the retry pause for a failing node.
    fn retry_ms(&self) -> u64 {
        let spread_ms = self.failing as u64 * 1000 / RETRIES_PER_SECOND;
        spread_ms.clamp(MIN_RETRY_MS.min(self.interval_ms), MAX_RETRY_MS.max(self.interval_ms))
    }

    fn emptiest_slot(&self) -> usize {
        self.nodes_per_slot
            .iter()
            .enumerate()
            .min_by_key(|(_, nodes_per_slot)| **nodes_per_slot)
            .map_or(0, |(at, _)| at)
    }
}

fn class(phase: NodePhase) -> usize {
    match phase {
        NodePhase::New { tries: 0 } => 0,
        // It has responded at least once.
        NodePhase::New { .. } | NodePhase::Steady => 1,
        NodePhase::Failing => 2,
    }
}

/// Returns the first instant from `from_ms` on that lies `offset_ms` after a multiple of the interval.
fn next_slot(from_ms: u64, interval_ms: u64, offset_ms: u64) -> u64 {
    let this = from_ms - from_ms % interval_ms + offset_ms;
    if this < from_ms { this + interval_ms } else { this }
}

fn round_up(at_ms: u64) -> u64 {
    at_ms.next_multiple_of(ROUNDING_MS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Id, MAX_FAILING_IN_FLIGHT, MAX_NEW_IN_FLIGHT, Outcome, Schedule};

    const START: u64 = 1_000_003;

    /// Simulates a schedule: each scrape takes `took_ms`, and a kubelet samples its node every 10 s.
    struct Simulation {
        schedule: Schedule,
        now: u64,
        running: BTreeMap<(u64, Id), Outcome>,
        log: Vec<(u64, Id)>,
        first: BTreeMap<Id, (u64, u64)>,
        max_running: usize,
    }

    impl Simulation {
        fn new(interval_ms: u64, nodes: u32) -> Self {
            let mut schedule = Schedule::new(interval_ms, 1);
            for id in 0..nodes {
                schedule.insert(id, START);
            }
            let (running, first) = (BTreeMap::new(), BTreeMap::new());
            Self { schedule, now: START, running, log: vec![], first, max_running: 0 }
        }

        fn run(&mut self, until: u64, took_ms: impl Fn(Id) -> u64, fails: impl Fn(Id) -> bool) {
            while self.now < until {
                let done: Vec<_> =
                    self.running.range(..=(self.now, Id::MAX)).map(|(k, v)| (*k, *v)).collect();
                for ((at, id), outcome) in done {
                    self.running.remove(&(at, id));
                    self.schedule.finish(id, self.now, outcome);
                }
                for id in self.schedule.take(self.now) {
                    self.log.push((self.now, id));
                    let sampled = |at: u64| at - (at + u64::from(id) * 997) % 10_000;
                    let outcome = if fails(id) {
                        Outcome::Failed
                    } else {
                        let (count, first) = *self.first.get(&id).unwrap_or(&(0, self.now));
                        self.first.insert(id, (count + 1, first));
                        Outcome::Stored {
                            pods_measured: count > 0,
                            node_measured: sampled(self.now) > sampled(first),
                            node_age_ms: Some(self.now - sampled(self.now)),
                        }
                    };
                    self.running.insert((self.now + took_ms(id), id), outcome);
                }
                self.max_running = self.max_running.max(self.running.len());
                let next = self.running.first_key_value().map(|((at, _), _)| *at);
                let next = next.into_iter().chain(self.schedule.next_ms()).min().unwrap_or(until);
                self.now = next.max(self.now + 1);
            }
            self.now = until;
        }

        fn times(&self, id: Id) -> Vec<u64> {
            self.log.iter().filter(|(_, other)| *other == id).map(|(at, _)| at - START).collect()
        }
    }

    #[test]
    fn a_new_node_has_pod_rates_in_two_seconds_and_its_own_in_eleven() {
        for id in 0..40 {
            let mut simulation = Simulation::new(15_000, 0);
            simulation.schedule.insert(id, START);
            simulation.run(START + 60_000, |_| 20, |_| false);
            let times = simulation.times(id);
            assert_eq!(times[0], 0);
            assert!((1000..2000).contains(&times[1]), "{times:?}");
            let sampled = |at: u64| at - (at + u64::from(id) * 997) % 10_000;
            let measured = times.iter().find(|at| sampled(START + **at) > sampled(START)).unwrap();
            assert!(*measured <= 11_000, "{times:?}");
            assert!(times.iter().filter(|at| **at < 15_000).count() <= 5, "{times:?}");
            let steady: Vec<_> = times.iter().filter(|at| **at > 25_000).collect();
            assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == 15_000), "{times:?}");
        }
    }

    #[test]
    fn spreads_nodes_evenly_over_few_slots() {
        let mut simulation = Simulation::new(15_000, 1000);
        simulation.run(START + 60_000, |_| 20, |_| false);
        let mut groups: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, _) in simulation.log.iter().filter(|(at, _)| (START + 30_000..START + 45_000).contains(at)) {
            *groups.entry(*at).or_default() += 1;
        }
        assert_eq!(groups.len(), 15);
        assert!(groups.values().all(|count| (66..=67).contains(count)), "{groups:?}");
        // Most nodes of some slots are removed: the rest is spread evenly again.
        for id in (0..1000).filter(|id| id % 15 < 10) {
            simulation.schedule.remove(id);
        }
        let from = simulation.now;
        simulation.run(from + 60_000, |_| 20, |_| false);
        let mut groups: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, _) in simulation.log.iter().filter(|(at, _)| (from + 45_000..from + 60_000).contains(at)) {
            *groups.entry(*at).or_default() += 1;
        }
        let max = groups.values().max().unwrap();
        assert!(*max <= 333u32.div_ceil(15), "{groups:?}");
    }

    #[test]
    fn a_mass_start_is_spread_and_bounded() {
        let mut simulation = Simulation::new(15_000, 5000);
        simulation.run(START + 15_000, |_| 50, |_| false);
        let firsts: Vec<u64> = (0..5000).map(|id| simulation.times(id)[0]).collect();
        let last = *firsts.iter().max().unwrap();
        assert!(last <= 8_000, "{last}");
        let first_second = firsts.iter().filter(|at| **at < 1000).count();
        assert!(first_second <= 5 * 5000usize.div_ceil(30), "{first_second}");
        let running = simulation.max_running;
        assert!(running <= 1000, "{running}");
    }

    #[test]
    fn dead_nodes_are_retried_rarely_and_never_delay_others() {
        let dead = |id: Id| id.is_multiple_of(10);
        let mut simulation = Simulation::new(15_000, 1000);
        simulation.run(START + 600_000, |id| if dead(id) { 10_000 } else { 20 }, dead);
        for id in (0..1000).filter(|id| dead(*id)) {
            let times = simulation.times(id);
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 15_000), "{times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 30_250), "{times:?}");
            assert!(times.len() <= 40, "{times:?}");
        }
        for id in (0..1000).filter(|id| !dead(*id)) {
            let steady: Vec<_> = simulation.times(id).into_iter().filter(|at| *at > 40_000).collect();
            assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == 15_000), "{steady:?}");
        }
        let pauses: std::collections::BTreeSet<u64> =
            (0..1000).filter(|id| dead(*id)).filter_map(|id| simulation.times(id).last().copied()).collect();
        assert!(pauses.len() > 20, "jitter spreads them");
        assert!(simulation.max_running < MAX_NEW_IN_FLIGHT + MAX_FAILING_IN_FLIGHT + 100);
    }

    #[test]
    fn retries_a_node_that_failed_once_among_hundreds_of_dead_ones() {
        const DEAD: Id = 500;
        let took = |id: Id| if id < DEAD { 10_000 } else { 20 };
        let mut simulation = Simulation::new(15_000, DEAD + 1);
        simulation.run(START + 300_000, took, |id| id < DEAD);
        let fails = std::cell::Cell::new(true);
        simulation.run(START + 900_000, took, |id| id < DEAD || fails.replace(false));
        assert!(!fails.get());
        // The pause, and then one round over all failing nodes.
        let turns = u64::from(DEAD + 1).div_ceil(MAX_FAILING_IN_FLIGHT as u64);
        let bound = 15_000 * 5 / 4 + 250 + turns * (10_000 + 250);
        for id in 0..=DEAD {
            let times: Vec<_> = simulation.times(id).into_iter().chain([900_000]).collect();
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= bound + 10_000), "{id} {times:?}");
        }
        let times: Vec<_> = simulation.times(DEAD).into_iter().filter(|at| *at > 290_000).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= bound), "{times:?}");
    }

    #[test]
    fn a_node_that_recovers_gets_rates_as_quickly_as_a_new_one() {
        let mut schedule = Schedule::new(15_000, 1);
        schedule.insert(7, START);
        schedule.take(START);
        schedule.finish(7, START + 10, Outcome::Failed);
        let at = schedule.next_ms().unwrap();
        assert_eq!(schedule.take(at), [7]);
        let stored = Outcome::Stored { pods_measured: false, node_measured: false, node_age_ms: None };
        schedule.finish(7, at + 10, stored);
        assert!(schedule.next_ms().unwrap() <= at + 2_000);
    }

    #[test]
    fn a_change_wakes_a_failing_node_at_once() {
        let mut schedule = Schedule::new(15_000, 1);
        schedule.insert(7, START);
        assert_eq!(schedule.take(START), [7]);
        schedule.wake(7, START + 1);
        schedule.finish(7, START + 10, Outcome::Failed);
        assert_eq!(schedule.next_ms(), Some(START + 10), "woken during a scrape");
        assert_eq!(schedule.take(START + 10), [7]);
        schedule.finish(7, START + 20, Outcome::Failed);
        assert!(schedule.next_ms().unwrap() >= START + 5_000);
        schedule.wake(7, START + 30);
        assert_eq!(schedule.take(START + 30), [7]);
        schedule.remove(7);
        schedule.finish(7, START + 40, Outcome::Failed);
        let counts = (schedule.in_flight, schedule.new, schedule.failing);
        assert_eq!((schedule.next_ms(), counts), (None, ([0; 3], 0, 0)));
    }

    #[test]
    fn retries_few_failing_nodes_soon_and_many_once_per_interval() {
        let longest = |failing: u32, interval_ms: u64| {
            let mut simulation = Simulation::new(interval_ms, 1000);
            simulation.run(START + 300_000, |_| 20, |id| id < failing);
            let pauses = (0..failing).flat_map(|id| {
                let times: Vec<_> = simulation.times(id).into_iter().filter(|at| *at > 150_000).collect();
                times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
            });
            let pauses: Vec<u64> = pauses.collect();
            (*pauses.iter().min().unwrap(), *pauses.iter().max().unwrap())
        };
        let (least, most) = longest(3, 15_000);
        assert!(least >= 5_000 && most <= 6_750, "{least} {most}");
        let (least, most) = longest(1000, 15_000);
        assert!(least >= 15_000 && most <= 20_000, "{least} {most}");
        let (least, most) = longest(3, 60_000);
        assert!(least >= 5_000 && most <= 6_750, "a long interval does not delay the retry: {least} {most}");
        let (least, _) = longest(3, 1_000);
        assert!(least >= 1_000, "{least}");
    }

    #[test]
    fn supports_an_interval_of_one_second() {
        let mut simulation = Simulation::new(1_000, 100);
        simulation.run(START + 30_000, |_| 5, |_| false);
        for id in 0..100 {
            let times = simulation.times(id);
            let steady: Vec<_> = times.iter().filter(|at| **at > 15_000).collect();
            assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{times:?}");
        }
    }

    proptest! {
        #[test]
        fn counters_stay_consistent(
            interval in 1u64..120_000,
            steps in prop::collection::vec((0u8..6, 0u32..8, 0u64..20_000, any::<bool>()), 0..200),
        ) {
            let mut schedule = Schedule::new(interval, 3);
            let mut now = START;
            let mut flying = std::collections::BTreeSet::new();
            for (what, id, later, flag) in steps {
                match what {
                    0 => { schedule.insert(id, now); flying.remove(&id); }
                    1 => { schedule.remove(id); flying.remove(&id); }
                    2 => schedule.wake(id, now),
                    3 => {
                        let outcome = if flag { Outcome::Failed } else {
                            Outcome::Stored { pods_measured: flag, node_measured: id > 3, node_age_ms: Some(later) }
                        };
                        schedule.finish(id, now, outcome);
                        flying.remove(&id);
                    }
                    _ => {
                        now += later;
                        for id in schedule.take(now) { prop_assert!(flying.insert(id)); }
                    }
                }
                prop_assert_eq!(schedule.nodes_per_slot.iter().sum::<u32>() as usize, schedule.nodes.len());
                prop_assert_eq!(schedule.in_flight.iter().sum::<usize>(), flying.len());
                prop_assert_eq!(schedule.due.len() + flying.len(), schedule.nodes.len());
                let new = schedule.nodes.values().filter(|n| matches!(n.phase, super::NodePhase::New { .. })).count();
                prop_assert_eq!(schedule.new, new);
                let failing = schedule.nodes.values().filter(|n| n.phase == super::NodePhase::Failing).count();
                prop_assert_eq!(schedule.failing, failing);
            }
        }
    }
}
