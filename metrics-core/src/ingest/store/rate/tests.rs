use std::time::Duration;

use proptest::prelude::*;

use super::{Measured, Point, Rules, Step};
use crate::ingest::store::node_samples::NodeSamples;

pub(in crate::ingest::store) const S: i64 = 1_000_000_000;
pub(in crate::ingest::store) const T0: i64 = 1_700_000_000 * S;
const CORES: u64 = 4;

fn point(at_s: i64, cpu_s: u64) -> Point {
    Point { timestamp_ns: T0 + at_s * S, cpu_ns: cpu_s * 1_000_000_000, memory_bytes: 1, ..Point::default() }
}

fn started(at_s: i64, cpu_s: u64, start_s: i64) -> Point {
    Point { start_ns: T0 + start_s * S, ..point(at_s, cpu_s) }
}

/// The rules for a body requested at this second.
fn rules(interval_s: u64, at_s: u64) -> Rules {
    Rules::new(
        Duration::from_secs(interval_s),
        Duration::from_secs(60),
        at_s * 1000,
        CORES * 1000,
        NodeSamples::default(),
    )
}

/// Returns the state after points that were requested 15 s after each other.
fn run_every(interval_s: u64, points: &[Point]) -> (Measured, Vec<Step>) {
    let mut state = Measured::default();
    let steps = (1..).zip(points).map(|(body, point)| {
        let (next, step) = state.advance(point, &rules(interval_s, body * 15));
        state = next;
        step
    });
    let steps = steps.collect();
    (state, steps)
}

fn run(points: &[Point]) -> Measured {
    run_every(60, points).0
}

fn last_step(points: &[Point]) -> Step {
    *run_every(60, points).1.last().unwrap()
}

fn rate(measured: Measured) -> Option<(u64, i64)> {
    measured.is_measured().then_some((measured.cpu_nanocores, measured.window_ns / S))
}

#[test]
fn a_container_takes_64_bytes() {
    assert_eq!(size_of::<Measured>(), 64);
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
    assert_eq!(rate(run(&[started(0, 5, -9)])), None);
    assert_eq!(rate(run(&[started(0, 5, -10)])), Some((500_000_000, 10)));
    assert_eq!(rate(run(&[started(0, 5, -59)])), Some((84_745_762, 59)));
    assert_eq!(rate(run(&[started(0, 5, -60)])), None);
    assert_eq!(rate(run(&[started(0, 5, 1)])), None, "a start after the sample");
    let grown = [started(0, 1, -5), started(15, 5, -5)];
    assert_eq!(rate(run(&grown)), Some((250_000_000, 20)), "still younger than the interval");
}

#[test]
fn does_not_measure_from_a_start_that_the_counter_contradicts() {
    // 4 cores can spend 48.4 s in 11 s, with the tolerance.
    assert_eq!(rate(run(&[started(0, 48, -11)])), Some((4_363_636_363, 11)));
    assert_eq!(rate(run(&[started(0, 60, -11)])), None);
    assert_eq!(rate(run(&[started(0, 60, -11), started(15, 61, -11)])), Some((66_666_666, 15)));
}

#[test]
fn a_restart_needs_a_second_sample() {
    let before = started(0, 100, -1000);
    assert_eq!(rate(run(&[before, started(15, 3, 8)])), None);
    assert_eq!(last_step(&[before, started(15, 3, 8)]), Step::Starts);
    assert_eq!(
        rate(run(&[before, started(15, 3, 8), started(30, 6, 8)])),
        Some((272_727_272, 22)),
        "22 s old: measured from its start"
    );
    assert_eq!(
        rate(run_every(15, &[before, started(15, 3, 8), started(30, 6, 8)]).0),
        Some((200_000_000, 15))
    );
}

#[test]
fn a_restart_with_a_higher_counter_needs_a_second_sample_too() {
    let points = [started(0, 2, -1000), started(15, 4, 8), started(30, 7, 8)];
    assert_eq!((last_step(&points[..2]), rate(run(&points[..2]))), (Step::Starts, None));
    assert_eq!(rate(run(&points)), Some((200_000_000, 15)), "not from a start that may be wrong");
}

