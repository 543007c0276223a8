//! What kubelets report beside the truth: duplicates, resets, clocks, stalled and missing samples.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crds::cause::SampleCause;
use proptest::prelude::*;

use super::TestStore;
use crate::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use crate::ingest::discover::Node;
use crate::ingest::store::{PutSummary, SampleProblems, Ticket};
use crate::model::rows::{Lookup, Pick, Rows};

const EPOCH: i64 = 1_700_000_000;

/// A series of container `n/p/x` in a body.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Series {
    /// Seconds since the epoch.
    at: f64,
    /// Seconds.
    cpu: f64,
    memory: u64,
    /// Seconds since the epoch.
    start: Option<f64>,
}

/// One node with four cores, and the pod `n/p`.
struct OneNode {
    fixture: TestStore,
    ticket: Ticket,
}

fn with_cores(node: &TestStore, name: &str, cpu_millicores: u64, ready: bool) -> Ticket {
    let ticket = node.node(name, name);
    let known = node.directory.nodes().get(name).unwrap().clone();
    let node_object = Arc::new(Node { ready, cpu_millicores, ..(*known).clone() });
    node.store.update_node(ticket, &node_object);
    ticket
}

impl OneNode {
    fn new(cpu_millicores: u64) -> Self {
        let fixture = TestStore::new();
        let ticket = with_cores(&fixture, "a", cpu_millicores, true);
        fixture.pod("n/p", "u");
        fixture.synced();
        Self { fixture, ticket }
    }

    /// Waits, and writes a body.
    fn scrape(&self, wait_s: f64, body: &str) -> PutSummary {
        self.fixture.directory.skip(Duration::from_secs_f64(wait_s));
        let mut batch = self.fixture.store.begin_batch(self.ticket).unwrap();
        let options = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: 1 };
        decode(body.as_bytes(), options, &mut batch);
        self.fixture.put(self.ticket, batch).unwrap()
    }

    fn problems(&self, body: &str) -> SampleProblems {
        self.scrape(15.0, body).problems
    }

    /// Returns millicores, memory and window in milliseconds of the pod's row.
    fn row(&self) -> Option<(u64, u64, i64)> {
        let mut row = None;
        self.fixture.store.pod("n", "p", &mut |found| {
            let usage = found.containers[0].usage;
            row = Some((usage.cpu_nanocores / 1_000_000, usage.memory_bytes, found.window_ns / 1_000_000));
        });
        row
    }
}

/// Writes the series in this order, each family complete, as kubelets do.
fn body(series: &[Series]) -> String {
    let mut text = String::new();
    let labels = "{container=\"x\",namespace=\"n\",pod=\"p\"}";
    let ms = |seconds: f64| (EPOCH * 1000) + (seconds * 1000.0).round() as i64;
    for Series { at, cpu, .. } in series {
        let _ = writeln!(text, "container_cpu_usage_seconds_total{labels} {cpu} {}", ms(*at));
    }
    for Series { at, memory, .. } in series {
        let _ = writeln!(text, "container_memory_working_set_bytes{labels} {memory} {}", ms(*at));
    }
    for start in series.iter().filter_map(|series| series.start) {
        let _ = writeln!(text, "container_start_time_seconds{labels} {}", ms(start) as f64 / 1000.0);
    }
    text
}

/// The container of metrics-server#1779, at the scrape with this number.
fn live(scrape: u32, start: bool) -> Series {
    let at = f64::from(scrape) * 15.0;
    Series { at, cpu: 295_207.25 + at / 2.0, memory: 33_000_000_000, start: start.then_some(-600_000.0) }
}

/// What an earlier instance of it left behind. Its timestamp stands still, or advances.
fn old(scrape: u32, start: bool, advances: bool) -> Series {
    let at = if advances { f64::from(scrape) * 15.0 } else { 0.0 };
    Series { at, cpu: 994_631.5, memory: 56_000_000_000, start: start.then_some(-2_000_000.0) }
}

