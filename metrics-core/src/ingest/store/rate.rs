//! Computes the rate of a counter from its samples: which of them belong to one series, and which rates are possible.

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) mod tests;

use std::time::Duration;

use super::node_samples::NodeSamples;
use crate::ingest::decode::{Metric, Sample};
use crate::model::rows::Usage;

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// The minimum age at which a container is measured from its start alone: the CPU time of its first seconds is
/// startup work.
const MIN_AGE_NS: i64 = 10 * SECOND;

/// The minimum time between two samples. A shorter one is mostly the error of the timestamps.
const MIN_WINDOW_NS: i64 = 500 * MS;

/// The minimum of the maximum time between two samples.
const MAX_WINDOW_NS: i64 = 90 * SECOND;

/// The maximum difference between the time between two timestamps and the time between the requests that first
/// returned them. Beyond it, the node's clock was set. A kubelet's samples are at most about 30 s old.
const CLOCK_SLACK_NS: i64 = 60 * SECOND;

/// Start times closer than this are considered equal: kubelets that derive the start from an age have jitter. A
/// restart within it shows in the counter.
const START_SLACK_NS: i64 = SECOND;

/// The maximum difference between two ages of a container whose start time moves along with its samples.
const SAME_AGE_SLACK_NS: i64 = 100 * MS;

/// A counter that decreases by no more than this did not restart: kernels correct CPU time by such amounts.
const COUNTER_SLACK_NS: u64 = 10_000_000;

/// The CPU time that a node can spend exceeds its capacity by this factor and this duration: timestamps and
/// counters are not taken at the same instant.
const CAPACITY_FACTOR: f64 = 1.1;
const CAPACITY_SLACK_NS: f64 = 200e6;

/// The assumed capacity of a node that reports none, in cores: more than any machine has.
const UNKNOWN_CAPACITY: f64 = 4096.0;
/// The assumed capacity with which such a node's start times are checked: more than a container uses at its start.
const UNKNOWN_START_CAPACITY: f64 = 64.0;

/// Rates up to this many cores are not compared with the node's usage.
const NODE_SLACK_CORES: f64 = 1.0;
/// The node's usage may be this many times too low: the kernel may count it by ticks, but containers exactly.
const NODE_FACTOR: f64 = 2.0;

/// The age from which the exact time of arrival is no longer kept, in milliseconds: 12 days.
const OLD_MS: u32 = 1 << 30;

/// The unit in which the time of the first incomplete point is kept.
const TICK_MS: u32 = 256;
/// The ticks from which the exact time is no longer kept: 2.3 hours.
const LONG_TICKS: u16 = 1 << 15;

/// The values of a container or node in one body. Zero means "not reported" in each field: metrics-server, too,
/// treats zero CPU or memory as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// When the CPU time was sampled, in nanoseconds since the Unix epoch.
    pub(super) timestamp_ns: i64,
    /// CPU time since the start, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// Working set in bytes.
    pub(super) memory_bytes: u64,
    /// Swap usage in bytes.
    pub(super) swap_bytes: Option<u64>,
    /// When the container started, in nanoseconds since the Unix epoch.
    pub(super) start_ns: i64,
}

impl Point {
    /// Sets the value of a metric.
    pub(super) fn set(&mut self, metric: Metric, sample: Sample) {
        match metric {
            Metric::Cpu => {
                self.cpu_ns = sample.value;
                self.timestamp_ns = sample.timestamp_ns;
            }
            Metric::Memory => self.memory_bytes = sample.value,
            Metric::Swap => self.swap_bytes = Some(sample.value),
            // decode() bounds the value.
            Metric::StartTime => self.start_ns = i64::try_from(sample.value).unwrap_or(0),
        }
    }

    /// Returns whether there is a usable sample.
    pub(super) fn is_complete(&self) -> bool {
        self.timestamp_ns != 0 && self.cpu_ns != 0 && self.memory_bytes != 0
    }

    /// Returns the age of the container; `None` without a start time, or with one after the sample.
    fn age_ns(&self) -> Option<i64> {
        (self.start_ns > 0 && self.start_ns <= self.timestamp_ns).then(|| self.timestamp_ns - self.start_ns)
    }
}

/// The newest complete sample of a series, and the rate computed from it and an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// When the newest sample was taken, in nanoseconds since the Unix epoch; 0 if there is none.
    pub(super) timestamp_ns: i64,
    /// CPU time at that sample, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// The start time reported with it, or 0.
    start_ns: i64,
    /// The time between the two samples in nanoseconds; 0 if there is no rate. Negative if there is a rate that is
    /// not served because the newest body's point is incomplete or the sample is too old.
    pub(super) window_ns: i64,
    /// The rate over the window.
    cpu_nanocores: u64,
    /// Working set in bytes.
    pub(super) memory_bytes: u64,
    /// Swap usage in bytes; [`NO_SWAP`] if not reported.
    swap_bytes: u64,
    /// When the request started that first returned this timestamp, in [`Rules::now_ms`].
    arrived_ms: u32,
    /// Since when all points have been incomplete, as [`Rules::now_ticks`]; 0 if the last one was complete.
    incomplete_since: u16,
    /// Whether a start time contradicted the counter, so that the container is not measured from its start.
    start_is_doubtful: bool,
    /// Whether the start time is later than the sample before.
    start_moved: bool,
}