#[test]
fn a_lower_counter_without_a_newer_start_breaks_the_series() {
    for points in [[point(0, 10), point(15, 9)], [started(0, 10, -1000), started(15, 9, -1000)]] {
        assert_eq!((last_step(&points), rate(run(&points))), (Step::Breaks, None));
    }
}

#[test]
fn a_counter_that_steps_back_by_up_to_10_ms_continues() {
    let back = |ms: u64| Point { cpu_ns: 10_000_000_000 - ms * 1_000_000, ..point(15, 0) };
    assert_eq!(rate(run(&[point(0, 10), back(1)])), Some((0, 15)));
    assert_eq!(rate(run(&[point(0, 10), back(10)])), Some((0, 15)));
    assert_eq!(rate(run(&[point(0, 10), back(11)])), None);
    assert_eq!(
        rate(run(&[point(0, 10), back(5), point(30, 25)])),
        Some((1_000_000_000, 15)),
        "not counted twice"
    );
    let twice = [point(0, 10), back(6), Point { timestamp_ns: T0 + 30 * S, ..back(12) }];
    assert_eq!(rate(run(&twice)), None, "the steps add up");
}

#[test]
fn a_start_that_moves_while_the_counter_continues_is_no_restart() {
    let cpu = |at: i64| Point { cpu_ns: 100_000_000_000_000 + (at * S / 2) as u64, ..point(at, 0) };
    for age in 3..=13 {
        // cadvisor#2905: it moves once.
        let moved = Point { start_ns: T0 + (15 - age) * S, ..cpu(15) };
        let old = |at| Point { start_ns: T0 - 200_000 * S, ..cpu(at) };
        assert_eq!(rate(run(&[old(0), moved])), Some((500_000_000, 15)), "{age}");
        assert_eq!(rate(run(&[old(0), moved, old(30)])), Some((500_000_000, 15)), "{age}");
        assert_eq!(
            rate(run(&[old(0), moved, Point { start_ns: moved.start_ns, ..cpu(30) }])),
            Some((500_000_000, 15))
        );
        // cadvisor#2800: it moves always.
        let moves = |at| Point { start_ns: T0 + (at - age) * S, ..cpu(at) };
        for samples in 2..6 {
            let points: Vec<_> = (0..samples).map(|n| moves(n * 15)).collect();
            assert_eq!(rate(run(&points)), Some((500_000_000, 15)), "{age}");
        }
    }
}

#[test]
fn an_idle_container_whose_start_always_moves_has_a_rate() {
    let idle = |at: i64, age: i64| Point {
        cpu_ns: 1_000_000_000 + at.unsigned_abs() * 1_000_000,
        start_ns: T0 + (at - age) * S,
        ..point(at, 0)
    };
    let same_age: Vec<_> = (0..4).map(|n| idle(n * 15, 4)).collect();
    assert_eq!(rate(run(&same_age[..2])), Some((1_000_000, 15)));
    assert_eq!(rate(run(&same_age)), Some((1_000_000, 15)));
    let any_age = [idle(0, 4), idle(15, 12), idle(30, 7), idle(45, 11)];
    assert_eq!(rate(run(&any_age[..2])), None, "it may have restarted once");
    assert_eq!(rate(run(&any_age[..3])), Some((1_000_000, 15)));
    assert_eq!(rate(run(&any_age)), Some((1_000_000, 15)));
}

#[test]
fn a_start_before_the_last_sample_is_no_restart_since() {
    let points = [started(0, 50, -1000), started(15, 55, -2)];
    assert_eq!(rate(run(&points)), Some((333_333_333, 15)));
}

#[test]
fn more_than_the_nodes_capacity_is_implausible() {
    // With the tolerance, 4 cores can spend 66.8 s in 15 s.
    let full = [point(0, 10), point(15, 76)];
    assert_eq!(rate(run(&full)), Some((4_400_000_000, 15)));
    let jump = [point(0, 10), point(15, 77)];
    assert_eq!((last_step(&jump), rate(run(&jump))), (Step::Implausible, None));
    assert_eq!(
        rate(run(&[jump[0], jump[1], point(30, 92)])),
        Some((1_000_000_000, 15)),
        "the next window is good"
    );
}

