//! Rare cases: kubelets on Windows, virtual kubelets, OpenMetrics, very many pods, and objects that change between
//! the steps.

use std::collections::BTreeMap;

use super::fleet::{self, FakePod, STEPS, Samples, USUAL, cpu, exposition};
use super::kubelets::Reply;
use crate::error::Result;
use crate::testbed::kubectl::Client;

/// Number of pods on the most crowded node.
const CROWD: usize = 500;
/// A label that an exporter may add, with all escape sequences and with text that looks like the end of the labels.
const EXTRA: &str = "id=\"/a \\\"b\\\" \\\\ {c},} \\n\"";

/// Returns a pod of these cases.
fn pod(name: &str, samples: Samples) -> FakePod {
    FakePod("edge-cases", name.to_owned(), "Running", &[("edge-cases", "any")], vec![("main", samples)])
}

/// Returns the pods of each node.
pub(super) fn pods() -> Vec<(&'static str, Vec<FakePod>)> {
    let gone = Samples { cpu: [2.0, -1.0, -1.0], memory: [4096.0, -1.0, -1.0], ..USUAL };
    let with = |name: &str, containers| FakePod("edge-cases", name.to_owned(), "Running", &[], containers);
    let crowd = (0..CROWD).map(|at| {
        let at_f = f64::from(u32::try_from(at).unwrap_or_default());
        let samples = cpu([1.0 + at_f, 2.0 + at_f * 1.5, 3.0 + at_f * 2.0]);
        FakePod("crowd", format!("p{at:03}"), "Running", &[], vec![("main", samples)])
    });
    vec![
        (
            "fake-windows",
            vec![pod("windows", cpu([4.0, 5.0, 6.5])), pod("windows-idle", cpu([4.0, 4.0, 4.0]))],
        ),
        ("fake-virtual", vec![pod("virtual", USUAL), with("virtual-two", vec![("b", USUAL), ("a", USUAL)])]),
        ("fake-untimed", vec![pod("untimed", USUAL)]),
        ("fake-exemplars", vec![pod("exemplars", USUAL)]),
        ("fake-swapping", vec![pod("swapping", USUAL)]),
        ("fake-crowded", crowd.collect()),
        (
            "fake-life",
            vec![
                // It is deleted and recreated before the second step, so it has two samples of its own.
                pod("reborn", Samples { cpu: [90.0, 1.0, 2.5], age: [3_600_000, -14_000, -14_000], ..USUAL }),
                with("init-done", vec![("init", gone), ("main", USUAL)]),
                with("sidecar", vec![("main", cpu([2.0, 3.0, 4.0])), ("proxy", USUAL)]),
                with("mirror-fake-life", vec![("main", USUAL)]),
                pod("clock-forward", Samples { offset: [0, 0, 3_600_000], ..USUAL }),
                pod("clock-back-and-on", Samples { offset: [0, -40_000, -40_000], ..USUAL }),
            ],
        ),
        // Replaced before the third step by another machine, whose counter is ahead.
        ("fake-replaced", vec![]),
    ]
}

/// Returns the replies of these nodes by step.
pub(super) fn nodes(origin: i64) -> Vec<(&'static str, Vec<Reply>)> {
    pods()
        .into_iter()
        .map(|(name, pods)| {
            let node = match name {
                "fake-replaced" => cpu([10.0, 11.0, 5000.0]),
                // About a fifth less than its containers use together, because a node cannot have more than 4096 cores.
                "fake-crowded" => cpu([1e6, 1.05e6, 1.1e6]),
                _ => USUAL,
            };
            let replies = (0..STEPS).map(|step| reply(name, &exposition(Some(node), &pods, step, origin)));
            (name, replies.collect())
        })
        .collect()
}

fn reply(node: &str, body: &str) -> Reply {
    let lines = || body.lines().filter(|line| !line.starts_with('#'));
    match node {
        // No lines about the families, another order, no start times.
        "fake-windows" => {
            let mut lines: Vec<_> = lines().filter(|line| !line.contains("start_time")).collect();
            lines.reverse();
            Reply::metrics(format!("{}\n", lines.join("\n")))
        }
        // Grouped by container, with additional labels of the exporter.
        "fake-virtual" => {
            let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for line in lines() {
                let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let line = line.replace('{', &format!("{{{EXTRA},")).replacen("\"} ", "\",uid=\"x\"} ", 1);
                of.entry(labels.map_or("", |(labels, _)| labels)).or_default().push(line);
            }
            let lines: Vec<_> = of.into_values().flatten().collect();
            Reply::metrics(format!("{}\n", lines.join("\n")))
        }
        "fake-untimed" => {
            let line = |line: &str| match line.rsplit_once(' ') {
                Some((rest, _)) if !line.starts_with('#') && rest.contains(' ') => rest.to_owned(),
                _ => line.to_owned(),
            };
            Reply::metrics(format!("{}\n", body.lines().map(line).collect::<Vec<_>>().join("\n")))
        }
        // OpenMetrics has timestamps in seconds, and a sample may have an exemplar.
        "fake-exemplars" => {
            let line = |line: &str| match line.rsplit_once(' ') {
                Some((rest, time)) if rest.contains(' ') => {
                    let (seconds, millis) = time.split_at(time.len().saturating_sub(3));
                    format!("{rest} {seconds}.{millis} # {{trace_id=\"a}}b\"}} 0.5 {seconds}.{millis}")
                }
                _ => line.to_owned(),
            };
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let body = format!("{}\n# EOF\n", lines().map(line).collect::<Vec<_>>().join("\n"));
            Reply { content_type, ..Reply::metrics(body) }
        }
        "fake-swapping" => {
            let memory = lines().filter(|line| line.contains("_memory_working_set_bytes"));
            let swap = memory.map(|line| line.replace("_memory_working_set_bytes", "_swap_usage_bytes"));
            Reply::metrics(format!("{body}{}\n", swap.collect::<Vec<_>>().join("\n")))
        }
        _ => Reply::metrics(body.to_owned()),
    }
}

/// Deletes the objects that go before this step.
pub(super) fn depart(step: usize, client: &Client) -> Result<()> {
    if step == 1 {
        client.delete(&["-n", "edge-cases", "pod", "reborn", "--grace-period=0", "--force"])?;
    }
    Ok(())
}

/// Recreates objects of the same name after the kubelets moved to this step.
pub(super) fn arrive(step: usize, client: &Client, nodes: &[fleet::FakeNode]) -> Result<()> {
    let named = |name: &str| fleet::objects(nodes, |_, object| object["metadata"]["name"] == name);
    match step {
        1 => named("reborn").make(client),
        2 => client.with_manifest(&["replace", "--force"], &named("fake-replaced").whole()).map(drop),
        _ => Ok(()),
    }
}
