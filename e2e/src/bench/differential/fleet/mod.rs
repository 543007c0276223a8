//! The fake nodes and pods, and the replies of their kubelets at each step.
//!
//! A step is a scrape: all kubelets return the samples of one point in time until both servers have them. Both
//! compute from the same pairs of samples, so even timestamps and windows must be equal.

mod objects;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::edge_cases;
use super::kubelets::Reply;

pub(super) use objects::objects;

/// The number of steps.
pub(super) const STEPS: usize = 3;
/// The port of the fake kubelets, which have different addresses; the real kubelet has port 10250 on all addresses.
pub(super) const PORT: u16 = 11250;
/// Milliseconds between steps; not a whole number of seconds, so that the format of windows is compared too.
const STRIDE: i64 = 15_012;

/// A fake node.
pub(super) struct FakeNode {
    /// Its name.
    pub name: &'static str,
    /// The address of its kubelet.
    pub address: Ipv4Addr,
    /// The path of its metrics, if an annotation names another than the default.
    pub path: Option<&'static str>,
    /// The replies of its kubelet, by step.
    pub replies: Vec<Reply>,
}

/// The samples of a container by step; `-1` is a missing series.
#[derive(Clone, Copy)]
pub(super) struct Samples {
    /// CPU time in seconds.
    pub(super) cpu: [f64; STEPS],
    /// Memory in bytes.
    pub(super) memory: [f64; STEPS],
    /// The start of the container, in milliseconds before the first step.
    pub(super) age: [i64; STEPS],
    /// The time of the sample, in milliseconds after the step.
    pub(super) offset: [i64; STEPS],
}

pub(super) const USUAL: Samples = Samples {
    cpu: [10.0, 11.5, 13.25],
    memory: [10_485_760.0, 11_534_336.0, 12_582_912.0],
    age: [3_600_000; STEPS],
    offset: [0; STEPS],
};

