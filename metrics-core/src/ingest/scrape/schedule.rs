//! When to ask which node. Pure: time comes in as milliseconds, of any origin.
//!
//! - Each node has a home instant in the resolution. Home instants are few (one every 0.25 to 1 s), so that
//!   nodes are woken in groups, and none has more than its fair share of the nodes.
//! - A new node is asked at once, again a moment later (two samples make the first rates of its pods), and
//!   then when its own sample is due to change, before it settles at its home instant. Thousands of new
//!   nodes are admitted evenly over half the resolution, a bounded number at a time.
//! - A node that fails is asked again soon, as whoever mends it wants to see that it is mended; the more nodes
//!   fail, the longer the pauses, with jitter, up to a bound. Failing nodes have places of their own, so that
//!   they never hold up others.

use std::collections::{BTreeSet, HashMap};

/// Times outside the home instants are rounded up to a multiple of this, to be woken in groups too.
const GRAIN_MS: u64 = 250;
/// The pause between the first two scrapes of a node.
const SECOND_MS: u64 = 1_250;
/// How often a new node is asked again for its own first rate, at most.
const MAX_FAST: u32 = 6;
/// How often a kubelet samples its node.
const NODE_SAMPLE_MS: u64 = 10_000;
/// Nodes asked for the first time at a time, and admitted in one grain at least.
const MAX_NEW_IN_FLIGHT: usize = 256;
const MIN_NEW_PER_GRAIN: usize = 32;
/// Failing nodes asked at a time.
const MAX_FAILING_IN_FLIGHT: usize = 64;
/// Nodes in good standing asked at a time; reached only when very many stop answering at once.
const MAX_STEADY_IN_FLIGHT: usize = 4096;
/// The pause for a failing node while few fail, jitter apart, unless the resolution is shorter. A kubelet that refuses
/// remembers that for 30 s by default, and is asked no more by it: its answer costs it nothing.
const MIN_PAUSE_MS: u64 = 5_000;
/// The longest one, unless the resolution is longer: a fault that is mended is to be over within half a minute.
const MAX_PAUSE_MS: u64 = 15_000;
/// Failing nodes asked in a second, all together, up to the longest pause: when a thousand certificates expire at once,
/// a thousand vain handshakes must not cost more than the scrapes did.
const FAILING_PER_SECOND: u64 = 20;

/// Names a node in the schedule; the caller's choice.
pub(super) type Id = u32;

/// How a scrape went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A body was stored.
    Stored {
        /// Whether pods have rates now.
        pods_measured: bool,
        /// Whether the node itself has one.
        node_measured: bool,
        /// How old the node's own sample was, where known.
        node_age_ms: Option<u64>,
    },
    /// Nothing was.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New { tries: u32 },
    Steady,
    Failing,
}

#[derive(Debug)]
struct Node {
    home: usize,
    standing: Standing,
    /// When it was asked last, or came.
    started_ms: u64,
    /// When it is due; `None` while it is being asked.
    due_ms: Option<u64>,
    /// Asked to be woken while it was being asked.
    again: bool,
}

/// The schedule of all nodes.
#[derive(Debug)]
pub(super) struct Schedule {
    resolution_ms: u64,
    /// How many nodes are at home at each home instant.
    load: Vec<u32>,
    nodes: HashMap<Id, Node>,
    /// When, and of those that are due together the longest unasked first: where places are few, whoever is dead for
    /// long must not keep out one that failed but once.
    due: BTreeSet<(u64, u64, Id)>,
    in_flight: [usize; 3],
    new: usize,
    failing: usize,
    /// The most new nodes there were since there last was none.
    peak: usize,
    /// The grain in which new nodes were admitted last, and how many.
    admitted: (u64, usize),
    jitter: fastrand::Rng,
}