#[test]
fn more_than_the_node_spent_is_implausible_where_its_samples_enclose_the_window() {
    let rules = |samples: &[(i64, u64)]| {
        let mut node = NodeSamples::default();
        for (at_s, cpu_s) in samples {
            node.push(T0 + at_s * S, cpu_s * S as u64);
        }
        Rules { node, ..rules(15, 15) }
    };
    let step = |samples| {
        let (first, _) = Measured::default().advance(&point(0, 10), &rules(&[]));
        first.advance(&point(15, 55), &rules(samples)).1
    };
    assert_eq!(step(&[]), Step::Continues);
    assert_eq!(step(&[(-5, 100), (5, 101), (14, 102)]), Step::Continues, "not enclosed");
    assert_eq!(step(&[(-5, 100), (5, 101), (16, 102)]), Step::Implausible);
    assert_eq!(step(&[(-5, 100), (5, 101), (16, 115)]), Step::Continues, "half of it is accepted");
}

#[test]
fn a_repeated_timestamp_keeps_the_rate() {
    assert_eq!(rate(run(&[point(0, 10), point(20, 20), point(20, 20)])), Some((500_000_000, 20)));
    assert_eq!(rate(run(&[point(0, 10), point(0, 10)])), None);
    assert_eq!(rate(run(&[point(0, 10), point(0, 10), point(10, 20)])), Some((1_000_000_000, 10)));
    let almost = Point { timestamp_ns: T0 + 20 * S + 499_000_000, ..point(0, 20) };
    assert_eq!(rate(run(&[point(0, 10), point(20, 20), almost])), Some((500_000_000, 20)));
    assert_eq!(
        run(&[point(0, 10), point(20, 20), almost]).timestamp_ns,
        T0 + 20 * S,
        "the sample is the old one"
    );
}

#[test]
fn a_sample_that_stands_still_is_hidden_until_it_moves() {
    let mut points = vec![point(0, 10), point(15, 20)];
    points.extend([point(15, 20); 4]);
    assert_eq!(rate(run(&points)), Some((666_666_666, 15)), "60 s old");
    points.push(point(15, 20));
    let hidden = run(&points);
    assert_eq!((rate(hidden), hidden.was_measured()), (None, true));
    points.push(point(120, 70));
    assert_eq!(rate(run(&points)), Some((476_190_476, 105)), "within four intervals");
}

#[test]
fn stays_hidden_when_the_clock_of_arrival_wraps_around() {
    let minute = |now_s: u64| rules(15, now_s);
    let (first, _) = Measured::default().advance(&point(0, 10), &minute(15));
    let (mut state, _) = first.advance(&point(15, 20), &minute(30));
    for day in 1..120 {
        (state, _) = state.advance(&point(15, 20), &minute(30 + day * 86_400));
        assert_eq!(rate(state), None, "{day}");
    }
}

#[test]
fn a_window_is_at_most_four_intervals_or_90_s() {
    let after = |gap_s: i64, interval_s: u64| {
        let (first, _) = Measured::default().advance(&point(0, 10), &rules(interval_s, 10));
        let now_s = gap_s.unsigned_abs() + 10;
        let (second, step) = first.advance(&point(gap_s, 20), &rules(interval_s, now_s));
        assert_eq!(step, Step::Continues);
        let (third, _) = second.advance(&point(gap_s + 10, 25), &rules(interval_s, now_s + 10));
        assert_eq!(rate(third), Some((500_000_000, 10)), "the next window is good");
        rate(second).map(|(_, window)| window)
    };
    assert_eq!((after(90, 15), after(91, 15)), (Some(90), None));
    assert_eq!((after(240, 60), after(241, 60)), (Some(240), None));
    assert_eq!(after(3600, 15), None, "not the average of an hour");
}

#[test]
fn a_clock_change_needs_a_second_sample() {
    let back = [point(0, 10), point(15, 20), point(5, 25)];
    assert_eq!(rate(run(&back)), None);
    assert_eq!(rate(run(&[&back[..], &[point(20, 40)]].concat())), Some((1_000_000_000, 15)));
    let forward = [point(0, 10), point(85, 20)];
    assert_eq!(rate(run(&forward)), None, "85 s within 15 s");
    assert_eq!(rate(run(&[&forward[..], &[point(100, 35)]].concat())), Some((1_000_000_000, 15)));
    // 5 s within 75 s.
    let (first, _) = Measured::default().advance(&point(0, 10), &rules(15, 10));
    assert_eq!(rate(first.advance(&point(5, 15), &rules(15, 85)).0), None);
}

