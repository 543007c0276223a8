//! Two samples of a counter make a rate.

use crate::model::rows::Usage;

/// A container younger than this at its sample is not yet measured from its start alone: the CPU time of
/// its first seconds is its start-up.
const FRESH_MIN_NS: i64 = 10_000_000_000;

/// By how much more than the time between two requests two timestamps may differ before the node's clock
/// must have been set forward. A kubelet's samples are at most some 20 s old.
const CLOCK_SLACK_NS: i64 = 60_000_000_000;

/// Two starts closer than this are one: kubelets that derive the start from an age have jitter. A restart
/// within it shows in the counter.
const START_SLACK_NS: i64 = 1_000_000_000;

/// What one body says of a container or node. Zero is "not said" for each field: the peer, too, takes a
/// zero CPU or memory as missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// When the CPU time was taken, nanoseconds since the Unix epoch.
    pub(super) timestamp_ns: i64,
    /// CPU time since the start, nanoseconds.
    pub(super) cpu_ns: u64,
    /// Working set, bytes.
    pub(super) memory_bytes: u64,
    /// Swap in use, bytes.
    pub(super) swap_bytes: Option<u64>,
    /// When it started, nanoseconds since the Unix epoch.
    pub(super) start_ns: i64,
}

impl Point {
    fn complete(&self) -> bool {
        self.timestamp_ns != 0 && self.cpu_ns != 0 && self.memory_bytes != 0
    }
}

/// The newest complete sample of a container or node, and the rate that it and an earlier one make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// When the newest sample was taken, nanoseconds since the Unix epoch; 0 when there was none.
    pub(super) timestamp_ns: i64,
    /// CPU time at that sample, nanoseconds.
    cpu_ns: u64,
    /// The start that was said with it, or 0.
    pub(super) start_ns: i64,
    /// Time between the two samples, nanoseconds; 0 when there is no rate, negative when there is one that
    /// the newest body's incomplete point hides.
    pub(super) window_ns: i64,
    /// The rate over the window.
    cpu_nanocores: u64,
    /// Working set, bytes.
    memory_bytes: u64,
    /// Swap in use, bytes; [`NO_SWAP`] when not said.
    swap_bytes: u64,
}

const NO_SWAP: u64 = u64::MAX;

/// What besides the two samples decides on a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// A container younger than this is measured from its start, nanoseconds.
    pub(super) resolution_ns: i64,
    /// Time between the requests that the two bodies answered, by our own clock, nanoseconds.
    pub(super) elapsed_ns: i64,
}

impl Measured {
    /// Whether there is a rate.
    pub(super) fn is_measured(&self) -> bool {
        self.window_ns > 0
    }

    /// Whether there is a rate, or was one that the newest body hides.
    pub(super) fn was_measured(&self) -> bool {
        self.window_ns != 0
    }