#[test]
fn follows_the_live_one_of_two_series_in_any_order() {
    for (start, advances, cores) in
        (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, if bits & 4 > 0 { 64_000 } else { 0 }))
    {
        let node = OneNode::new(cores);
        for (scrape, first) in (1..).zip(["live", "old", "old", "live", "old", "live"]) {
            let mut series = [live(scrape, start), old(scrape, start, advances)];
            if first == "old" {
                series.reverse();
            }
            let problems = node.problems(&body(&series));
            assert_eq!(problems.count(SampleCause::DuplicateSeries), 1);
            assert_eq!(problems.count(SampleCause::ImplausibleUsage), 0);
            let expected = (scrape > 1).then_some((500, 33_000_000_000, 15_000));
            assert_eq!(node.row(), expected, "scrape {scrape}, {start}, {advances}, {cores}");
        }
    }
}

#[test]
fn never_computes_a_rate_across_two_series_that_alternate() {
    for (start, advances, cores) in
        (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, if bits & 4 > 0 { 64_000 } else { 0 }))
    {
        let node = OneNode::new(cores);
        let mut served = 0;
        for scrape in 1..40 {
            let live = live(scrape, start);
            let old = old(scrape, start, advances);
            let series = match (scrape - 1) % 7 {
                0 | 4 => vec![live],
                1 | 2 => vec![old],
                3 => vec![old, live],
                _ => vec![live, old],
            };
            node.scrape(15.0, &body(&series));
            if let Some((cpu, memory, _)) = node.row() {
                assert_eq!((cpu, memory), (500, 33_000_000_000), "scrape {scrape}");
                served += 1;
            }
        }
        assert!(served > 15, "{served}");
    }
}

#[test]
fn equal_duplicates_are_one_series() {
    let node = OneNode::new(4000);
    for scrape in 1..3 {
        let problems = node.problems(&body(&[live(scrape, true); 3]));
        assert_eq!(problems.duplicate_series, 0);
    }
    assert_eq!(node.row(), Some((500, 33_000_000_000, 15_000)));
}

#[test]
fn leaves_out_what_it_cannot_tell_apart() {
    let hidden = |bodies: &dyn Fn(u32) -> String| {
        let node = OneNode::new(4000);
        for scrape in 1..6 {
            let problems = node.problems(&bodies(scrape));
            assert_eq!((node.row(), problems.duplicate_series), (None, 1), "scrape {scrape}");
        }
    };
    let other = |scrape, cpu| Series { cpu, ..live(scrape, false) };
    hidden(&|scrape| body(&[live(scrape, false), other(scrape, 5.0 + f64::from(scrape))]));
    hidden(&|scrape| body(&[other(scrape, 7.0), other(scrape, 5.0)]));
    hidden(&|scrape| body(&(0..5).map(|n| other(scrape, f64::from(n * scrape))).collect::<Vec<_>>()));
    // Two CPU times, one memory usage: it may belong to either.
    hidden(&|scrape| {
        let both = body(&[live(scrape, false), other(scrape, 5.0)]);
        both.lines().take(3).collect::<Vec<_>>().join("\n")
    });
}

#[test]
fn a_start_time_that_cannot_be_paired_is_ignored() {
    // Two series with timestamps, but one start time: client_golang drops the second one, as it has no timestamp.
    let node = OneNode::new(4000);
    for scrape in 1..4 {
        let series = [Series { start: None, ..old(scrape, false, true) }, live(scrape, true)];
        node.scrape(15.0, &body(&series));
    }
    assert_eq!(node.row(), Some((500, 33_000_000_000, 15_000)));
}

#[test]
fn follows_the_next_instance_beside_the_old_one() {
    let node = OneNode::new(4000);
    let instance = |scrape: u32, cpu, start| Series { cpu, start: Some(start), ..live(scrape, true) };
    for scrape in 1..4 {
        node.scrape(15.0, &body(&[instance(scrape, f64::from(scrape) * 15.0, -100.0)]));
    }
    assert_eq!(node.row(), Some((1000, 33_000_000_000, 15_000)));
    let old = instance(4, 47.0, -100.0);
    node.scrape(15.0, &body(&[old, instance(4, 1.0, 55.0)]));
    assert_eq!(node.row(), Some((133, 33_000_000_000, 15_000)), "the old one has moved");
    node.scrape(15.0, &body(&[old, instance(5, 4.0, 55.0)]));
    assert_eq!(node.row(), Some((200, 33_000_000_000, 15_000)));
    for scrape in 6..30 {
        node.scrape(15.0, &body(&[instance(scrape, 4.0, 55.0)]));
    }
    assert_eq!(node.row(), Some((0, 33_000_000_000, 15_000)), "idle");
    let state = node.fixture.store.state.read();
    assert!(state.slots[0].snapshot.rivals.is_empty(), "the old series is forgotten");
}

