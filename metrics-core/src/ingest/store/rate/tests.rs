use proptest::prelude::*;

use super::{Measured, Point, Timing};

pub(in crate::ingest::store) const S: i64 = 1_000_000_000;
pub(in crate::ingest::store) const T0: i64 = 1_700_000_000 * S;
const TIMING: Timing = Timing { interval_ns: 60 * S, elapsed_ns: 15 * S };

fn point(at_s: i64, cpu_s: u64) -> Point {
    Point { timestamp_ns: T0 + at_s * S, cpu_ns: cpu_s * 1_000_000_000, memory_bytes: 1, ..Point::default() }
}

fn run(points: &[Point]) -> Measured {
    points.iter().fold(Measured::default(), |state, point| state.advance(point, TIMING))
}

fn rate(measured: Measured) -> Option<(u64, i64)> {
    measured.is_measured().then_some((measured.cpu_nanocores, measured.window_ns / S))
}

#[test]
fn computes_a_rate_over_the_time_between_two_samples() {
    assert_eq!(rate(run(&[point(0, 1)])), None);
    assert_eq!(rate(run(&[point(0, 10), point(20, 20)])), Some((500_000_000, 20)));
    assert_eq!(rate(run(&[point(0, 10), point(20, 10)])), Some((0, 20)));
}

#[test]
fn truncates_the_rate_in_floating_point() {
    let second = Point { cpu_ns: 20_000_000_001, timestamp_ns: T0 + 15_012_000_000, ..point(0, 0) };
    let measured = run(&[point(0, 10), second]);
    assert_eq!(measured.cpu_nanocores, (10_000_000_001_f64 / (15.0 + 0.012)) as u64);
}

#[test]
fn measures_a_young_container_from_its_start() {
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
fn a_clock_change_needs_a_second_sample() {
    let back = [point(0, 10), point(15, 20), point(5, 25)];
    assert_eq!(rate(run(&back)), None);
    assert_eq!(rate(run(&[&back[..], &[point(20, 40)]].concat())), Some((1_000_000_000, 15)));
    let forward = [point(0, 10), point(3600, 20)];
    assert_eq!(rate(run(&forward)), None);
    assert_eq!(rate(run(&[&forward[..], &[point(3615, 35)]].concat())), Some((1_000_000_000, 15)));
}

#[test]
fn an_incomplete_point_hides_the_rate_but_keeps_the_sample() {
    let incomplete = Point { memory_bytes: 0, ..point(20, 20) };
    let state = run(&[point(0, 10), point(10, 15), incomplete]);
    assert_eq!(rate(state), None);
    assert_eq!(rate(state.advance(&point(30, 35), TIMING)), Some((1_000_000_000, 20)));
}

/// A simple model: keeps all points and evaluates each pair from scratch.
pub(in crate::ingest::store) fn model(points: &[Point]) -> Option<(u64, i64)> {
    let complete = |p: &Point| p.cpu_ns > 0 && p.memory_bytes > 0;
    if !complete(points.last()?) {
        return None;
    }
    let points: Vec<&Point> = points.iter().filter(|p| complete(p)).collect();
    let last = points.len() - 1;
    // Go back over the points that repeat this one's timestamp to the first of them.
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

/// Returns the counter that counts at `at`: of points with the same timestamp, the first one's.
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
    (0i64..200, 0u64..40, 0u64..6, prop::option::of(-50i64..150)).prop_map(|(at, cpu, memory, start)| Point {
        timestamp_ns: T0 + at * S / 2,
        cpu_ns: cpu * 1_000_000_007,
        memory_bytes: memory,
        swap_bytes: None,
        start_ns: start.map_or(0, |s| T0 + s * S),
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
