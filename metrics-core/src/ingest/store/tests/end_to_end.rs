//! From a body's text to a row, in all variants of the format, against a simple model.

use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::TestStore;
use crate::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use crate::ingest::store::rate::Point;
use crate::ingest::store::rate::tests::{S, T0, model};
use crate::model::rows::{Pick, Rows};

/// What one body reports of a container: the series that are present.
#[derive(Clone, Copy, Debug)]
struct ReportedSample {
    /// Whether the sample of the last body is repeated.
    repeats: bool,
    /// The CPU time since the last sample, in percent of two cores.
    cpu: Option<u64>,
    memory: Option<u64>,
    swap: Option<u64>,
}

/// A container's state: half seconds since some epoch, CPU seconds.
#[derive(Clone, Copy, Debug, Default)]
struct ContainerState {
    at: i64,
    cpu: f64,
    start: Option<i64>,
    /// Whether a body contained this sample, complete, and the container was in all bodies since.
    has_arrived: bool,
}

/// The variant of the format in which a body is written.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is an independent choice.
struct FormatVariant {
    openmetrics: bool,
    exemplars: bool,
    comments: bool,
    extra_labels: bool,
    exponents: bool,
    garbage: bool,
    /// The sort keys of the lines.
    order: Vec<u8>,
}

const CONTAINERS: [&str; 2] = ["a", "b"];

/// The half seconds since the last round, the samples, and the format.
type Round = (i64, [Option<ReportedSample>; 2], FormatVariant);
/// Of each container in the body, a point and its swap usage.
type Points = [Option<(Point, Option<u64>)>; 2];

fn reported() -> impl Strategy<Value = Option<ReportedSample>> {
    let memory = prop_oneof![1 => Just(None), 1 => Just(Some(0)), 8 => (1_u64..1 << 40).prop_map(Some)];
    let cpu = prop_oneof![1 => Just(None), 9 => (0_u64..100).prop_map(Some)];
    let all = (any::<bool>(), cpu, memory, prop::option::of(0_u64..1 << 30));
    let reported = all.prop_map(|(repeats, cpu, memory, swap)| ReportedSample { repeats, cpu, memory, swap });
    prop_oneof![1 => Just(None), 9 => reported.prop_map(Some)]
}

fn variant() -> impl Strategy<Value = FormatVariant> {
    (any::<[bool; 6]>(), prop::collection::vec(any::<u8>(), 10)).prop_map(|(on, order)| FormatVariant {
        openmetrics: on[0],
        exemplars: on[0] && on[1],
        comments: on[2],
        extra_labels: on[3],
        exponents: on[4],
        garbage: on[5],
        order,
    })
}

/// Returns the number as it is written and as it is parsed.
fn number(value: f64, variant: &FormatVariant) -> (String, f64) {
    let text = if variant.exponents { format!("{value:e}") } else { format!("{value}") };
    let read = text.parse().unwrap();
    (text, read)
}