#[test]
fn an_idle_container_after_a_restart_has_a_rate_from_its_second_sample() {
    let node = OneNode::new(4000);
    let sample = |at, cpu, start| body(&[Series { at, cpu, memory: 1, start }]);
    for (at, cpu, start) in [(0.0, 50.0, -100.0), (15.0, 51.0, -100.0), (30.0, 0.5, 25.0), (45.0, 0.5, 25.0)]
    {
        node.scrape(15.0, &sample(at, cpu, Some(start)));
    }
    assert_eq!(node.row(), Some((0, 1, 15_000)));
    // Without start times a lower counter may be another series, until it moves or the other one is forgotten.
    let node = OneNode::new(4000);
    for (at, cpu) in [(0.0, 50.0), (15.0, 51.0), (30.0, 0.5), (45.0, 0.5)] {
        node.scrape(15.0, &sample(at, cpu, None));
        assert_eq!(node.row().is_some(), (at - 15.0_f64).abs() < 0.1);
    }
    node.scrape(15.0, &sample(60.0, 2.0, None));
    assert_eq!(node.row(), Some((100, 1, 15_000)));
}

#[test]
fn a_jump_is_counted_and_not_served_and_the_next_window_is_good() {
    let node = OneNode::new(4000);
    let sample = |at: f64, cpu| body(&[Series { at, cpu, memory: 1, start: None }]);
    node.scrape(15.0, &sample(0.0, 50.0));
    node.scrape(15.0, &sample(15.0, 51.5));
    let problems = node.problems(&sample(30.0, 500.0));
    assert_eq!((node.row(), problems.count(SampleCause::ImplausibleUsage)), (None, 1));
    let problems = node.problems(&sample(45.0, 503.0));
    assert_eq!((node.row(), problems.implausible_usage), (Some((200, 1, 15_000)), 0));
}

#[test]
fn the_node_itself_is_bounded_by_its_capacity() {
    let node = OneNode::new(4000);
    let sample = |at: i64, cpu: f64| {
        let ms = (EPOCH + at) * 1000;
        format!("node_cpu_usage_seconds_total {cpu} {ms}\nnode_memory_working_set_bytes 1 {ms}\n")
    };
    let read = || {
        let mut cpu = None;
        node.fixture.store.node("a", &mut |row| cpu = Some(row.usage.cpu_nanocores / 1_000_000));
        cpu
    };
    node.scrape(10.0, &sample(0, 1000.0));
    node.scrape(10.0, &sample(10, 1030.0));
    assert_eq!(read(), Some(3000));
    assert_eq!(node.problems(&sample(20, 1100.0)).implausible_usage, 1);
    assert_eq!(read(), None);
    // Twice in a body, with other values: the live one is followed.
    let live = |at: i64| sample(at, 2000.0 + at as f64);
    for at in [30, 40, 50] {
        let problems = node.problems(&format!("{}{}", sample(at, 500.0), live(at)));
        assert_eq!(problems.duplicate_series, 1);
    }
    assert_eq!(read(), Some(1000));
}

/// k3s#2881: value and timestamp stand still.
#[test]
fn a_frozen_sample_expires_and_recovers() {
    let node = OneNode::new(4000);
    let sample = |at: f64, cpu| body(&[Series { at, cpu, memory: 1, start: None }]);
    node.scrape(15.0, &sample(0.0, 50.0));
    node.scrape(15.0, &sample(15.0, 63.5));
    for wait in [15.0, 15.0, 15.0, 14.0] {
        node.scrape(wait, &sample(15.0, 63.5));
        assert_eq!(node.row(), Some((900, 1, 15_000)), "up to 59 s old");
    }
    node.fixture.directory.skip(Duration::from_secs(2));
    assert_eq!(node.row(), None, "61 s old, between two scrapes");
    assert_eq!(node.fixture.store.coverage().containers_measured, 0);
    let mut stalled = Vec::new();
    for _ in 0..5 {
        stalled.push(node.problems(&sample(15.0, 63.5)).count(SampleCause::TimestampsStalled));
        assert_eq!(node.row(), None);
    }
    assert_eq!(stalled, [0, 1, 1, 1, 1], "named from 90 s on");
    let problems = node.problems(&sample(170.0, 70.0));
    assert_eq!((node.row(), problems.timestamps_stalled), (None, 0), "155 s are no window");
    node.scrape(15.0, &sample(185.0, 71.5));
    assert_eq!(node.row(), Some((100, 1, 15_000)));
}