/// A pod: namespace, name, phase, labels, containers.
pub(super) struct FakePod(
    pub(super) &'static str,
    pub(super) String,
    pub(super) &'static str,
    pub(super) &'static [(&'static str, &'static str)],
    pub(super) Vec<(&'static str, Samples)>,
);

pub(super) fn cpu(cpu: [f64; STEPS]) -> Samples {
    Samples { cpu, ..USUAL }
}

fn memory(memory: f64) -> Samples {
    Samples { memory: [memory; STEPS], ..USUAL }
}

fn one(name: &'static str, samples: Samples) -> FakePod {
    FakePod("edges", name.to_owned(), "Running", &[], vec![("main", samples)])
}

/// Returns the pods on the node `fake-a`.
fn pods() -> Vec<FakePod> {
    let web: &[_] = &[("app", "web"), ("tier", "front"), ("version", "v1.2")];
    let job: &[_] = &[("app", "job"), ("example.com/owner", "team-b")];
    vec![
        FakePod("team-a", "web-0".into(), "Running", web, vec![("main", USUAL)]),
        FakePod(
            "team-a",
            "web-1".into(),
            "Running",
            web,
            vec![("zeta", USUAL), ("alpha", cpu([1.0, 2.0, 3.0]))],
        ),
        FakePod("team-a", "bare".into(), "Running", &[], vec![("main", cpu([5.0, 5.5, 6.0]))]),
        FakePod(
            "team-b",
            "job-0".into(),
            "Running",
            job,
            vec![("main", cpu([0.5, 0.500_000_1, 0.500_000_2]))],
        ),
        FakePod("team-b", "pending".into(), "Pending", job, vec![("main", USUAL)]),
        FakePod("team-b", "done".into(), "Succeeded", job, vec![("main", USUAL)]),
        FakePod("team-b", "failed".into(), "Failed", job, vec![("main", USUAL)]),
        FakePod("team-b", "unmeasured".into(), "Running", job, vec![]),
        // Edge cases of containers.
        one("idle", cpu([7.0, 7.0, 7.0])),
        one("whole-core", cpu([100.0, 100.0 + 15.012, 100.0 + 2.0 * 15.012])),
        one("many-cores", cpu([1e6, 1.001e6, 1.003e6])),
        one("restarted", Samples { cpu: [50.0, 51.0, 0.25], age: [3_600_000, 3_600_000, -29_000], ..USUAL }),
        one(
            "restarted-early",
            Samples { cpu: [50.0, 0.5, 1.5], age: [3_600_000, -14_000, -14_000], ..USUAL },
        ),
        one("counter-fell", cpu([50.0, 51.0, 20.0])),
        one("counter-fell-early", cpu([50.0, 20.0, 21.0])),
        one("no-start-time", Samples { age: [-1; STEPS], ..USUAL }),
        one("no-memory", memory(-1.0)),
        one("zero-memory", memory(0.0)),
        one("odd-memory", memory(12_345_678.0)),
        one("large-memory", memory(5_497_558_138_880.0)),
        one("no-cpu", cpu([-1.0; STEPS])),
        one("zero-cpu", cpu([0.0; STEPS])),
        one("woke-up", cpu([0.0, 0.0, 1.0])),
        one("first-seen-last", cpu([-1.0, -1.0, 4.0])),
        one("seen-twice", Samples { cpu: [-1.0, 4.0, 5.0], memory: [-1.0, 4096.0, 8192.0], ..USUAL }),
        one("gap", Samples { cpu: [3.0, -1.0, 4.0], ..USUAL }),
        one("gone", Samples { cpu: [3.0, 4.0, -1.0], memory: [4096.0, 4096.0, -1.0], ..USUAL }),
        one("backwards", Samples { offset: [0, 0, -40_000], ..USUAL }),
        one("repeated-time", Samples { offset: [0, 0, -STRIDE], ..USUAL }),
        one("late-sample", Samples { offset: [-300, -700, -5_250], ..USUAL }),
        FakePod(
            "edges",
            "uneven-times".into(),
            "Running",
            &[],
            vec![
                ("a", Samples { offset: [-100, -100, -100], ..USUAL }),
                ("b", Samples { offset: [-2_000, -3_000, -4_000], ..USUAL }),
            ],
        ),
        FakePod(
            "edges",
            "one-without-memory".into(),
            "Running",
            &[],
            vec![("a", USUAL), ("b", memory(-1.0))],
        ),
        FakePod(
            "edges",
            "one-without-cpu".into(),
            "Running",
            &[],
            vec![("a", USUAL), ("b", cpu([-1.0; STEPS]))],
        ),
        FakePod(
            "edges",
            "one-with-zero-cpu".into(),
            "Running",
            &[],
            vec![("a", USUAL), ("b", cpu([0.0; STEPS]))],
        ),
    ]
}

/// Returns one exposition; `origin` is the time of the first step in milliseconds since the epoch.
pub(super) fn exposition(node: Option<Samples>, pods: &[FakePod], step: usize, origin: i64) -> String {
    let now = origin + STRIDE * i64::try_from(step).unwrap_or_default();
    let mut series: [String; 3] = Default::default();
    for FakePod(namespace, pod, _, _, containers) in pods {
        for (container, samples) in containers {
            let time = now + samples.offset[step];
            let labels = format!("{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
            if samples.cpu[step] >= 0.0 {
                let _ = writeln!(
                    series[0],
                    "container_cpu_usage_seconds_total{labels} {} {time}",
                    samples.cpu[step]
                );
            }
            if samples.memory[step] >= 0.0 {
                let _ = writeln!(
                    series[1],
                    "container_memory_working_set_bytes{labels} {:e} {time}",
                    samples.memory[step]
                );
            }
            if samples.age[step] != -1 {
                let _ = writeln!(
                    series[2],
                    "container_start_time_seconds{labels} {:?}",
                    seconds(origin - samples.age[step])
                );
            }
        }
    }
    let mut text = String::new();
    for (name, kind, lines) in [
        ("container_cpu_usage_seconds_total", "counter", &series[0]),
        ("container_memory_working_set_bytes", "gauge", &series[1]),
        ("container_start_time_seconds", "gauge", &series[2]),
    ] {
        let _ = write!(text, "# HELP {name} [STABLE] Help\n# TYPE {name} {kind}\n{lines}");
    }
    if let Some(samples) = node {
        let time = now + samples.offset[step];
        if samples.cpu[step] >= 0.0 {
            let _ = write!(
                text,
                "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {} {time}\n",
                samples.cpu[step]
            );
        }
        if samples.memory[step] >= 0.0 {
            let _ = write!(
                text,
                "# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {:e} {time}\n",
                samples.memory[step]
            );
        }
    }
    text.push_str("# TYPE scrape_error gauge\nscrape_error 0\n");
    text
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds are left")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Returns all fake nodes.
#[must_use]
pub(super) fn nodes(origin: i64) -> Vec<FakeNode> {
    let bodies = |node: Samples| -> Vec<String> {
        (0..STEPS).map(|step| exposition(Some(node), &[], step, origin)).collect()
    };
    let all = |bodies: Vec<String>| bodies.into_iter().map(Reply::metrics).collect::<Vec<_>>();
    let swap = |text: String, step: usize| {
        let time = origin + STRIDE * i64::try_from(step).unwrap_or_default();
        format!("{text}# TYPE node_swap_usage_bytes gauge\nnode_swap_usage_bytes 1.048576e+06 {time}\n")
    };
    let replies: Vec<(&'static str, Vec<Reply>)> = vec![
        (
            "fake-a",
            // More than its containers use together.
            (0..STEPS)
                .map(|step| exposition(Some(cpu([2e6, 2.0012e6, 2.0034e6])), &pods(), step, origin))
                .map(Reply::metrics)
                .collect(),
        ),
        (
            "fake-openmetrics",
            bodies(USUAL)
                .into_iter()
                .enumerate()
                .map(|(step, body)| {
                    // OpenMetrics has timestamps in seconds.
                    let time = origin + STRIDE * i64::try_from(step).unwrap_or_default();
                    let seconds = format!("{}.{:03}", time / 1000, time % 1000);
                    let body = body.replace(&time.to_string(), &seconds);
                    Reply {
                        content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        ..Reply::metrics(format!("{body}# EOF\n"))
                    }
                })
                .collect(),
        ),
        ("fake-path", all(bodies(cpu([1.0, 3.0, 6.0])))),
        (
            "fake-swap",
            all(bodies(USUAL).into_iter().enumerate().map(|(step, text)| swap(text, step)).collect()),
        ),
        (
            "fake-labels",
            all(bodies(USUAL)
                .into_iter()
                .map(|body| {
                    body.replace(
                        "node_cpu_usage_seconds_total ",
                        "node_cpu_usage_seconds_total{zone=\"a \\\"b\\\" \\\\ {c}\",} ",
                    )
                })
                .collect()),
        ),
        (
            "fake-blank",
            all(bodies(USUAL).into_iter().map(|body| format!("\n\n{}\n", body.replace(' ', "  "))).collect()),
        ),
        (
            "fake-garbled",
            all(bodies(USUAL).into_iter().map(|body| format!("{body}what {{is this\n")).collect()),
        ),
        ("fake-empty", all(vec![String::new()])),
        (
            "fake-html",
            vec![Reply { content_type: "text/html", ..Reply::metrics("<html>hello</html>".into()) }],
        ),
        ("fake-500", vec![Reply::error(500)]),
        ("fake-403", vec![Reply::error(403)]),
        (
            "fake-slow",
            all(bodies(USUAL))
                .into_iter()
                .map(|reply| Reply { delay: Duration::from_secs(4), ..reply })
                .collect(),
        ),
        ("fake-lost", {
            let mut replies = all(bodies(USUAL));
            replies[STEPS - 1] = Reply::error(500);
            replies
        }),
        ("fake-reset", all(bodies(cpu([50.0, 51.0, 20.0])))),
        ("fake-zero-cpu", all(bodies(cpu([0.0; STEPS])))),
        ("fake-no-memory", all(bodies(memory(-1.0)))),
        ("fake-containers-only", all((0..STEPS).map(|step| exposition(None, &[], step, origin)).collect())),
        (
            "fake-not-a-number",
            all(bodies(USUAL).into_iter().map(|body| body.replace("1.2582912e7", "NaN")).collect()),
        ),
        ("fake-backwards", all(bodies(Samples { offset: [0, 0, -40_000], ..USUAL }))),
    ];
    let address = |at: usize| Ipv4Addr::new(127, 0, 1, u8::try_from(at + 1).unwrap_or(255));
    replies
        .into_iter()
        .chain(edge_cases::nodes(origin))
        .enumerate()
        .map(|(at, (name, replies))| FakeNode {
            name,
            address: address(at),
            path: (name == "fake-path").then_some("/elsewhere/metrics"),
            replies,
        })
        .collect()
}
