//! Which faults of samples are reported, and how soon; and that a healthy node has none. Time is simulated.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::SampleCause;

use super::node;
use crate::ingest::decode::{DecodeOptions, ExpositionFormat, decode};
use crate::ingest::discover::Node;
use crate::ingest::scrape::SampleIssueTracker;
use crate::ingest::scrape::sample_issues::{CONFIRM_PAUSE, Finding};
use crate::ingest::store::{RequestTime, Store, StoreConfig, StoreDirectory, Ticket};
use crate::model::labels::Labels;

const EPOCH: f64 = 1_700_000_000.0;
const INTERVAL: f64 = 15.0;

/// One node that is scraped at the default interval.
struct Simulation {
    directory: Arc<StoreDirectory>,
    store: Store,
    ticket: Ticket,
    tracker: SampleIssueTracker,
    started: Instant,
    /// Seconds since the start.
    now: f64,
    next_slot: f64,
    confirm_at: f64,
    reported: Vec<(f64, SampleCause)>,
    resolved: Vec<(f64, SampleCause)>,
}

impl Simulation {
    fn new(pods: &[String]) -> Self {
        let directory = Arc::new(StoreDirectory::new());
        let store = Store::new(directory.clone(), StoreConfig::new(Duration::from_secs_f64(INTERVAL)));
        directory.begin_node_list();
        directory.begin_pod_list();
        let known = Arc::new(Node { cpu_millicores: 4000, ..node(10250, &["127.0.0.1"]) });
        directory.apply_node((*known).clone());
        let ticket = store.insert_node(&known);
        for pod in pods {
            directory.apply_pod("n", pod, pod, Labels::default());
        }
        directory.end_node_list();
        directory.end_pod_list();
        Self {
            directory,
            store,
            ticket,
            tracker: SampleIssueTracker::default(),
            started: Instant::now(),
            now: 0.0,
            next_slot: 0.0,
            confirm_at: f64::INFINITY,
            reported: Vec::new(),
            resolved: Vec::new(),
        }
    }

    /// Scrapes until `end`, in seconds since the start. `body` is called before each scrape.
    fn run_until(&mut self, end: f64, mut body: impl FnMut(&StoreDirectory, f64) -> String) {
        loop {
            let at = self.next_slot.min(self.confirm_at);
            if at > end {
                return;
            }
            if at >= self.next_slot {
                self.next_slot += INTERVAL;
            }
            if at >= self.confirm_at {
                self.confirm_at = f64::INFINITY;
            }
            self.directory.skip(Duration::from_secs_f64(at - self.now));
            self.now = at;
            let text = body(&self.directory, at);
            self.scrape(&text);
        }
    }

    fn scrape(&mut self, text: &str) {
        let mut batch = self.store.begin_batch(self.ticket).unwrap();
        let unix_ns = ((EPOCH + self.now) * 1e9) as i64;
        let options = DecodeOptions { format: ExpositionFormat::Text, default_timestamp_ns: unix_ns };
        let report = decode(text.as_bytes(), options, &mut batch);
        let request = RequestTime { monotonic_ms: self.directory.now_ms(), unix_ns };
        let mut put = self.store.put(self.ticket, batch, request).unwrap();
        put.problems.scrape_error = report.scrape_error;
        let now = self.started + Duration::from_secs_f64(self.now);
        let recorded = self.tracker.record(&"worker-1".into(), Finding::all(&put.problems, None), now);
        if recorded.confirm {
            self.confirm_at = self.now + CONFIRM_PAUSE.as_secs_f64();
        }
        self.reported.extend(recorded.reported.into_iter().map(|(cause, _)| (self.now, cause)));
        self.resolved.extend(recorded.resolved.into_iter().map(|cause| (self.now, cause)));
    }
}

/// What a response contains of a container.
#[derive(Clone, Copy, Debug)]
struct Series {
    /// Seconds since the start.
    at: f64,
    /// Seconds.
    cpu: f64,
    memory: u64,
    start: f64,
}

fn milliseconds(at: f64) -> i64 {
    ((EPOCH + at) * 1000.0) as i64
}

fn append(body: &mut String, pod: &str, series: Series) {
    let labels = format!("{{container=\"c\",namespace=\"n\",pod=\"{pod}\"}}");
    let at = milliseconds(series.at);
    let _ = writeln!(body, "container_cpu_usage_seconds_total{labels} {:.6} {at}", series.cpu);
    let _ = writeln!(body, "container_memory_working_set_bytes{labels} {} {at}", series.memory);
    let _ = writeln!(body, "container_start_time_seconds{labels} {:.3}", EPOCH + series.start);
}

fn append_node(body: &mut String, at: f64) {
    let sampled = at - at.rem_euclid(10.0);
    let _ = writeln!(body, "node_cpu_usage_seconds_total {:.3} {}", 1e5 + sampled, milliseconds(sampled));
    let _ = writeln!(body, "node_memory_working_set_bytes 1000000000 {}", milliseconds(sampled));
}

type Change = fn(&mut String, &mut Vec<(String, Series)>, f64);