/// The timestamps of a node never change.
#[test]
fn counts_stalled_timestamps_that_never_made_a_rate() {
    let node = OneNode::new(4000);
    let ms = EPOCH * 1000;
    let text = body(&[live(0, true)])
        + &format!("node_cpu_usage_seconds_total 5 {ms}\nnode_memory_working_set_bytes 1 {ms}\n");
    let counts: Vec<_> = (0..10).map(|_| node.problems(&text).timestamps_stalled).collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 2, 2, 2, 2], "from 90 s on");
    assert_eq!(node.row(), None);
}

#[test]
fn cached_samples_of_an_idle_container_are_no_problem() {
    let node = OneNode::new(4000);
    let mut rows = 0;
    for scrape in 0..40 {
        // A sample every 30 s at most.
        let at = f64::from(scrape * 15 / 30 * 30);
        let summary = node.scrape(15.0, &body(&[Series { at, cpu: 5.0 + at / 1e6, memory: 1, start: None }]));
        let expected = SampleProblems { containers: 1, ..SampleProblems::default() };
        let found = SampleProblems { clock_skew_ms: 0, ..summary.problems };
        assert_eq!(found, expected);
        rows += usize::from(node.row().is_some());
    }
    assert_eq!(rows, 38);
}

#[test]
fn counts_zero_usage_except_of_a_container_that_starts() {
    let counts = |start: Option<f64>| -> Vec<u32> {
        let node = OneNode::new(4000);
        let zero = |at| body(&[Series { at, cpu: 5.0, memory: 0, start }]);
        (0..12).map(|n| node.problems(&zero(f64::from(n) * 15.0)).count(SampleCause::ZeroUsage)).collect()
    };
    let from = |first: usize| -> Vec<u32> { (0..12).map(|n| u32::from(n >= first)).collect() };
    assert_eq!(counts(Some(-100.0)), from(0), "older than a start explains");
    assert_eq!(counts(None), from(2), "without start time: from the second interval and 30 s on");
    assert_eq!(counts(Some(-1.0)), from(2), "the same while the age proves nothing");
    // Its first sample, which cAdvisor keeps: age 0 whenever it is requested.
    let node = OneNode::new(4000);
    let first = body(&[Series { at: 0.0, cpu: 0.0, memory: 0, start: Some(0.0) }]);
    let counts: Vec<_> = (0..10).map(|_| node.problems(&first).zero_usage).collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1], "only after 90 s");
    let node = OneNode::new(4000);
    let good = body(&[Series { at: 60.0, cpu: 6.0, memory: 1, start: Some(-100.0) }]);
    assert_eq!(node.problems(&good).zero_usage, 0);
    let node = OneNode::new(4000);
    let text =
        "node_cpu_usage_seconds_total 0 1700000000000\nnode_memory_working_set_bytes 0 1700000000000\n";
    assert_eq!(node.problems(text).zero_usage, 1);
}

