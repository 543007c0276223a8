//! When a stock kubelet samples a container, as measured on v1.36.3: its cAdvisor samples a busy one 10 s plus up to 10 s
//! after the last sample, an idle one 15 s plus up to 15 s. Until cAdvisor's second sample of a new container, the kubelet
//! asks the container runtime at each request: it ignores a container of which cAdvisor has no CPU rate.

/// The shortest time between two samples of a container that uses CPU; the jitter adds up to as much.
pub(super) const BUSY_MS: u32 = 10_000;
/// The same of a container whose usage does not change.
pub(super) const IDLE_MS: u32 = 15_000;
/// The time between two samples of the node, by both kinds of kubelet.
pub(super) const NODE_MS: u64 = 10_000;

/// The sample times of one container. They depend only on the seed and on the time of the first sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleTimes {
    /// cAdvisor's second sample.
    cached_from_ms: u64,
    last_ms: u64,
    next_ms: u64,
    seed: u64,
    period_ms: u32,
}

impl SampleTimes {
    /// Returns the times of a new container, which cAdvisor samples first at `first_ms`. It takes a container for busy
    /// until the second sample.
    pub(super) fn from(first_ms: u64, period_ms: u32, seed: u64) -> Self {
        let times = Self { period_ms, ..Self::starting(first_ms, BUSY_MS, seed) };
        Self { cached_from_ms: times.next_ms, ..times }
    }

    fn starting(first_ms: u64, period_ms: u32, seed: u64) -> Self {
        let mut times =
            Self { cached_from_ms: 0, last_ms: first_ms, next_ms: first_ms, seed: hash(seed), period_ms };
        times.step();
        times
    }

    /// Returns the times of a container that runs since long before `now_ms`: its last sample is up to one period old.
    pub(super) fn running(now_ms: u64, period_ms: u32, seed: u64) -> Self {
        let times = Self::starting(now_ms, period_ms, seed);
        let age = hash(!times.seed) % (times.next_ms - now_ms);
        Self { last_ms: now_ms - age, next_ms: times.next_ms - age, ..times }
    }

    /// Returns the time of the last sample at `now_ms`, which must not decrease from call to call.
    pub(super) fn last_at(&mut self, now_ms: u64) -> u64 {
        if now_ms < self.cached_from_ms {
            return now_ms;
        }
        while self.next_ms <= now_ms {
            self.step();
        }
        self.last_ms
    }

    fn step(&mut self) {
        self.last_ms = self.next_ms;
        self.seed = hash(self.seed);
        let period = u64::from(self.period_ms);
        self.next_ms += period + self.seed % period;
    }
}

/// Returns a well-mixed number (the output function of SplitMix64).
pub(in super::super) fn hash(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const HOUR_MS: u64 = 3_600_000;

    /// Returns the times between samples, sorted, of 200 containers that are polled each second for an hour.
    fn intervals(period_ms: u32) -> Vec<u64> {
        let of = |seed| {
            let mut times = SampleTimes::running(NOW_MS, period_ms, seed);
            let mut seen: Vec<u64> = (0..HOUR_MS / 1000).map(|s| times.last_at(NOW_MS + s * 1000)).collect();
            seen.dedup();
            seen.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
        };
        let mut all: Vec<u64> = (0..200).flat_map(of).collect();
        all.sort_unstable();
        all
    }

    /// Checks the least, the median and the longest interval, and that each tenth of the jitter is as frequent.
    fn assert_uniform(period_ms: u32) {
        let (all, period) = (intervals(period_ms), u64::from(period_ms));
        assert!(all.len() > 30_000 / (period_ms as usize / 10_000), "{}", all.len());
        assert!(*all.first().unwrap() >= period && *all.last().unwrap() < 2 * period);
        let median = all[all.len() / 2];
        assert!(median.abs_diff(period * 3 / 2) < period / 50, "median {median} ms");
        for tenth in 0..10 {
            let low = period + period * tenth / 10;
            let share =
                all.iter().filter(|one| (low..low + period / 10).contains(one)).count() * 1000 / all.len();
            assert!((90..=110).contains(&share), "{share} of 1000 in tenth {tenth}");
        }
    }

    #[test]
    fn samples_busy_containers_every_10_to_20_s() {
        assert_uniform(BUSY_MS);
    }

    #[test]
    fn samples_idle_containers_every_15_to_30_s() {
        assert_uniform(IDLE_MS);
    }

    /// The mean of a uniform interval's age is E[x²] / 2E[x]: 7.8 s and 11.7 s. Measured were 6.6 to 7.8 s and 8.8 s.
    #[test]
    fn ages_are_those_of_stock_kubelets() {
        for (period_ms, mean_ms) in [(BUSY_MS, 7_800), (IDLE_MS, 11_700)] {
            let mut ages = Vec::new();
            for seed in 0..200 {
                let mut times = SampleTimes::running(NOW_MS, period_ms, seed);
                ages.extend((0..600).map(|s| NOW_MS + s * 1000 - times.last_at(NOW_MS + s * 1000)));
            }
            let mean = ages.iter().sum::<u64>() / ages.len() as u64;
            assert!(mean.abs_diff(mean_ms) < 300, "{mean} ms");
            assert!(*ages.iter().max().unwrap() < 2 * u64::from(period_ms));
        }
    }

    #[test]
    fn same_seed_has_same_times_whenever_it_is_polled() {
        let mut often = SampleTimes::from(NOW_MS, BUSY_MS, 7);
        let mut seldom = often;
        let last = (0..HOUR_MS / 100).map(|tenth| often.last_at(NOW_MS + tenth * 100)).last();
        assert_eq!(last, Some(seldom.last_at(NOW_MS + HOUR_MS - 100)));
        let mut other = SampleTimes::from(NOW_MS, BUSY_MS, 8);
        assert_ne!(last, Some(other.last_at(NOW_MS + HOUR_MS - 100)));
    }

    #[test]
    fn samples_new_containers_at_each_request_until_the_second_sample() {
        for period_ms in [BUSY_MS, IDLE_MS] {
            for seed in 0..100 {
                let mut times = SampleTimes::from(NOW_MS, period_ms, seed);
                let requests: Vec<u64> = (0..600).map(|tenth| NOW_MS + tenth * 100).collect();
                let all: Vec<u64> = requests.iter().map(|now| times.last_at(*now)).collect();
                let on_demand = requests.iter().zip(&all).take_while(|(now, sample)| now == sample).count();
                assert!((100..=200).contains(&on_demand), "{on_demand}");
                let mut cached = all[on_demand..].to_vec();
                cached.dedup();
                assert!((2..=6).contains(&cached.len()) && all.is_sorted(), "{cached:?}");
            }
        }
    }
}
