use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Id, MAX_FAILING_IN_FLIGHT, MAX_NEW_IN_FLIGHT, RESCRAPES_PER_SECOND, Schedule, ScrapeOutcome};

const START: u64 = 1_000_003;

/// Simulates a schedule: each scrape takes `took_ms`, and a kubelet samples its node every 10 s.
struct Simulation {
    schedule: Schedule,
    now: u64,
    running: BTreeMap<(u64, Id), ScrapeOutcome>,
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
        let mut seen = std::mem::take(&mut self.first);
        self.run_kubelets(until, took_ms, |id, now| {
            if fails(id) {
                return ScrapeOutcome::Failed;
            }
            let sampled = |at: u64| at - (at + u64::from(id) * 997) % 10_000;
            let (count, first) = *seen.get(&id).unwrap_or(&(0, now));
            seen.insert(id, (count + 1, first));
            ScrapeOutcome::Stored {
                pods_measured: count > 0,
                node_measured: sampled(now) > sampled(first),
                node_age_ms: Some(now - sampled(now)),
            }
        });
        self.first = seen;
    }

    fn run_kubelets(
        &mut self,
        until: u64,
        took_ms: impl Fn(Id) -> u64,
        mut scrape: impl FnMut(Id, u64) -> ScrapeOutcome,
    ) {
        while self.now < until {
            let done: Vec<_> = self.running.range(..=(self.now, Id::MAX)).map(|(k, v)| (*k, *v)).collect();
            for ((at, id), outcome) in done {
                self.running.remove(&(at, id));
                self.schedule.finish(id, self.now, outcome);
            }
            for id in self.schedule.take(self.now) {
                self.log.push((self.now, id));
                self.running.insert((self.now + took_ms(id), id), scrape(id, self.now));
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

/// A kubelet that caches samples: it takes one of each container at random times.
struct CachedKubelet {
    /// The times of each container's samples.
    samples: Vec<Vec<u64>>,
    /// The number of samples of each container at the first scrape.
    first: Option<Vec<usize>>,
    /// When all containers had rates.
    complete: Option<u64>,
}

impl CachedKubelet {
    fn new(containers: usize, period_ms: std::ops::Range<u64>, random: &mut fastrand::Rng) -> Self {
        let samples = (0..containers).map(|_| {
            let mut at = START - random.u64(..period_ms.end);
            let times = std::iter::from_fn(|| {
                at += random.u64(period_ms.clone());
                Some(at)
            });
            times.take(10).collect()
        });
        Self { samples: samples.collect(), first: None, complete: None }
    }

    fn scrape(&mut self, now: u64) -> ScrapeOutcome {
        let count = |times: &Vec<u64>| times.iter().filter(|at| **at <= now).count();
        let counts: Vec<usize> = self.samples.iter().map(count).collect();
        let first = self.first.get_or_insert_with(|| counts.clone());
        let pods_measured = counts.iter().zip(first).all(|(now, first)| *now > *first);
        if pods_measured {
            self.complete.get_or_insert(now);
        }
        // The newest sample of a container is often older than that of the node, so the node's age is unknown.
        ScrapeOutcome::Stored { pods_measured, node_measured: now > START + 10_000, node_age_ms: None }
    }

    /// When a client that scrapes all the time would have had all rates.
    fn possible(&self) -> u64 {
        let of = |times: &Vec<u64>| *times.iter().find(|at| **at > START).unwrap();
        self.samples.iter().map(of).max().unwrap()
    }
}

/// Returns for each start of a node the time from START until all its containers had rates, and the number of scrapes in
/// the first 36 s.
fn cached_starts(nodes: u32, containers: usize, period_ms: std::ops::Range<u64>) -> Vec<(u64, u64, usize)> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut kubelets: Vec<_> =
        (0..nodes).map(|_| CachedKubelet::new(containers, period_ms.clone(), &mut random)).collect();
    let mut simulation = Simulation::new(15_000, nodes);
    simulation.run_kubelets(START + 70_000, |_| 20, |id, now| kubelets[id as usize].scrape(now));
    let early = |id| simulation.times(id).iter().filter(|at| **at < 36_000).count();
    let results = kubelets
        .iter()
        .zip(0..)
        .map(|(kubelet, id)| (kubelet.complete.unwrap() - START, kubelet.possible() - START, early(id)));
    results.collect()
}

#[test]
fn cached_samples_make_rates_within_two_seconds_of_the_second_sample() {
    for period_ms in [10_000..20_000, 15_000..30_000] {
        for (complete, possible, scrapes) in cached_starts(20, 30, period_ms.clone()) {
            assert!(complete <= possible + 2_000, "{complete} {possible}");
            assert!(complete <= period_ms.end + 2_000, "{complete}");
            assert!(scrapes <= 26, "{scrapes}");
        }
    }
}

#[test]
fn a_mass_start_of_cached_kubelets_is_bounded() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut kubelets: Vec<_> =
        (0..5000).map(|_| CachedKubelet::new(10, 10_000..20_000, &mut random)).collect();
    let mut simulation = Simulation::new(15_000, 5000);
    simulation.run_kubelets(START + 60_000, |_| 20, |id, now| kubelets[id as usize].scrape(now));
    let slowest = kubelets.iter().map(|kubelet| kubelet.complete.unwrap() - START).max().unwrap();
    assert!(slowest <= 20_000 + 15_000 + 5_000, "{slowest}");
    // One scrape per node and interval, and the extra scrapes.
    let bound = 5000 / 15 + usize::try_from(RESCRAPES_PER_SECOND).unwrap();
    let started = |from: u64, to: u64| {
        let window = START + from * 1000..START + to * 1000;
        simulation.log.iter().filter(|(at, _)| window.contains(at)).count()
    };
    assert!(started(10, 40) <= 30 * bound, "{}", started(10, 40));
    // At first each node is scraped twice, spread over half the interval.
    for second in 0..60 {
        assert!(started(second, second + 1) <= 1_400, "{} in second {second}", started(second, second + 1));
    }
}

#[test]
fn a_node_whose_containers_never_have_rates_moves_to_its_slot() {
    let mut simulation = Simulation::new(15_000, 1);
    let never = ScrapeOutcome::Stored { pods_measured: false, node_measured: true, node_age_ms: None };
    simulation.run_kubelets(START + 120_000, |_| 20, |_, _| never);
    let times = simulation.times(0);
    assert!(times.iter().filter(|at| **at < 36_000).count() <= 26, "{times:?}");
    let steady: Vec<_> = times.iter().filter(|at| **at > 50_000).collect();
    assert!(steady.len() >= 4 && steady.windows(2).all(|pair| pair[1] - pair[0] == 15_000), "{times:?}");
}

#[test]
fn a_node_whose_failure_is_over_is_scraped_soon_until_all_have_rates() {
    let mut simulation = Simulation::new(15_000, 1);
    let mut kubelet = CachedKubelet::new(30, 10_000..20_000, &mut fastrand::Rng::with_seed(1));
    let recovered = std::cell::Cell::new(None);
    simulation.run_kubelets(
        START + 100_000,
        |_| 20,
        |_, now| {
            if now < START + 30_000 {
                return ScrapeOutcome::Failed;
            }
            recovered.set(recovered.get().or(Some(now)));
            kubelet.scrape(now)
        },
    );
    assert!(kubelet.complete.unwrap() <= recovered.get().unwrap() + 20_000 + 2_000);
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
    schedule.finish(7, START + 10, ScrapeOutcome::Failed);
    let at = schedule.next_ms().unwrap();
    assert_eq!(schedule.take(at), [7]);
    let stored = ScrapeOutcome::Stored { pods_measured: false, node_measured: false, node_age_ms: None };
    schedule.finish(7, at + 10, stored);
    assert!(schedule.next_ms().unwrap() <= at + 2_000);
}

#[test]
fn a_change_wakes_a_failing_node_at_once() {
    let mut schedule = Schedule::new(15_000, 1);
    schedule.insert(7, START);
    assert_eq!(schedule.take(START), [7]);
    schedule.wake(7, START + 1);
    schedule.finish(7, START + 10, ScrapeOutcome::Failed);
    assert_eq!(schedule.next_ms(), Some(START + 10), "woken during a scrape");
    assert_eq!(schedule.take(START + 10), [7]);
    schedule.finish(7, START + 20, ScrapeOutcome::Failed);
    assert!(schedule.next_ms().unwrap() >= START + 5_000);
    schedule.wake(7, START + 30);
    assert_eq!(schedule.take(START + 30), [7]);
    schedule.remove(7);
    schedule.finish(7, START + 40, ScrapeOutcome::Failed);
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
                    let outcome = if flag { ScrapeOutcome::Failed } else {
                        ScrapeOutcome::Stored { pods_measured: flag, node_measured: id > 3, node_age_ms: Some(later) }
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