#[test]
fn reports_the_clock_skew_of_a_node() {
    let skew = |ahead: f64| {
        let node = OneNode::new(4000);
        let mut skews = Vec::new();
        for scrape in 0..3 {
            let now = node.fixture.directory.now_ms() as f64 / 1000.0 + 15.0;
            let series = Series { at: now + ahead, cpu: 5.0 + f64::from(scrape), memory: 1, start: None };
            let problems = node.problems(&body(&[series]));
            skews.push((problems.clock_skew_ms.div_euclid(1000), problems.count(SampleCause::ClockSkew)));
        }
        assert_eq!(skews[0], (0, 0), "not before a timestamp has moved");
        assert!((skews[1].0 - skews[2].0).abs() <= 1);
        (skews[2].0, skews[2].1)
    };
    let near = |(skew, count): (i64, u32), expected: i64| (skew - expected).abs() <= 1 && count == 1;
    assert!(near(skew(3600.0), 3600), "{:?}", skew(3600.0));
    assert!(near(skew(-3600.0), -3570), "{:?}", skew(-3600.0));
    assert_eq!(skew(-20.0).1, 0, "a cached sample");
    assert_eq!((skew(30.0).1, skew(70.0).1, skew(-100.0).1), (0, 1, 1));
}

#[test]
fn counts_running_pods_that_a_node_no_longer_reports() {
    let node = OneNode::new(4000);
    let all = body(&[live(1, false)]) + "node_cpu_usage_seconds_total 5\nnode_memory_working_set_bytes 1\n";
    assert_eq!(node.problems(&all).pods_absent, 0);
    let without_pods = "node_cpu_usage_seconds_total 6\nnode_memory_working_set_bytes 1\n";
    let counts: Vec<_> = (0..10)
        .map(|_| {
            let problems = node.problems(without_pods);
            (problems.count(SampleCause::NoContainers), problems.count(SampleCause::PodsMissing))
        })
        .collect();
    assert_eq!(counts[..6], [(1, 0); 6]);
    assert_eq!(counts[6..], [(1, 1); 4], "for 90 s");
    assert_eq!(node.problems(&all).pods_absent, 0, "reported again");
    node.problems(without_pods);
    node.fixture.directory.delete_pod("n", "p");
    assert_eq!(node.problems(without_pods).pods_absent, 0, "no longer running");
}

#[test]
fn a_pod_that_moved_is_not_absent() {
    let node = OneNode::new(4000);
    let other = with_cores(&node.fixture, "b", 4000, true);
    node.problems(&body(&[live(1, false)]));
    node.fixture.body(other, 0, &[("n/p/x", 1.0, 1, None)]);
    assert_eq!(node.problems("node_cpu_usage_seconds_total 6\n").pods_absent, 0);
}

/// The clock of a dead node is an hour ahead. Its pod runs on another node.
#[test]
fn a_dead_node_with_a_fast_clock_does_not_hide_a_moved_pod() {
    let fixture = TestStore::new();
    let (dead, new) = (fixture.node("dead", "1"), fixture.node("new", "1"));
    fixture.pod("n/p", "u");
    fixture.synced();
    for at in [3600, 3610] {
        fixture.directory.skip(Duration::from_secs(10));
        fixture.body(dead, at, &[("n/p/x", 10.0 + at as f64, 1, Some(3500))]);
    }
    assert_eq!(fixture.all(), ["n/p: x=1000"]);
    fixture.store.scrape_failed(dead);
    for at in [20, 30] {
        fixture.directory.skip(Duration::from_secs(10));
        fixture.body(new, at, &[("n/p/x", at as f64 / 10.0, 1, Some(15))]);
    }
    assert_eq!(fixture.all(), ["n/p: x=100"]);
}

#[test]
fn does_not_switch_between_two_nodes_that_report_a_pod() {
    let fixture = TestStore::new();
    let (one, other) = (fixture.node("one", "1"), fixture.node("other", "1"));
    fixture.pod("n/p", "u");
    fixture.synced();
    for round in 0..20 {
        fixture.directory.skip(Duration::from_secs(15));
        let at = round * 15;
        fixture.body(one, at + 5000, &[("n/p/x", 10.0 + at as f64, 1, Some(4000))]);
        if round > 3 {
            fixture.body(other, at, &[("n/p/x", 10.0 + at as f64 / 10.0, 1, Some(at))]);
        }
        let expected: &[&str] = match round {
            1..4 => &["n/p: x=1000"],
            0 | 4 => &[], // No rate yet where the pod appeared last.
            _ => &["n/p: x=100"],
        };
        if round != 5 {
            assert_eq!(fixture.all(), expected, "round {round}");
        }
    }
    // A Ready node counts before one that is not.
    let known = fixture.directory.nodes().get("other").unwrap().clone();
    fixture.store.update_node(other, &Arc::new(Node { ready: false, ..(*known).clone() }));
    assert_eq!(fixture.all(), ["n/p: x=1000"]);
}