const NO_SWAP: u64 = u64::MAX;

/// What decides whether samples make a rate that is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The scrape interval in nanoseconds. A container younger than this is measured from its start.
    interval_ns: i64,
    /// The maximum time between two samples.
    max_window_ns: i64,
    /// The maximum age of a sample that is served, since it arrived.
    max_age_ms: u32,
    /// When the body was requested, by our own monotonic clock, in milliseconds; wraps around after 49 days.
    pub(super) now_ms: u32,
    /// The node's capacity in cores.
    capacity: f64,
    /// The capacity with which start times are checked.
    start_capacity: f64,
    /// The node's own samples.
    pub(super) node: NodeSamples,
}

/// How a point relates to the series before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is the next sample of the series, or no sample at all.
    Continues,
    /// It is the first sample of a container, or of its next instance.
    Starts,
    /// It is the next sample of the series, or the first one of the next instance.
    MayStart,
    /// It does not continue the series, and no start time explains why.
    Breaks,
    /// It would be more CPU time than the node can spend.
    Implausible,
}

/// Returns milliseconds, saturating, so that ages can be compared.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).min(OLD_MS)
}

/// Returns the time as in [`Rules::now_ms`].
#[allow(clippy::cast_possible_truncation)] // It wraps around.
pub(super) fn wrapped(now_ms: u64) -> u32 {
    now_ms as u32
}

impl Rules {
    /// Returns the rules for one body. `capacity_millicores` is 0 if unknown.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(
        interval: Duration,
        max_age: Duration,
        now_ms: u64,
        capacity_millicores: u64,
        node: NodeSamples,
    ) -> Self {
        let interval_ns = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
        let capacity = capacity_millicores as f64 / 1000.0;
        Self {
            interval_ns,
            max_window_ns: interval_ns.saturating_mul(4).max(MAX_WINDOW_NS),
            max_age_ms: milliseconds(max_age),
            now_ms: wrapped(now_ms),
            capacity: if capacity > 0.0 { capacity } else { UNKNOWN_CAPACITY },
            start_capacity: if capacity > 0.0 { capacity } else { UNKNOWN_START_CAPACITY },
            node,
        }
    }

    /// Returns the time in [`TICK_MS`]; wraps around after 4.6 hours.
    #[allow(clippy::cast_possible_truncation)] // It wraps around.
    fn now_ticks(&self) -> u16 {
        (self.now_ms / TICK_MS) as u16
    }

    /// Returns the time since `at_ms`.
    fn since_ms(&self, at_ms: u32) -> u32 {
        self.now_ms.wrapping_sub(at_ms)
    }

    /// Returns the age of a sample since it arrived, up to 12 days.
    pub(super) fn age_ms(&self, measured: &Measured) -> u32 {
        self.since_ms(measured.arrived_ms).min(OLD_MS)
    }

    /// Returns whether a series that is not reported now may still continue.
    pub(super) fn remembers(&self, measured: &Measured) -> bool {
        i64::from(self.age_ms(measured)) * MS <= self.max_window_ns
    }

    /// Returns whether the node can spend this CPU time in this duration.
    fn can_spend(&self, spent_ns: u64, duration_ns: i64) -> bool {
        is_within(spent_ns, self.capacity, duration_ns)
    }

    /// Returns whether a container of this age can have spent this CPU time.
    fn can_spend_since_start(&self, spent_ns: u64, age_ns: i64) -> bool {
        is_within(spent_ns, self.start_capacity, age_ns)
    }

    /// Returns whether the node did spend this CPU time between two instants, as far as its own samples show.
    #[allow(clippy::cast_precision_loss)]
    fn did_spend(&self, spent_ns: u64, from_ns: i64, to_ns: i64) -> bool {
        let free = to_ns.saturating_sub(from_ns) as f64 * NODE_SLACK_CORES;
        let spent = spent_ns as f64;
        spent <= free
            || self
                .node
                .spent_around(from_ns, to_ns)
                .is_none_or(|of_node| spent <= of_node as f64 * NODE_FACTOR + free)
    }
}

/// Returns whether the times between two samples by the node's clock and by ours agree.
fn clocks_agree(between_ns: i64, since_ms: u32) -> bool {
    between_ns.abs_diff(i64::from(since_ms) * MS) <= CLOCK_SLACK_NS.unsigned_abs()
}