    /// The usage, if there is a rate.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            cpu_nanocores: self.cpu_nanocores,
            memory_bytes: self.memory_bytes,
            swap_bytes: (self.swap_bytes != NO_SWAP).then_some(self.swap_bytes),
        }
    }

    /// The state after `point`.
    ///
    /// - An incomplete point leaves the sample but no rate: the row is dropped until the next complete one.
    /// - A container younger than the resolution, but at least 10 s old, is measured from its start.
    /// - A restart (a newer start, a counter going down) needs a second sample.
    /// - A repeated timestamp keeps the rate: the kubelet did not sample again.
    /// - A clock set back or forward needs a second sample.
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
        if (FRESH_MIN_NS..timing.resolution_ns).contains(&age) {
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

/// `trunc(spent / seconds)`, in the floating point of Go's `Duration.Seconds`, so that the same two samples
/// make the same figure as metrics-server's. `window_ns` is positive.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanocores(spent_ns: u64, window_ns: i64) -> u64 {
    let seconds = (window_ns / 1_000_000_000) as f64 + (window_ns % 1_000_000_000) as f64 / 1e9;
    (spent_ns as f64 / seconds) as u64
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{Measured, Point, Timing};

    pub(in crate::ingest::store) const S: i64 = 1_000_000_000;
    pub(in crate::ingest::store) const T0: i64 = 1_700_000_000 * S;
    const TIMING: Timing = Timing { resolution_ns: 60 * S, elapsed_ns: 15 * S };

    fn point(at_s: i64, cpu_s: u64) -> Point {
        Point {
            timestamp_ns: T0 + at_s * S,
            cpu_ns: cpu_s * 1_000_000_000,
            memory_bytes: 1,
            ..Point::default()
        }
    }

    fn run(points: &[Point]) -> Measured {
        points.iter().fold(Measured::default(), |state, point| state.advance(point, TIMING))
    }

    fn rate(measured: Measured) -> Option<(u64, i64)> {
        measured.is_measured().then_some((measured.cpu_nanocores, measured.window_ns / S))
    }

    #[test]
    fn two_samples_make_a_rate_over_their_own_window() {
        assert_eq!(rate(run(&[point(0, 1)])), None);
        assert_eq!(rate(run(&[point(0, 10), point(20, 20)])), Some((500_000_000, 20)));
        assert_eq!(rate(run(&[point(0, 10), point(20, 10)])), Some((0, 20)));
    }

    #[test]
    fn the_figure_is_truncated_in_floating_point() {
        let second = Point { cpu_ns: 20_000_000_001, timestamp_ns: T0 + 15_012_000_000, ..point(0, 0) };
        let measured = run(&[point(0, 10), second]);
        assert_eq!(measured.cpu_nanocores, (10_000_000_001_f64 / (15.0 + 0.012)) as u64);
    }

    #[test]
    fn a_fresh_container_is_measured_from_its_start() {
        let young = |age: i64| Point { start_ns: T0 - age * S, ..point(0, 5) };
        assert_eq!(rate(run(&[young(9)])), None);
        assert_eq!(rate(run(&[young(10)])), Some((500_000_000, 10)));
        assert_eq!(rate(run(&[young(59)])), Some((84_745_762, 59)));
        assert_eq!(rate(run(&[young(60)])), None);
        assert_eq!(rate(run(&[Point { start_ns: T0 + S, ..point(0, 5) }])), None);
    }

    #[test]
    fn a_restart_needs_a_second_sample() {
        let restarted = |at: i64, start: i64, cpu: u64| Point { start_ns: T0 + start * S, ..point(at, cpu) };
        let before = Point { start_ns: T0 - 1000 * S, ..point(0, 10) };
        assert_eq!(rate(run(&[before, restarted(15, 8, 11)])), None, "a newer start, the counter higher");
        assert_eq!(rate(run(&[before, restarted(15, 8, 3)])), None);
        assert_eq!(rate(run(&[point(0, 10), point(15, 9)])), None, "the counter went down");
        assert_eq!(
            rate(run(&[before, restarted(15, 8, 3), restarted(30, 8, 6)])),
            Some((272_727_272, 22)),
            "22 s old: measured from its start"
        );
    }

    #[test]
    fn a_repeated_timestamp_keeps_the_rate() {
        assert_eq!(rate(run(&[point(0, 10), point(20, 20), point(20, 20)])), Some((500_000_000, 20)));
        assert_eq!(rate(run(&[point(0, 10), point(0, 10)])), None);
        assert_eq!(rate(run(&[point(0, 10), point(0, 10), point(10, 20)])), Some((1_000_000_000, 10)));
    }

    #[test]
    fn a_clock_step_needs_a_second_sample() {
        let back = [point(0, 10), point(15, 20), point(5, 25)];
        assert_eq!(rate(run(&back)), None);
        assert_eq!(rate(run(&[&back[..], &[point(20, 40)]].concat())), Some((1_000_000_000, 15)));
        let forward = [point(0, 10), point(3600, 20)];
        assert_eq!(rate(run(&forward)), None);
        assert_eq!(rate(run(&[&forward[..], &[point(3615, 35)]].concat())), Some((1_000_000_000, 15)));
    }

    #[test]
    fn an_incomplete_point_drops_the_rate_but_not_the_sample() {
        let incomplete = Point { memory_bytes: 0, ..point(20, 20) };
        let state = run(&[point(0, 10), point(10, 15), incomplete]);
        assert_eq!(rate(state), None);
        assert_eq!(rate(state.advance(&point(30, 35), TIMING)), Some((1_000_000_000, 20)));
    }

    /// The obvious model: all points are kept, and each pair is judged from scratch.
    pub(in crate::ingest::store) fn model(points: &[Point]) -> Option<(u64, i64)> {
        let complete = |p: &Point| p.cpu_ns > 0 && p.memory_bytes > 0;
        if !complete(points.last()?) {
            return None;
        }
        let points: Vec<&Point> = points.iter().filter(|p| complete(p)).collect();
        let last = points.len() - 1;
        // Walk back over the points that repeat this one's timestamp to the one that brought it.
        let mut first = last;
        while first > 0 {
            let (a, b) = (points[first - 1], points[first]);
            if a.timestamp_ns != b.timestamp_ns || fresh(b) || is_restart(a, b, &points, first - 1) {
                break;
            }
            first -= 1;
        }
        let point = points[first];
        if fresh(point) {
            let age = point.timestamp_ns - point.start_ns;
            return Some((exact(point.cpu_ns, age), age));
        }
        let before = points.get(first.checked_sub(1)?)?;
        let window = point.timestamp_ns - before.timestamp_ns;
        if window <= 0 || window > 75 * S || is_restart(before, point, &points, first - 1) {
            return None;
        }
        Some((exact(point.cpu_ns - counter(&points, first - 1), window), window))
    }

    fn fresh(p: &Point) -> bool {
        p.start_ns > 0 && p.timestamp_ns - p.start_ns >= 10 * S && p.timestamp_ns - p.start_ns < 60 * S
    }

    /// The counter that counts at `at`: of points that repeat a timestamp, the first one's.
    fn counter(points: &[&Point], at: usize) -> u64 {
        if at > 0
            && points[at - 1].timestamp_ns == points[at].timestamp_ns
            && !fresh(points[at])
            && !is_restart(points[at - 1], points[at], points, at - 1)
        {
            counter(points, at - 1)
        } else {
            points[at].cpu_ns
        }
    }

    fn is_restart(a: &Point, b: &Point, points: &[&Point], at: usize) -> bool {
        b.cpu_ns < counter(points, at)
            || (b.start_ns > 0 && b.start_ns >= a.timestamp_ns)
            || (b.start_ns > 0 && a.start_ns > 0 && b.start_ns > a.start_ns + S)
    }

    fn exact(spent: u64, window: i64) -> u64 {
        let seconds = (window / S) as f64 + (window % S) as f64 / 1e9;
        (spent as f64 / seconds).trunc() as u64
    }

    fn any_point() -> impl Strategy<Value = Point> {
        (0i64..200, 0u64..40, 0u64..6, prop::option::of(-50i64..150)).prop_map(|(at, cpu, memory, start)| {
            Point {
                timestamp_ns: T0 + at * S / 2,
                cpu_ns: cpu * 1_000_000_007,
                memory_bytes: memory,
                swap_bytes: None,
                start_ns: start.map_or(0, |s| T0 + s * S),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn agrees_with_the_model(points in prop::collection::vec(any_point(), 1..8)) {
            let state = run(&points);
            let got = state.is_measured().then_some((state.cpu_nanocores, state.window_ns));
            prop_assert_eq!(got, model(&points));
        }

        #[test]
        fn never_panics(fields in prop::collection::vec(any::<(i64, u64, u64, i64)>(), 1..5)) {
            let points: Vec<Point> = fields
                .into_iter()
                .map(|(timestamp_ns, cpu_ns, memory_bytes, start_ns)| Point { timestamp_ns, cpu_ns, memory_bytes, swap_bytes: None, start_ns })
                .collect();
            run(&points);
        }
    }
}