#[test]
fn an_incomplete_point_hides_the_rate_but_keeps_the_sample() {
    let incomplete = Point { memory_bytes: 0, ..point(20, 20) };
    let state = run(&[point(0, 10), point(10, 15), incomplete]);
    assert_eq!(rate(state), None);
    assert_eq!(rate(state.advance(&point(30, 35), &rules(60, 60)).0), Some((1_000_000_000, 20)));
}

#[test]
fn incomplete_points_count_after_some_bodies_and_some_time() {
    let is_zero = |points: &[Point]| {
        let (state, _) = run_every(15, points);
        state.is_incomplete_for(&rules(15, points.len() as u64 * 15), 30_000)
    };
    let (good, zero) = (point(0, 10), Point { memory_bytes: 0, ..point(20, 20) });
    assert!(!is_zero(&[zero, zero]) && is_zero(&[zero, zero, zero]));
    assert!(!is_zero(&[good, good, good, zero, zero]), "new, although the sample is old");
    assert!(is_zero(&[good, zero, zero, zero]));
    assert!(!is_zero(&[zero, zero, zero, good]));
    let mut quick = Measured::default();
    for second in 0..20 {
        (quick, _) = quick.advance(&zero, &rules(15, second + 1));
    }
    assert!(!quick.is_incomplete_for(&rules(15, 20), 30_000), "20 bodies within 20 s");
}

/// A simple model for series that only grow, repeat or restart once: keeps all points and evaluates each pair from
/// scratch. A container younger than 60 s is measured from its start.
pub(in crate::ingest::store) fn model(points: &[Point]) -> Option<(u64, i64)> {
    let complete = |p: &Point| p.cpu_ns > 0 && p.memory_bytes > 0;
    if !complete(points.last()?) {
        return None;
    }
    let points: Vec<&Point> = points.iter().filter(|p| complete(p)).collect();
    let time = points.last()?.timestamp_ns;
    let first = points.iter().position(|p| p.timestamp_ns == time)?;
    let point = points[first];
    if point.start_ns > 0 && (10 * S..60 * S).contains(&(time - point.start_ns)) {
        return Some((exact(point.cpu_ns, time - point.start_ns), time - point.start_ns));
    }
    let before = points.get(first.checked_sub(1)?)?;
    if before.start_ns != point.start_ns {
        return None;
    }
    let window = time - before.timestamp_ns;
    Some((exact(point.cpu_ns - before.cpu_ns, window), window))
}

fn exact(spent: u64, window: i64) -> u64 {
    let seconds = (window / S) as f64 + (window % S) as f64 / 1e9;
    (spent as f64 / seconds).trunc() as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the points are, a rate that is served is possible.
    #[test]
    fn serves_only_possible_rates(
        points in prop::collection::vec((0i64..400, 0u64..2000, 0u64..4, prop::option::of(-100i64..400)), 1..12),
        interval in prop::sample::select(vec![1_u64, 15, 60]),
    ) {
        let mut state = Measured::default();
        for (body, (at, cpu, memory, start)) in (1..).zip(points) {
            let point = Point {
                timestamp_ns: T0 + at * S / 4,
                cpu_ns: cpu * 250_000_000,
                memory_bytes: memory,
                swap_bytes: None,
                start_ns: start.map_or(0, |at| T0 + at * S / 4),
            };
            let before = state;
            (state, _) = state.advance(&point, &rules(interval, body * 15));
            if let Some((nanocores, _)) = rate(state) {
                let window = state.window_ns;
                prop_assert!(window >= S / 2 && window <= S * 90.max(4 * interval as i64));
                prop_assert!(nanocores as f64 <= CORES as f64 * (1.1e9 + 2e17 / window as f64) + 1.0);
                let repeated = state.timestamp_ns == before.timestamp_ns;
                let from_start = window == point.timestamp_ns - point.start_ns;
                let from_last = window == point.timestamp_ns - before.timestamp_ns;
                prop_assert!(repeated || from_start || from_last);
            }
        }
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