#[test]
fn the_first_rate_after_an_outage_is_not_its_average() {
    let node = OneNode::new(4000);
    let sample = |at: f64, cpu| body(&[Series { at, cpu, memory: 1, start: None }]);
    node.scrape(15.0, &sample(0.0, 50.0));
    node.scrape(15.0, &sample(15.0, 51.5));
    for _ in 0..240 {
        node.fixture.directory.skip(Duration::from_secs(15));
        node.fixture.store.scrape_failed(node.ticket);
    }
    assert_eq!(node.row(), None);
    node.scrape(15.0, &sample(3630.0, 3000.0));
    assert_eq!(node.row(), None);
    node.scrape(15.0, &sample(3645.0, 3015.0));
    assert_eq!(node.row(), Some((1000, 1, 15_000)));
}

#[test]
fn watches_report_samples_that_expire_between_scrapes() {
    let node = OneNode::new(4000);
    let sample = |at: f64, cpu| body(&[Series { at, cpu, memory: 1, start: None }]);
    node.scrape(15.0, &sample(0.0, 50.0));
    node.scrape(15.0, &sample(15.0, 51.5));
    for _ in 0..4 {
        node.scrape(14.0, &sample(15.0, 51.5));
    }
    let store = &node.fixture.store;
    let from = store.version();
    assert_eq!(store.pod("n", "p", &mut |_| {}), Lookup::Found);
    // The next scrapes fail. The node's last response is not too old, but the sample is.
    node.fixture.directory.skip(Duration::from_secs(6));
    store.scrape_failed(node.ticket);
    let mut removed = Vec::new();
    let mut version = from;
    let query = |from| crate::model::rows::ChangeQuery {
        kind: crate::model::rows::RowKind::Pods,
        namespace: None,
        name: None,
        from,
        new_from: from,
        unknown_from: from,
    };
    loop {
        let progress = store
            .next_change(query(version), &mut |_, _| true, &mut |change| {
                if let crate::model::rows::Change::Removed { name, .. } = change {
                    removed.push(name.to_owned());
                }
            })
            .unwrap();
        version = progress.until;
        if !progress.more {
            break;
        }
    }
    assert_eq!(removed, ["p"]);
    let changed = store.version();
    store.scrape_failed(node.ticket);
    assert_eq!(store.version(), changed, "recorded once");
}

/// What happens to a container in a round of the truth.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It uses this share of a core, in percent.
    Runs(u8),
    Restarts,
    /// The kubelet repeats its last sample.
    Repeats,
    /// It is not in the body.
    Missing,
    /// The node's clock is set by this many seconds. Less than a minute can't be told from the age of cached samples.
    ClockSet(i16),
    /// Scrapes fail for this many seconds.
    Gap(u16),
    /// The start time is reported as this many seconds before the sample, in this round.
    MovesStart(u8),
}