/// Returns the body and the points that it reports.
fn write(round: &Round, now: i64, states: &mut [ContainerState; 2]) -> (String, Points) {
    let (_, containers, variant) = round;
    let mut lines = Vec::new();
    let mut points = [None, None];
    let all = CONTAINERS.iter().zip(containers).zip(&mut points).zip(states);
    for (((name, reported), point), state) in all {
        let Some(reported) = reported else { continue };
        // A sample that arrives is at most 30 s old; one that has arrived may stand still for longer.
        if !reported.repeats || state.at == 0 || (!state.has_arrived && now - state.at > 60) {
            state.has_arrived = false;
            let percent = reported.cpu.unwrap_or(0) as f64;
            state.cpu += percent / 100.0 * (now - state.at) as f64;
            state.at = now;
        }
        let mut labels = vec![format!("container=\"{name}\""), "namespace=\"n\"".into(), "pod=\"p\"".into()];
        if variant.extra_labels {
            labels.insert(1, r#"id="/\"a\"\\,}\n""#.into());
            labels.rotate_left(usize::from(variant.order[0]) % 4);
        }
        let ms = T0 / 1_000_000 + state.at * 500;
        let time =
            if variant.openmetrics { format!("{}.{:03}", ms / 1000, ms % 1000) } else { ms.to_string() };
        let tail =
            if variant.exemplars { format!(" # {{trace=\"{name}\"}} 1 {time}") } else { String::new() };
        let mut line = |series: &str, value: &str, timed: bool| {
            let time = if timed { format!(" {time}") } else { String::new() };
            lines.push(format!("container_{series}{{{}}} {value}{time}{tail}", labels.join(",")));
        };
        let mut read = Point::default();
        if reported.cpu.is_some() {
            let (text, value) = number(state.cpu, variant);
            line("cpu_usage_seconds_total", &text, true);
            (read.cpu_ns, read.timestamp_ns) = ((value * 1e9) as u64, ms * 1_000_000);
        }
        if let Some(memory) = reported.memory {
            let (text, value) = number(memory as f64, variant);
            line("memory_working_set_bytes", &text, true);
            read.memory_bytes = value as u64;
        }
        if let Some(swap) = reported.swap {
            line("swap_usage_bytes", &number(swap as f64, variant).0, true);
            read.swap_bytes = Some(swap);
        }
        if let Some(start) = state.start {
            line("start_time_seconds", &(T0 / S + start).to_string(), false);
            read.start_ns = T0 + start * S;
        }
        if reported.cpu.is_some() || reported.memory.is_some() || state.start.is_some() {
            *point = Some((read, reported.swap));
        }
    }
    let mut at = 0;
    lines.sort_by_cached_key(|_| {
        at += 1;
        variant.order[at % variant.order.len()]
    });
    if variant.garbage {
        lines.push("what {is this".into());
        lines.push("container_cpu_usage_seconds_total{container=\"a\"} 1 1".into());
        lines.insert(
            0,
            "container_memory_working_set_bytes{namespace=\"n\",pod=\"p\",container=\"b\"} x".into(),
        );
    }
    if variant.comments {
        lines.insert(0, "# HELP container_cpu_usage_seconds_total \"{}".into());
        lines.push("# TYPE container_swap_usage_bytes gauge\n# EOF".into());
    }
    (lines.join("\n"), points)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_the_model(
        rounds in prop::collection::vec((1_i64..60, [reported(), reported()], variant()), 1..8),
        starts in [prop::option::of(-60_i64..-2), prop::option::of(-60_i64..-2)],
        restart in prop::option::of((0_usize..2, 2_usize..6)),
    ) {
        let fixture = TestStore::with_interval(Duration::from_secs(60));
        let ticket = fixture.node("a", "1");
        fixture.pod("n/p", "u");
        fixture.synced();
        // For each container, its points since the last body without it.
        let mut known: [Vec<Point>; 2] = Default::default();
        // For each container, when its complete points arrived.
        let mut arrived: [Vec<(i64, i64)>; 2] = Default::default();
        let mut now = 0;
        let mut states = starts.map(|start| ContainerState { at: 0, cpu: 1000.0, start, has_arrived: false });
        for (number, round) in rounds.iter().enumerate() {
            fixture.directory.skip(Duration::from_millis(round.0.unsigned_abs() * 500));
            now += round.0;
            if let Some((which, _)) = restart.filter(|(which, at)| *at == number && starts[*which].is_some()) {
                // At this instant, so that its first sample follows in the next round.
                states[which] = ContainerState {
                    at: now,
                    cpu: 0.25,
                    start: Some(now / 2),
                    has_arrived: false,
                };
                continue;
            }
            let (body, points) = write(round, now, &mut states);
            let format = if round.2.openmetrics { ExpositionFormat::OpenMetrics } else { ExpositionFormat::Text };
            let mut batch = fixture.store.begin_batch(ticket).unwrap();
            decode(body.as_bytes(), DecodeOptions { format, default_timestamp_ns: 1 }, &mut batch);
            fixture.put(ticket, batch).unwrap();

            let mut expected = Some(Vec::new());
            let mut earliest: Option<(i64, i64)> = None;
            let all = CONTAINERS.iter().zip(points).zip(&mut known).zip(&mut arrived).zip(&mut states);
            for ((((name, point), known), arrived), state) in all {
                let Some((point, swap)) = point else {
                    state.has_arrived = false;
                    known.clear();
                    arrived.clear();
                    continue;
                };
                known.push(point);
                if point.is_complete() {
                    state.has_arrived = true;
                    arrived.push((point.timestamp_ns, now));
                }
                let first = arrived.iter().find(|(timestamp_ns, _)| *timestamp_ns == point.timestamp_ns);
                // A sample is served for 60 s.
                let is_fresh = first.is_some_and(|(_, at)| now - at <= 120);
                let Some((cpu, window)) = model(known).filter(|_| is_fresh) else {
                    expected = None;
                    continue;
                };
                if earliest.is_none_or(|(time, _)| point.timestamp_ns < time) {
                    earliest = Some((point.timestamp_ns, window));
                }
                if let Some(rows) = &mut expected {
                    rows.push(((*name).to_owned(), cpu, point.memory_bytes, swap));
                }
            }
            let expected = expected.filter(|rows| !rows.is_empty()).zip(earliest);
            let mut got = None;
            fixture.store.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
                let rows = row.containers.iter().map(|container| {
                    let usage = container.usage;
                    (container.name.to_owned(), usage.cpu_nanocores, usage.memory_bytes, usage.swap_bytes)
                });
                got = Some((rows.collect::<Vec<_>>(), (row.timestamp_ns, row.window_ns)));
                ControlFlow::Continue(())
            });
            prop_assert_eq!(&got, &expected, "after\n{}", body);
        }
    }
}