impl Schedule {
    /// An empty schedule. `resolution_ms` is at least 1.
    pub(super) fn new(resolution_ms: u64, seed: u64) -> Self {
        let resolution_ms = resolution_ms.max(1);
        let tick_ms = (resolution_ms / 15).clamp(250, 1000);
        let homes = usize::try_from((resolution_ms / tick_ms).max(1)).unwrap_or(1);
        Self {
            resolution_ms,
            load: vec![0; homes],
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
        let home = self.lightest();
        self.load[home] += 1;
        self.peak = if self.new == 0 { 1 } else { self.peak.max(self.new + 1) };
        self.new += 1;
        let standing = Standing::New { tries: 0 };
        let node = Node { home, standing, started_ms: now_ms, due_ms: Some(now_ms), again: false };
        self.nodes.insert(id, node);
        self.due.insert((now_ms, now_ms, id));
    }

    /// Forgets a node. If it is being asked, its [`Self::done`] will be ignored.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(node) = self.nodes.remove(&id) else { return };
        self.load[node.home] -= 1;
        self.new -= usize::from(matches!(node.standing, Standing::New { .. }));
        self.failing -= usize::from(node.standing == Standing::Failing);
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
            }
            None => self.in_flight[class(node.standing)] -= 1,
        }
    }

    /// Makes a node due at once: something about it changed that may mend it.
    pub(super) fn wake(&mut self, id: Id, now_ms: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
                node.due_ms = Some(now_ms.min(due_ms));
                self.due.insert((now_ms.min(due_ms), node.started_ms, id));
            }
            None => node.again = true,
        }
    }

    /// When [`Self::take`] next has something to give, unless a place must become free first.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Takes the nodes to ask now. Each is in flight until [`Self::done`] or [`Self::remove`].
    pub(super) fn take(&mut self, now_ms: u64) -> Vec<Id> {
        let grain = now_ms / GRAIN_MS;
        if self.admitted.0 != grain {
            self.admitted = (grain, 0);
        }
        let grains = usize::try_from(self.resolution_ms / 2 / GRAIN_MS).unwrap_or(usize::MAX).max(1);
        let new_per_grain = self.peak.div_ceil(grains).max(MIN_NEW_PER_GRAIN);
        let mut taken = Vec::new();
        let mut postponed = Vec::new();
        while let Some(first) = self.due.first().copied().filter(|(due_ms, ..)| *due_ms <= now_ms) {
            self.due.remove(&first);
            let (.., id) = first;
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let class = class(node.standing);
            let first = node.standing == Standing::New { tries: 0 };
            let full = self.in_flight[class]
                >= [MAX_NEW_IN_FLIGHT, MAX_STEADY_IN_FLIGHT, MAX_FAILING_IN_FLIGHT][class];
            if full || (first && self.admitted.1 >= new_per_grain) {
                postponed.push(id);
                continue;
            }
            self.admitted.1 += usize::from(first);
            self.in_flight[class] += 1;
            node.started_ms = now_ms;
            node.due_ms = None;
            taken.push(id);
        }
        let next_ms = (grain + 1) * GRAIN_MS;
        for id in postponed {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.due_ms = Some(next_ms);
                self.due.insert((next_ms, node.started_ms, id));
            }
        }
        taken
    }

    /// Tells how the scrape of a taken node went.
    pub(super) fn done(&mut self, id: Id, now_ms: u64, outcome: Outcome) {
        let lightest = self.lightest();
        let fair = self.nodes.len().div_ceil(self.load.len());
        let pause_ms = self.pause_ms();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.due_ms.is_some() {
            return;
        }
        self.in_flight[class(node.standing)] -= 1;
        self.new -= usize::from(matches!(node.standing, Standing::New { .. }));
        self.failing -= usize::from(node.standing == Standing::Failing);
        // Nodes that went may have left others crowded.
        if self.load[node.home] as usize > fair {
            self.load[node.home] -= 1;
            self.load[lightest] += 1;
            node.home = lightest;
        }
        let homes = self.load.len() as u64;
        let offset_ms = node.home as u64 * self.resolution_ms / homes;
        let home_from = |from_ms: u64| next_home(from_ms, self.resolution_ms, offset_ms).max(now_ms + 1);
        let home_ms = home_from(node.started_ms + self.resolution_ms / 2);
        let tries = match node.standing {
            Standing::New { tries } => tries,
            // One that never answered before is as new as any.
            Standing::Failing => 0,
            Standing::Steady => MAX_FAST,
        };
        let due_ms = match (node.standing, outcome) {
            (_, Outcome::Stored { pods_measured, node_measured, node_age_ms })
                if tries < MAX_FAST && !(pods_measured && node_measured) =>
            {
                node.standing = Standing::New { tries: tries + 1 };
                let pause_ms = match node_age_ms {
                    Some(age_ms) if pods_measured => {
                        // The sampling itself takes a moment.
                        (NODE_SAMPLE_MS + GRAIN_MS).saturating_sub(age_ms).clamp(SECOND_MS, NODE_SAMPLE_MS)
                    }
                    _ if pods_measured => 2 * SECOND_MS,
                    _ => SECOND_MS,
                };
                round_up(node.started_ms.max(now_ms.saturating_sub(GRAIN_MS)) + pause_ms).min(home_ms)
            }
            (_, Outcome::Stored { .. }) => {
                node.standing = Standing::Steady;
                home_ms
            }
            (_, Outcome::Failed) => {
                node.standing = Standing::Failing;
                // From its end: one that hangs until its time is over is not asked more often than it takes.
                round_up(now_ms + pause_ms + self.jitter.u64(..=pause_ms / 4))
            }
        };
        let due_ms = if std::mem::take(&mut node.again) { now_ms } else { due_ms };
        self.new += usize::from(matches!(node.standing, Standing::New { .. }));
        self.failing += usize::from(node.standing == Standing::Failing);
        node.due_ms = Some(due_ms);
        self.due.insert((due_ms, node.started_ms, id));
    }

    /// How long a failing node is left alone.
    fn pause_ms(&self) -> u64 {
        let fair_ms = self.failing as u64 * 1000 / FAILING_PER_SECOND;
        fair_ms.clamp(MIN_PAUSE_MS.min(self.resolution_ms), MAX_PAUSE_MS.max(self.resolution_ms))
    }

    fn lightest(&self) -> usize {
        self.load.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(at, _)| at)
    }
}