/// Returns whether `cores` can spend this CPU time in this duration.
#[allow(clippy::cast_precision_loss)]
fn is_within(spent_ns: u64, cores: f64, duration_ns: i64) -> bool {
    spent_ns as f64 <= cores * (duration_ns as f64 * CAPACITY_FACTOR + CAPACITY_SLACK_NS)
}

impl Measured {
    /// Returns whether there is a rate that is not hidden.
    pub(super) fn is_measured(&self) -> bool {
        self.window_ns > 0
    }

    /// Returns whether there is a rate to serve at `now_ms`.
    pub(super) fn is_served(&self, now_ms: u64, max_age_ms: u32) -> bool {
        self.is_measured() && wrapped(now_ms).wrapping_sub(self.arrived_ms) <= max_age_ms
    }

    /// Returns for how long a rate that is served at `now_ms` will be served without a new sample.
    pub(super) fn served_for_ms(&self, now_ms: u64, max_age_ms: u32) -> u32 {
        max_age_ms.saturating_sub(wrapped(now_ms).wrapping_sub(self.arrived_ms))
    }

    /// Returns whether there is a rate, even if it is hidden.
    pub(super) fn was_measured(&self) -> bool {
        self.window_ns != 0
    }

    /// Returns whether there is a sample.
    pub(super) fn has_sample(&self) -> bool {
        self.timestamp_ns != 0
    }

    /// Returns whether the container's start time is known and agrees with its counter.
    pub(super) fn has_reliable_start(&self) -> bool {
        self.start_ns != 0 && !self.start_is_doubtful
    }

    /// Returns the container's age at its sample, by the node's clock; `None` without a reliable start time.
    pub(super) fn age_at_sample_ns(&self) -> Option<i64> {
        self.has_reliable_start().then(|| self.timestamp_ns.saturating_sub(self.start_ns))
    }