#[test]
fn each_fault_is_reported_in_time_and_resolved_after_its_repair() {
    let pods: Vec<String> = (0..5).map(|at| format!("p{at}")).collect();
    // A change of the response, `age` seconds after the fault began. Times to name from the issue, seconds.
    let faults: [(SampleCause, f64, Change); 8] = [
        (SampleCause::ScrapeError, 30.0, |body, _, _| body.push_str("resource_scrape_error 1\n")),
        (SampleCause::NoContainers, 30.0, |_, series, _| series.clear()),
        (SampleCause::ZeroUsage, 45.0, |_, series, _| series[0].1.memory = 0),
        (SampleCause::PodsMissing, 150.0, |_, series, _| drop(series.remove(2))),
        (SampleCause::TimestampsStalled, 150.0, |_, series, age| {
            for (_, series) in series {
                (series.at, series.cpu) = (series.at - age, series.cpu - age * 0.1);
            }
        }),
        (SampleCause::ClockSkew, 30.0, |_, series, _| {
            for (_, series) in series {
                (series.at, series.start) = (series.at - 3600.0, series.start - 3600.0);
            }
        }),
        (SampleCause::ImplausibleUsage, 30.0, |_, series, age| series[1].1.cpu += age * 1e4),
        (SampleCause::DuplicateSeries, 30.0, |_, series, _| {
            let (pod, live) = series[0].clone();
            series.push((pod, Series { cpu: 994_631.5, memory: 56_000_000_000, ..live }));
        }),
    ];
    for (cause, limit, change) in faults {
        let mut simulation = Simulation::new(&pods);
        let response = |at: f64, fault: Option<f64>| {
            let mut body = String::new();
            append_node(&mut body, at);
            let series = |pod: &String| {
                (pod.clone(), Series { at, cpu: 1000.0 + at * 0.1, memory: 4096, start: -10_000.0 })
            };
            let mut all: Vec<_> = pods.iter().map(series).collect();
            if let Some(began) = fault {
                change(&mut body, &mut all, at - began);
            }
            for (pod, series) in &all {
                append(&mut body, pod, *series);
            }
            body
        };
        simulation.run_until(300.0, |_, at| response(at, None));
        assert_eq!(simulation.reported, [], "{cause}: before the fault");
        // The fault begins just after a scrape.
        simulation.run_until(600.0, |_, at| response(at, Some(300.0)));
        let reported = simulation.reported.first().unwrap_or_else(|| panic!("{cause} is not reported"));
        assert!(reported.1 == cause && reported.0 - 300.0 <= limit, "{cause}: {:?}", simulation.reported);
        let others: Vec<_> = simulation.reported.iter().filter(|(_, other)| *other != cause).collect();
        // Pods that are missing for so long are one more cause.
        let is_right = others
            .iter()
            .all(|(_, other)| cause == SampleCause::NoContainers && *other == SampleCause::PodsMissing);
        assert!(is_right && simulation.resolved.is_empty(), "{cause}: {others:?} {:?}", simulation.resolved);
        let count = simulation.reported.len();
        simulation.run_until(700.0, |_, at| response(at, None));
        assert_eq!((simulation.reported.len(), simulation.resolved.len()), (count, count), "{cause}");
        assert!(simulation.resolved[0].0 - 600.0 <= 60.0, "{cause}: {:?}", simulation.resolved);
    }
}

/// A container as cAdvisor samples it.
struct Cached {
    pod: String,
    started: f64,
    cores: f64,
    /// Whether it is idle, so that it is sampled less often.
    idle: bool,
    sampled_at: f64,
    next_at: f64,
}

impl Cached {
    fn start(pod: String, at: f64, rng: &mut fastrand::Rng) -> Self {
        let idle = rng.bool();
        let cores = if idle { 0.0001 } else { rng.f64() };
        Self { pod, started: at, cores, idle, sampled_at: at, next_at: at + Self::period(idle, rng) }
    }

    fn period(idle: bool, rng: &mut fastrand::Rng) -> f64 {
        let least = if idle { 15.0 } else { 10.0 };
        least * (1.0 + rng.f64())
    }

    /// Returns the sample at a time. The first one, at the start, is empty.
    fn series(&mut self, now: f64, rng: &mut fastrand::Rng) -> Series {
        while self.next_at <= now {
            self.sampled_at = self.next_at;
            self.next_at += Self::period(self.idle, rng);
        }
        let age = self.sampled_at - self.started;
        let is_first = age == 0.0;
        let cpu = if is_first { 0.0 } else { 0.03 + age * self.cores };
        Series { at: self.sampled_at, cpu, memory: if is_first { 0 } else { 4096 }, start: self.started }
    }
}

#[test]
fn a_healthy_node_with_cached_samples_and_restarts_has_no_issue() {
    for seed in 0..5 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pods: Vec<String> = (0..30).map(|at| format!("p{at}")).collect();
        let mut simulation = Simulation::new(&pods);
        let mut containers: Vec<_> =
            pods.iter().map(|pod| Cached::start(pod.clone(), -1000.0, &mut rng)).collect();
        let mut next_pod = pods.len();
        let mut deleted: Vec<(f64, String)> = Vec::new();
        let mut last = 0.0;
        simulation.run_until(7200.0, |directory, now| {
            // Some containers restart or are replaced by other pods, in every interval.
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(..containers.len());
                let since = last + rng.f64() * (now - last);
                if rng.bool() {
                    containers[at] = Cached::start(containers[at].pod.clone(), since, &mut rng);
                } else {
                    // kube-apiserver may know of the end later than the kubelet.
                    deleted.push((now + rng.f64() * 60.0, containers[at].pod.clone()));
                    let pod = format!("p{next_pod}");
                    next_pod += 1;
                    directory.apply_pod("n", &pod, &pod, Labels::default());
                    containers[at] = Cached::start(pod, since, &mut rng);
                }
            }
            deleted.retain(|(at, pod)| {
                if *at <= now {
                    directory.delete_pod("n", pod);
                }
                *at > now
            });
            last = now;
            let mut body = String::new();
            append_node(&mut body, now);
            for container in &mut containers {
                // A container that just started is not listed at first.
                if now - container.started > 2.0 {
                    let series = container.series(now, &mut rng);
                    append(&mut body, &container.pod, series);
                }
            }
            body.push_str("resource_scrape_error 0\n");
            body
        });
        assert_eq!(simulation.reported, [], "seed {seed}");
    }
}