fn class(standing: Standing) -> usize {
    match standing {
        Standing::New { tries: 0 } => 0,
        // It has answered once.
        Standing::New { .. } | Standing::Steady => 1,
        Standing::Failing => 2,
    }
}

/// The first instant from `from_ms` on that lies `offset_ms` behind a multiple of the resolution.
fn next_home(from_ms: u64, resolution_ms: u64, offset_ms: u64) -> u64 {
    let this = from_ms - from_ms % resolution_ms + offset_ms;
    if this < from_ms { this + resolution_ms } else { this }
}

fn round_up(at_ms: u64) -> u64 {
    at_ms.next_multiple_of(GRAIN_MS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Id, MAX_FAILING_IN_FLIGHT, MAX_NEW_IN_FLIGHT, Outcome, Schedule};

    const START: u64 = 1_000_003;

    /// Plays a schedule: each scrape takes `took_ms`, and a kubelet samples its node every 10 s.
    struct Play {
        schedule: Schedule,
        now: u64,
        running: BTreeMap<(u64, Id), Outcome>,
        log: Vec<(u64, Id)>,
        first: BTreeMap<Id, (u64, u64)>,
        max_running: usize,
    }

    impl Play {
        fn new(resolution_ms: u64, nodes: u32) -> Self {
            let mut schedule = Schedule::new(resolution_ms, 1);
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
                    self.schedule.done(id, self.now, outcome);
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
            let mut play = Play::new(15_000, 0);
            play.schedule.insert(id, START);
            play.run(START + 60_000, |_| 20, |_| false);
            let times = play.times(id);
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
    fn groups_are_few_and_fair() {
        let mut play = Play::new(15_000, 1000);
        play.run(START + 60_000, |_| 20, |_| false);
        let mut groups: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, _) in play.log.iter().filter(|(at, _)| (START + 30_000..START + 45_000).contains(at)) {
            *groups.entry(*at).or_default() += 1;
        }
        assert_eq!(groups.len(), 15);
        assert!(groups.values().all(|count| (66..=67).contains(count)), "{groups:?}");
        // Most of the nodes of some home instants go: the rest is spread anew.
        for id in (0..1000).filter(|id| id % 15 < 10) {
            play.schedule.remove(id);
        }
        let from = play.now;
        play.run(from + 60_000, |_| 20, |_| false);
        let mut groups: BTreeMap<u64, u32> = BTreeMap::new();
        for (at, _) in play.log.iter().filter(|(at, _)| (from + 45_000..from + 60_000).contains(at)) {
            *groups.entry(*at).or_default() += 1;
        }
        let max = groups.values().max().unwrap();
        assert!(*max <= 333u32.div_ceil(15), "{groups:?}");
    }

    #[test]
    fn a_mass_cold_start_is_spread_and_bounded() {
        let mut play = Play::new(15_000, 5000);
        play.run(START + 15_000, |_| 50, |_| false);
        let firsts: Vec<u64> = (0..5000).map(|id| play.times(id)[0]).collect();
        let last = *firsts.iter().max().unwrap();
        assert!(last <= 8_000, "{last}");
        let first_second = firsts.iter().filter(|at| **at < 1000).count();
        assert!(first_second <= 5 * 5000usize.div_ceil(30), "{first_second}");
        let running = play.max_running;
        assert!(running <= 1000, "{running}");
    }

    #[test]
    fn dead_nodes_are_asked_rarely_and_never_hold_up_others() {
        let dead = |id: Id| id.is_multiple_of(10);
        let mut play = Play::new(15_000, 1000);
        play.run(START + 600_000, |id| if dead(id) { 10_000 } else { 20 }, dead);
        for id in (0..1000).filter(|id| dead(*id)) {
            let times = play.times(id);
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 15_000), "{times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 30_250), "{times:?}");
            assert!(times.len() <= 40, "{times:?}");
        }
        for id in (0..1000).filter(|id| !dead(*id)) {
            let steady: Vec<_> = play.times(id).into_iter().filter(|at| *at > 40_000).collect();
            assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == 15_000), "{steady:?}");
        }
        let pauses: std::collections::BTreeSet<u64> =
            (0..1000).filter(|id| dead(*id)).filter_map(|id| play.times(id).last().copied()).collect();
        assert!(pauses.len() > 20, "jitter spreads them");
        assert!(play.max_running < MAX_NEW_IN_FLIGHT + MAX_FAILING_IN_FLIGHT + 100);
    }

    #[test]
    fn one_that_failed_once_has_its_turn_among_hundreds_that_are_dead() {
        const DEAD: Id = 500;
        let took = |id: Id| if id < DEAD { 10_000 } else { 20 };
        let mut play = Play::new(15_000, DEAD + 1);
        play.run(START + 300_000, took, |id| id < DEAD);
        let fails = std::cell::Cell::new(true);
        play.run(START + 900_000, took, |id| id < DEAD || fails.replace(false));
        assert!(!fails.get());
        // The pause, and then a turn of all that fail.
        let turns = u64::from(DEAD + 1).div_ceil(MAX_FAILING_IN_FLIGHT as u64);
        let bound = 15_000 * 5 / 4 + 250 + turns * (10_000 + 250);
        for id in 0..=DEAD {
            let times: Vec<_> = play.times(id).into_iter().chain([900_000]).collect();
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= bound + 10_000), "{id} {times:?}");
        }
        let times: Vec<_> = play.times(DEAD).into_iter().filter(|at| *at > 290_000).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= bound), "{times:?}");
    }

    #[test]
    fn a_node_that_answers_late_is_measured_as_quickly() {
        let mut schedule = Schedule::new(15_000, 1);
        schedule.insert(7, START);
        schedule.take(START);
        schedule.done(7, START + 10, Outcome::Failed);
        let at = schedule.next_ms().unwrap();
        assert_eq!(schedule.take(at), [7]);
        let stored = Outcome::Stored { pods_measured: false, node_measured: false, node_age_ms: None };
        schedule.done(7, at + 10, stored);
        assert!(schedule.next_ms().unwrap() <= at + 2_000);
    }

    #[test]
    fn a_change_wakes_a_failing_node_at_once() {
        let mut schedule = Schedule::new(15_000, 1);
        schedule.insert(7, START);
        assert_eq!(schedule.take(START), [7]);
        schedule.wake(7, START + 1);
        schedule.done(7, START + 10, Outcome::Failed);
        assert_eq!(schedule.next_ms(), Some(START + 10), "woken while it was being asked");
        assert_eq!(schedule.take(START + 10), [7]);
        schedule.done(7, START + 20, Outcome::Failed);
        assert!(schedule.next_ms().unwrap() >= START + 5_000);
        schedule.wake(7, START + 30);
        assert_eq!(schedule.take(START + 30), [7]);
        schedule.remove(7);
        schedule.done(7, START + 40, Outcome::Failed);
        let counts = (schedule.in_flight, schedule.new, schedule.failing);
        assert_eq!((schedule.next_ms(), counts), (None, ([0; 3], 0, 0)));
    }

    #[test]
    fn few_that_fail_are_asked_again_soon_and_many_as_often_as_others() {
        let longest = |failing: u32, resolution_ms: u64| {
            let mut play = Play::new(resolution_ms, 1000);
            play.run(START + 300_000, |_| 20, |id| id < failing);
            let pauses = (0..failing).flat_map(|id| {
                let times: Vec<_> = play.times(id).into_iter().filter(|at| *at > 150_000).collect();
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
        assert!(
            least >= 5_000 && most <= 6_750,
            "a long resolution does not delay the good news: {least} {most}"
        );
        let (least, _) = longest(3, 1_000);
        assert!(least >= 1_000, "{least}");
    }

    #[test]
    fn a_resolution_of_one_second_works() {
        let mut play = Play::new(1_000, 100);
        play.run(START + 30_000, |_| 5, |_| false);
        for id in 0..100 {
            let times = play.times(id);
            let steady: Vec<_> = times.iter().filter(|at| **at > 15_000).collect();
            assert!(steady.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "{times:?}");
        }
    }

    proptest! {
        #[test]
        fn the_books_balance(
            resolution in 1u64..120_000,
            steps in prop::collection::vec((0u8..6, 0u32..8, 0u64..20_000, any::<bool>()), 0..200),
        ) {
            let mut schedule = Schedule::new(resolution, 3);
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
                        schedule.done(id, now, outcome);
                        flying.remove(&id);
                    }
                    _ => {
                        now += later;
                        for id in schedule.take(now) { prop_assert!(flying.insert(id)); }
                    }
                }
                prop_assert_eq!(schedule.load.iter().sum::<u32>() as usize, schedule.nodes.len());
                prop_assert_eq!(schedule.in_flight.iter().sum::<usize>(), flying.len());
                prop_assert_eq!(schedule.due.len() + flying.len(), schedule.nodes.len());
                let new = schedule.nodes.values().filter(|n| matches!(n.standing, super::Standing::New { .. })).count();
                prop_assert_eq!(schedule.new, new);
                let failing = schedule.nodes.values().filter(|n| n.standing == super::Standing::Failing).count();
                prop_assert_eq!(schedule.failing, failing);
            }
        }
    }
}