fn events() -> impl Strategy<Value = Vec<(Event, u8)>> {
    let event = prop_oneof![
        10 => (0..100_u8).prop_map(Event::Runs),
        2 => Just(Event::Restarts),
        3 => Just(Event::Repeats),
        1 => Just(Event::Missing),
        1 => prop_oneof![-5000..-70_i16, 70..5000_i16].prop_map(Event::ClockSet),
        1 => (20..2000_u16).prop_map(Event::Gap),
        1 => (1..14_u8).prop_map(Event::MovesStart),
    ];
    // Each with the order and presence of left-behind series.
    prop::collection::vec((event, any::<u8>()), 2..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens, a rate that is served is what one instance spent between two of its samples, the window is
    /// the time between their timestamps, and that is the true time but for 60 s by which clocks may be set; and
    /// memory is that of the live container. The model knows the truth, not the rules.
    #[test]
    fn serves_the_truth_or_nothing(
        events in events(),
        has_start in any::<bool>(),
        // The node's capacity, and a counter that the live container cannot reach between two scrapes.
        (cores, old_cpu) in prop::sample::select(vec![(0_u64, 994_631.5), (4000, 20_000.0), (4000, 994_631.5)]),
        old_advances in any::<bool>(),
        direction in prop::sample::select(vec![-1.0, 1.0]),
    ) {
        let node = OneNode::new(cores);
        // True time, by our clock; the node's clock; the live container.
        let (mut time, mut clock) = (0.0_f64, 0.0_f64);
        let (mut cpu, mut start) = (1000.0_f64, -5000.0_f64);
        let mut instance = 0_u64;
        let mut last: Option<Series> = None;
        // Whether the last body contained the container. Nothing contradicts a wrong start time of a first sample.
        let mut is_known = false;
        // Of each sample by its timestamp: instance, true time and counter.
        let mut truth: Vec<(i64, u64, f64, f64)> = Vec::new();
        for (event, order) in events {
            let mut usage = 50;
            let mut step = 15.0;
            let mut false_start = None;
            match event {
                Event::Runs(percent) => usage = percent,
                Event::Gap(seconds) => step = f64::from(seconds),
                // Always in the same direction: a clock that returns hides all that happened in between.
                Event::ClockSet(seconds) => clock += f64::from(seconds).abs() * direction,
                Event::MovesStart(age) => false_start = Some(f64::from(age)),
                Event::Restarts | Event::Repeats | Event::Missing => {}
            }
            time += step;
            clock += step;
            cpu += step * f64::from(usage) / 100.0;
            if let Event::Restarts = event {
                instance += 1;
                start = clock - 5.0;
                // Lower than the last instance's: else it may be a start time that moves while the counter stands still.
                cpu = 2.5 - 0.05 * instance as f64;
            }
            let series = Series { at: clock, cpu, memory: 1000 + instance, start: has_start.then_some(start) };
            let reported = match event {
                Event::Repeats => last.unwrap_or(series),
                _ => series,
            };
            let ms = |series: &Series| (series.at * 1000.0).round() as i64;
            if reported == series {
                truth.push((ms(&series), instance, time, cpu));
            }
            last = Some(reported);
            let shown = match false_start {
                Some(age) if has_start && is_known => Series { start: Some(reported.at - age), ..reported },
                _ => reported,
            };
            let left = Series {
                at: if old_advances { clock } else { -10.0 },
                cpu: old_cpu,
                memory: 999,
                start: has_start.then_some(-90_000.0),
            };
            let mut all = match order % 8 {
                0..=2 => vec![shown],
                3..=5 => vec![shown, left],
                6 => vec![left, shown],
                _ => vec![left, shown, left],
            };
            if let Event::Missing = event {
                all.retain(|series| *series == left);
            }
            is_known = !all.is_empty();
            all.dedup();
            node.scrape(step, &format!("{}node_cpu_usage_seconds_total 1\n", body(&all)));
            let mut row = None;
            node.fixture.store.pods(None, None, &mut |_, _| Pick::Take, &mut |found| {
                let usage = found.containers[0].usage;
                let at = found.timestamp_ns / 1_000_000 - EPOCH * 1000;
                row = Some((usage.cpu_nanocores as f64 / 1e9, usage.memory_bytes, at, found.window_ns / 1_000_000));
                ControlFlow::Continue(())
            });
            let Some((rate, memory, at, window)) = row else { continue };
            // The left-behind series alone, before anything else showed it to be dead, is an idle container.
            if memory == 999 {
                prop_assert!(rate.abs() < 1e-9, "a rate of the left-behind series: {rate}");
                continue;
            }
            prop_assert!((500..=90_000).contains(&window));
            let found = truth.iter().rev().find(|sample| sample.0 == at);
            let Some((_, instance, end, counter)) = found.copied() else {
                return Err(TestCaseError::fail(format!("no sample of {at}")));
            };
            let begin = at - window;
            let seconds = window as f64 / 1000.0;
            let from_last = truth.iter().any(|(began, of, true_begin, before)| {
                let spent = counter - before;
                *began == begin
                    && *of == instance
                    && (spent - rate * seconds).abs() < 0.01 + spent * 0.01
                    && (end - true_begin - seconds).abs() <= 60.1
            });
            prop_assert!(from_last, "{rate} cores over {window} ms until {at}\n{truth:?}");
        }
    }
}
