//! Computes a rate from two samples of a counter.

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) mod tests;

use crate::model::rows::Usage;

/// The minimum age at which a container is measured from its start alone: the CPU time of its first seconds is
/// startup work.
const MIN_AGE_NS: i64 = 10_000_000_000;

/// The maximum difference between the time between two timestamps and the time between their requests. Beyond it,
/// the node's clock was set forward. A kubelet's samples are at most about 20 s old.
const CLOCK_SLACK_NS: i64 = 60_000_000_000;

/// Start times closer than this are considered equal: kubelets that derive the start from an age have jitter. A
/// restart within it shows in the counter.
const START_SLACK_NS: i64 = 1_000_000_000;

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
    fn complete(&self) -> bool {
        self.timestamp_ns != 0 && self.cpu_ns != 0 && self.memory_bytes != 0
    }
}

/// The newest complete sample of a container or node, and the rate computed from it and an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// When the newest sample was taken, in nanoseconds since the Unix epoch; 0 if there is none.
    pub(super) timestamp_ns: i64,
    /// CPU time at that sample, in nanoseconds.
    cpu_ns: u64,
    /// The start time reported with it, or 0.
    pub(super) start_ns: i64,
    /// The time between the two samples in nanoseconds; 0 if there is no rate. Negative if there is a rate that is
    /// not served because the newest body's point is incomplete.
    pub(super) window_ns: i64,
    /// The rate over the window.
    cpu_nanocores: u64,
    /// Working set in bytes.
    memory_bytes: u64,
    /// Swap usage in bytes; [`NO_SWAP`] if not reported.
    swap_bytes: u64,
}

const NO_SWAP: u64 = u64::MAX;

/// The durations that decide whether two samples make a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The scrape interval in nanoseconds. A container younger than this is measured from its start.
    pub(super) interval_ns: i64,
    /// The time between the requests of the two bodies by our own clock, in nanoseconds.
    pub(super) elapsed_ns: i64,
}

impl Measured {
    /// Returns whether there is a rate to serve.
    pub(super) fn is_measured(&self) -> bool {
        self.window_ns > 0
    }

    /// Returns whether there is a rate, even if the newest body's incomplete point hides it.
    pub(super) fn was_measured(&self) -> bool {
        self.window_ns != 0
    }

    /// Returns the usage; valid only if there is a rate.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            cpu_nanocores: self.cpu_nanocores,
            memory_bytes: self.memory_bytes,
            swap_bytes: (self.swap_bytes != NO_SWAP).then_some(self.swap_bytes),
        }
    }

    /// Returns the state after `point`.
    ///
    /// - An incomplete point keeps the sample but hides the rate: there is no row until the next complete point.
    /// - A container younger than the scrape interval, but at least 10 s old, is measured from its start.
    /// - A restart (a newer start time, a decreasing counter) needs a second sample.
    /// - A repeated timestamp keeps the rate: the kubelet did not sample again.
    /// - a clock step back or forward needs a second sample.
    #[must_use]
    pub(super) fn advance(&self, point: &Point, timing: Timing) -> Self {
        if !point.complete() {
            return Self { window_ns: -self.window_ns.abs(), ..*self };
        }
        let mut next = Self {
            timestamp_ns: point.timestamp_ns,
            cpu_ns: point.cpu_ns,
            start_ns: point.start_ns,
            window_ns: 0,
            cpu_nanocores: 0,
            memory_bytes: point.memory_bytes,
            swap_bytes: point.swap_bytes.unwrap_or(NO_SWAP),
        };
        let age = if point.start_ns > 0 { point.timestamp_ns.saturating_sub(point.start_ns) } else { 0 };
        if (MIN_AGE_NS..timing.interval_ns).contains(&age) {
            next.measure(point.cpu_ns, age);
        } else if self.timestamp_ns != 0 && !self.restarted(point) {
            let between = point.timestamp_ns.saturating_sub(self.timestamp_ns);
            if between == 0 {
                (next.cpu_ns, next.window_ns, next.cpu_nanocores) =
                    (self.cpu_ns, self.window_ns.abs(), self.cpu_nanocores);
            } else if between > 0 && between <= timing.elapsed_ns.saturating_add(CLOCK_SLACK_NS) {
                next.measure(point.cpu_ns - self.cpu_ns, between);
            }
        }
        next
    }

    fn restarted(&self, point: &Point) -> bool {
        let newer = point.start_ns > 0
            && (point.start_ns >= self.timestamp_ns
                || (self.start_ns > 0 && point.start_ns.saturating_sub(self.start_ns) > START_SLACK_NS));
        newer || point.cpu_ns < self.cpu_ns
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
    let seconds = (window_ns / 1_000_000_000) as f64 + (window_ns % 1_000_000_000) as f64 / 1e9;
    (spent_ns as f64 / seconds) as u64
}
