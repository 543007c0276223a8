//! A fake kubelet on a Node of the real cluster, whose samples are good or faulty in one way.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::error::Result;
use crate::testbed::fake_kubelet::{Framing, KubeletConnection, Listening, TEXT_FORMAT, spawn};
use crate::testbed::pki::Identity;

/// The pods on the Node, all in namespace `default`, with one container each.
pub(super) const PODS: [&str; 3] = ["sampled-0", "sampled-1", "sampled-2"];

/// The CPU usage of each container in cores.
const CORES: f64 = 0.1;

/// What is wrong with the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SampleFault {
    /// Nothing.
    #[default]
    None,
    /// `resource_scrape_error 1`, beside good samples.
    ScrapeError,
    /// `resource_scrape_error 1` and nothing else, as a kubelet responds whose stats provider fails.
    NothingCollected,
    /// Only the node's own series.
    NoContainers,
    /// The first container has no memory.
    ZeroUsage,
    /// The first pod is missing.
    PodMissing,
    /// Values and timestamps of containers stand still.
    Stalled,
    /// All timestamps are an hour ahead.
    ClockAhead,
    /// The first container uses more CPU than any machine has.
    ImplausibleUsage,
    /// A second series for the first container, which stands still; the order changes.
    DuplicateSeries,
}

/// The kubelet; dropping this closes it.
pub(super) struct SampleKubelet {
    state: Arc<Mutex<State>>,
    _listening: Listening,
}

struct State {
    fault: SampleFault,
    /// When the fault began, in seconds since the Unix epoch.
    since: f64,
    /// The number of responses.
    responses: usize,
}

impl SampleKubelet {
    /// Listens in the network that the calling thread is in. Samples are good at first.
    pub(super) fn start(port: u16, identity: &Identity) -> Result<Self> {
        let state = State { fault: SampleFault::None, since: now(), responses: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let listening = spawn(port, identity, move |stream, acceptor| {
            let state = Arc::clone(&shared);
            // A broken connection concerns its client alone.
            async move { drop(connection(stream, &acceptor, &state).await) }
        })?;
        Ok(Self { state, _listening: listening })
    }

    /// Makes the samples faulty or good.
    pub(super) fn set(&self, fault: SampleFault) {
        let mut state = self.state.lock();
        (state.fault, state.since) = (fault, now());
    }
}

fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}

async fn connection(stream: TcpStream, acceptor: &TlsAcceptor, state: &Mutex<State>) -> std::io::Result<()> {
    let mut connection = KubeletConnection::accept(stream, acceptor).await?;
    while let Some(request) = connection.request().await? {
        let (status, body) = match request.path.as_str() {
            "/metrics/resource" => (200, state.lock().body(now())),
            _ => (404, String::new()),
        };
        connection.respond(status, TEXT_FORMAT, body.as_bytes(), Framing::Length).await?;
    }
    Ok(())
}

impl State {
    /// Returns the response at a time in seconds since the Unix epoch.
    fn body(&mut self, now: f64) -> String {
        self.responses += 1;
        let fault = self.fault;
        let mut body = String::new();
        let is_error = matches!(fault, SampleFault::ScrapeError | SampleFault::NothingCollected);
        // Writing to a String does not fail.
        let _ = writeln!(body, "resource_scrape_error {}", u8::from(is_error));
        if fault == SampleFault::NothingCollected {
            return body;
        }
        // A kubelet samples its node every 10 s.
        let of_node = now - now % 10.0;
        let ahead = if fault == SampleFault::ClockAhead { 3600.0 } else { 0.0 };
        let _ = writeln!(
            body,
            "node_cpu_usage_seconds_total {:.3} {}\nnode_memory_working_set_bytes 1e9 {1}",
            of_node % 1e6,
            milliseconds(of_node + ahead)
        );
        if fault == SampleFault::NoContainers {
            return body;
        }
        let sampled = if fault == SampleFault::Stalled { self.since } else { now };
        let at = milliseconds(sampled + ahead);
        let age = sampled - self.since;
        for (number, pod) in PODS.iter().enumerate() {
            let first = number == 0;
            if first && fault == SampleFault::PodMissing {
                continue;
            }
            let labels = format!("{{container=\"c\",namespace=\"default\",pod=\"{pod}\"}}");
            let faster = if first && fault == SampleFault::ImplausibleUsage { age * 1e6 } else { 0.0 };
            let cpu = (sampled % 1e6).mul_add(CORES, faster);
            let memory = if first && fault == SampleFault::ZeroUsage { 0 } else { 4096 * 1024 };
            let live = [
                format!("container_cpu_usage_seconds_total{labels} {cpu:.6} {at}\n"),
                format!("container_memory_working_set_bytes{labels} {memory} {at}\n"),
            ];
            // Left behind by an earlier instance, as far ahead as its counter was.
            let left_behind = [
                format!("container_cpu_usage_seconds_total{labels} 994631.5 {at}\n"),
                format!("container_memory_working_set_bytes{labels} 56000000 {at}\n"),
            ];
            for (live, left_behind) in live.iter().zip(&left_behind) {
                if !(first && fault == SampleFault::DuplicateSeries) {
                    body.push_str(live);
                } else if self.responses.is_multiple_of(2) {
                    body.extend([live.as_str(), left_behind.as_str()]);
                } else {
                    body.extend([left_behind.as_str(), live.as_str()]);
                }
            }
        }
        body
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a time fits")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fault: SampleFault, responses: usize, age: f64) -> String {
        State { fault, since: 1_000_000.0, responses }.body(1_000_000.0 + age)
    }

    #[test]
    fn each_fault_changes_what_it_says() {
        let good = body(SampleFault::None, 0, 5.0);
        assert!(good.starts_with("resource_scrape_error 0\n"), "{good}");
        assert_eq!(good.matches("container_").count(), 2 * PODS.len(), "{good}");
        assert_eq!(body(SampleFault::NothingCollected, 0, 5.0), "resource_scrape_error 1\n");
        assert_eq!(body(SampleFault::ScrapeError, 0, 5.0), good.replace("error 0", "error 1"));
        let none = body(SampleFault::NoContainers, 0, 5.0);
        assert!(none.contains("node_cpu") && !none.contains("container_"), "{none}");
        assert!(!body(SampleFault::PodMissing, 0, 5.0).contains(PODS[0]));
        assert!(body(SampleFault::ZeroUsage, 0, 5.0).contains("} 0 1000005000\n"));
        assert!(body(SampleFault::ClockAhead, 0, 5.0).contains(" 1003605000\n"));
        let containers = |body: String| body.split_once("container_").unwrap().1.to_owned();
        assert_eq!(
            containers(body(SampleFault::Stalled, 0, 5.0)),
            containers(body(SampleFault::Stalled, 1, 500.0))
        );
        assert!(body(SampleFault::ImplausibleUsage, 0, 5.0).contains("} 5000000.500000 1000005000\n"));
        let duplicates = [0, 1].map(|responses| body(SampleFault::DuplicateSeries, responses, 5.0));
        assert!(duplicates.iter().all(|body| body.matches("sampled-0").count() == 4));
        assert_ne!(duplicates[0], duplicates[1], "the order changes");
    }
}
