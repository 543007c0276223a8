//! From a body's text to a row, in any style of writing, against the slow and obvious model.

use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;

use super::rate::Point;
use super::rate::tests::{S, T0, model};
use super::tests::Bench;
use crate::ingest::decode::{Context, Format, decode};
use crate::model::rows::{Pick, Rows};

/// What one body says of a container: half seconds since some epoch, and the series that are there.
#[derive(Clone, Debug)]
struct Said {
    at: i64,
    cpu: Option<u64>,
    memory: Option<u64>,
    swap: Option<u64>,
    start: Option<i64>,
}

/// How a body is written.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a liberty of its own.
struct Style {
    openmetrics: bool,
    exemplars: bool,
    comments: bool,
    extra_labels: bool,
    exponents: bool,
    garbage: bool,
    /// Where each line goes: the order of what is the same otherwise.
    order: Vec<u8>,
}

const CONTAINERS: [&str; 2] = ["a", "b"];

type Round = ([Option<Said>; 2], Style);
/// A point and its swap, of each container that is mentioned.
type Points = [Option<(Point, Option<u64>)>; 2];

fn said() -> impl Strategy<Value = Option<Said>> {
    let memory = prop_oneof![1 => Just(None), 1 => Just(Some(0)), 8 => (1_u64..1 << 40).prop_map(Some)];
    let cpu = prop_oneof![1 => Just(None), 9 => (0_u64..40).prop_map(Some)];
    let all = (0_i64..120, cpu, memory, prop::option::of(0_u64..1 << 30), prop::option::of(-50_i64..60));
    let said = all.prop_map(|(at, cpu, memory, swap, start)| Said { at, cpu, memory, swap, start });
    prop_oneof![1 => Just(None), 9 => said.prop_map(Some)]
}

fn style() -> impl Strategy<Value = Style> {
    (any::<[bool; 6]>(), prop::collection::vec(any::<u8>(), 10)).prop_map(|(on, order)| Style {
        openmetrics: on[0],
        exemplars: on[0] && on[1],
        comments: on[2],
        extra_labels: on[3],
        exponents: on[4],
        garbage: on[5],
        order,
    })
}

/// The number as it is written, and as anybody reads it.
fn number(value: f64, style: &Style) -> (String, f64) {
    let text = if style.exponents { format!("{value:e}") } else { format!("{value}") };
    let read = text.parse().unwrap();
    (text, read)
}

/// The body, and what it says.
fn write(round: &Round) -> (String, Points) {
    let (containers, style) = round;
    let mut lines = Vec::new();
    let mut points = [None, None];
    for ((name, said), point) in CONTAINERS.iter().zip(containers).zip(&mut points) {
        let Some(said) = said else { continue };
        let mut labels = vec![format!("container=\"{name}\""), "namespace=\"n\"".into(), "pod=\"p\"".into()];
        if style.extra_labels {
            labels.insert(1, r#"id="/\"a\"\\,}\n""#.into());
            labels.rotate_left(usize::from(style.order[0]) % 4);
        }
        let ms = T0 / 1_000_000 + said.at * 500;
        let time = if style.openmetrics { format!("{}.{:03}", ms / 1000, ms % 1000) } else { ms.to_string() };
        let tail = if style.exemplars { format!(" # {{trace=\"{name}\"}} 1 {time}") } else { String::new() };
        let mut line = |series: &str, value: &str, timed: bool| {
            let time = if timed { format!(" {time}") } else { String::new() };
            lines.push(format!("container_{series}{{{}}} {value}{time}{tail}", labels.join(",")));
        };
        let mut read = Point::default();
        if let Some(cpu) = said.cpu {
            let (text, value) = number(cpu as f64 * 1.000_000_007, style);
            line("cpu_usage_seconds_total", &text, true);
            (read.cpu_ns, read.timestamp_ns) = ((value * 1e9) as u64, ms * 1_000_000);
        }
        if let Some(memory) = said.memory {
            let (text, value) = number(memory as f64, style);
            line("memory_working_set_bytes", &text, true);
            read.memory_bytes = value as u64;
        }
        if let Some(swap) = said.swap {
            line("swap_usage_bytes", &number(swap as f64, style).0, true);
            read.swap_bytes = Some(swap);
        }
        if let Some(start) = said.start {
            line("start_time_seconds", &(T0 / S + start).to_string(), false);
            read.start_ns = T0 + start * S;
        }
        if said.cpu.is_some() || said.memory.is_some() || said.start.is_some() {
            *point = Some((read, said.swap));
        }
    }
    let mut at = 0;
    lines.sort_by_cached_key(|_| {
        at += 1;
        style.order[at % style.order.len()]
    });
    if style.garbage {
        lines.push("what {is this".into());
        lines.push("container_cpu_usage_seconds_total{container=\"a\"} 1 1".into());
        lines.insert(
            0,
            "container_memory_working_set_bytes{namespace=\"n\",pod=\"p\",container=\"b\"} x".into(),
        );
    }
    if style.comments {
        lines.insert(0, "# HELP container_cpu_usage_seconds_total \"{}".into());
        lines.push("# TYPE container_swap_usage_bytes gauge\n# EOF".into());
    }
    (lines.join("\n"), points)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_the_model(rounds in prop::collection::vec(([said(), said()], style()), 1..8)) {
        let bench = Bench::resolving(Duration::from_secs(60));
        let ticket = bench.node("a", "1");
        bench.pod("n/p", "u");
        bench.synced();
        // Of each container, all that was said since it was last left out.
        let mut known: [Vec<Point>; 2] = Default::default();
        for round in &rounds {
            let (body, points) = write(round);
            let format = if round.1.openmetrics { Format::OpenMetrics } else { Format::Text };
            let mut intake = bench.store.intake(ticket).unwrap();
            decode(body.as_bytes(), Context { format, default_timestamp_ns: 1 }, &mut intake);
            bench.store.put(ticket, intake, bench.directory.now_ms()).unwrap();

            let mut expected = Some(Vec::new());
            let mut earliest: Option<(i64, i64)> = None;
            for ((name, point), known) in CONTAINERS.iter().zip(points).zip(&mut known) {
                let Some((point, swap)) = point else {
                    known.clear();
                    continue;
                };
                known.push(point);
                let Some((cpu, window)) = model(known) else {
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
            bench.store.pods(None, None, &mut |_, _| Pick::Take, &mut |row| {
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