    /// Returns the usage; valid only if there is a rate.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            cpu_nanocores: self.cpu_nanocores,
            memory_bytes: self.memory_bytes,
            swap_bytes: (self.swap_bytes != NO_SWAP).then_some(self.swap_bytes),
        }
    }

    /// Returns whether the sample is at least this old, since it arrived.
    pub(super) fn is_stalled(&self, rules: &Rules, after_ms: u32) -> bool {
        self.incomplete_since == 0 && self.has_sample() && rules.since_ms(self.arrived_ms) >= after_ms
    }

    /// Returns whether the newest point is incomplete.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete_since != 0
    }

    /// Returns whether all points have been incomplete for at least this long.
    pub(super) fn is_incomplete_for(&self, rules: &Rules, after_ms: u32) -> bool {
        self.incomplete_since != 0
            && u32::from(rules.now_ticks().wrapping_sub(self.incomplete_since)) >= after_ms / TICK_MS
    }

    /// Returns the state without a rate.
    #[must_use]
    pub(super) fn without_rate(&self) -> Self {
        Self { window_ns: 0, ..*self }
    }

    /// Returns the state with a hidden rate.
    #[must_use]
    pub(super) fn hidden(&self) -> Self {
        Self { window_ns: -self.window_ns.abs(), ..*self }
    }

    /// Returns the state after `point`, and how the point relates to the series.
    ///
    /// - An incomplete point keeps the sample but hides the rate: there is no row until the next complete point.
    /// - A repeated timestamp keeps the rate, and hides it once the sample is too old.
    /// - A container younger than the scrape interval, but at least 10 s old, is measured from its start.
    /// - A restart needs a second sample, and so does everything else that leaves open whether the series continues.
    #[must_use]
    pub(super) fn advance(&self, point: &Point, rules: &Rules) -> (Self, Step) {
        if !point.is_complete() {
            return (self.after_incomplete(rules), Step::Continues);
        }
        let between_ns = point.timestamp_ns.saturating_sub(self.timestamp_ns);
        let has_decreased = point.cpu_ns.saturating_add(COUNTER_SLACK_NS) < self.cpu_ns;
        if self.has_sample() && (0..MIN_WINDOW_NS).contains(&between_ns) && !has_decreased {
            return (self.after_repeated(point, rules), Step::Continues);
        }
        let age_ns = point.age_ns();
        // Whether the counter can have started at the start time.
        let is_possible = age_ns.is_some_and(|age_ns| rules.can_spend_since_start(point.cpu_ns, age_ns));
        let mut next = Self {
            timestamp_ns: point.timestamp_ns,
            cpu_ns: point.cpu_ns,
            start_ns: point.start_ns,
            window_ns: 0,
            cpu_nanocores: 0,
            memory_bytes: point.memory_bytes,
            swap_bytes: point.swap_bytes.unwrap_or(NO_SWAP),
            arrived_ms: if between_ns == 0 { self.arrived_ms } else { rules.now_ms },
            incomplete_since: 0,
            start_is_doubtful: age_ns.is_some() && !is_possible,
            start_moved: false,
        };
        let young = age_ns.filter(|age_ns| is_possible && (MIN_AGE_NS..rules.interval_ns).contains(age_ns));
        if !self.has_sample() {
            next.measure_from_start(young);
            return (next, Step::Starts);
        }
        let starts_after = age_ns.is_some() && point.start_ns > self.timestamp_ns;
        let same_start = point.start_ns.abs_diff(self.start_ns) <= START_SLACK_NS.unsigned_abs();
        if has_decreased {
            let starts_later = self.start_ns > 0 && point.start_ns > self.start_ns && !same_start;
            if between_ns > 0 && is_possible && (starts_after || starts_later) {
                next.measure_from_start(young);
                return (next, Step::Starts);
            }
            return (next, Step::Breaks);
        }
        if between_ns < 0 {
            return (next, Step::Breaks);
        }
        // A counter that stepped back a little stays where it was.
        next.cpu_ns = point.cpu_ns.max(self.cpu_ns);
        let spent_ns = next.cpu_ns - self.cpu_ns;
        if !rules.can_spend(spent_ns, between_ns)
            || !rules.did_spend(spent_ns, self.timestamp_ns, point.timestamp_ns)
        {
            next.cpu_ns = point.cpu_ns;
            return (next, Step::Implausible);
        }
        next.start_is_doubtful = self.start_is_doubtful || next.start_is_doubtful || starts_after;
        next.start_moved = starts_after;
        if starts_after && is_possible && !self.start_moved {
            let age_before = self.timestamp_ns.saturating_sub(self.start_ns);
            let has_same_age = self.start_ns > 0
                && age_ns.is_some_and(|age| age.abs_diff(age_before) <= SAME_AGE_SLACK_NS.unsigned_abs());
            // A start that moves along with the samples is none. Otherwise the container may have restarted.
            if !has_same_age {
                next.cpu_ns = point.cpu_ns;
                return (next, Step::MayStart);
            }
        }
        if young.is_some() && !next.start_is_doubtful && same_start {
            next.measure_from_start(young);
        } else if between_ns <= rules.max_window_ns
            && clocks_agree(between_ns, rules.since_ms(self.arrived_ms))
        {
            next.measure(spent_ns, between_ns);
        }
        (next, Step::Continues)
    }

    /// Returns whether `point` may be a later sample of this series.
    pub(super) fn may_precede(&self, point: &Point, rules: &Rules) -> bool {
        let between_ns = point.timestamp_ns.saturating_sub(self.timestamp_ns);
        between_ns >= MIN_WINDOW_NS
            && clocks_agree(between_ns, rules.since_ms(self.arrived_ms))
            && matches!(self.advance(point, rules).1, Step::Continues | Step::MayStart)
    }

    fn after_incomplete(&self, rules: &Rules) -> Self {
        let now = rules.now_ticks();
        // Else what has been incomplete for 4.6 hours would be new again.
        let incomplete_since = match self.incomplete_since {
            0 => now,
            since => now.wrapping_sub(now.wrapping_sub(since).min(LONG_TICKS)),
        };
        Self { incomplete_since: incomplete_since.max(1), ..self.hidden() }
    }

    fn after_repeated(&self, point: &Point, rules: &Rules) -> Self {
        let age_ms = rules.since_ms(self.arrived_ms);
        let window_ns = self.window_ns.abs();
        Self {
            window_ns: if age_ms > rules.max_age_ms { -window_ns } else { window_ns },
            memory_bytes: point.memory_bytes,
            swap_bytes: point.swap_bytes.unwrap_or(NO_SWAP),
            // Else a sample that is 49 days old would be new again.
            arrived_ms: rules.now_ms.wrapping_sub(age_ms.min(OLD_MS)),
            incomplete_since: 0,
            ..*self
        }
    }

    fn measure_from_start(&mut self, age_ns: Option<i64>) {
        if let Some(age_ns) = age_ns {
            self.measure(self.cpu_ns, age_ns);
        }
    }

    fn measure(&mut self, spent_ns: u64, window_ns: i64) {
        self.window_ns = window_ns;
        self.cpu_nanocores = nanocores(spent_ns, window_ns);
    }
}

/// Returns `trunc(spent / seconds)` in the floating point of Go's `Duration.Seconds`, so that the same two samples
/// result in the same value as in metrics-server. `window_ns` is positive.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanocores(spent_ns: u64, window_ns: i64) -> u64 {
    let seconds = (window_ns / SECOND) as f64 + (window_ns % SECOND) as f64 / 1e9;
    (spent_ns as f64 / seconds) as u64
}
