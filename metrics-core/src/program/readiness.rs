//! Readiness: a replica is ready while it has rates to serve.
//!
//! - A replica beside a serving one becomes ready when its responses are as complete as the other's: every node that
//!   responds, and every pod on it that has run for a minute, has a rate.
//! - A first or only replica becomes ready when 95 % of these pods have rates. Until then requests fail instead of
//!   returning a part of the pods. It waits no longer than any kubelet needs for a second sample.
//! - A ready replica becomes unready when it has had nothing fresh to serve for some time, and ready again by the same
//!   rules. It does not matter how many other replicas are ready.
//!
//! Whether another replica serves is known from kube-apiserver: while this replica is not ready, only another one can
//! serve the discovery of the API.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::ingest::store::Coverage;

/// The maximum time from the first response of a kubelet until a replica is ready that has anything to serve.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// The same for a first or only replica, from when nearly all nodes have responded. Of an idle container, a kubelet that
/// caches samples takes one at least every 30 s.
const MAX_WAIT_ALONE: Duration = Duration::from_secs(35);
/// How long a ready replica must have nothing to serve to become unready. Samples are served for at least a minute after
/// the last good scrape, which is not part of this time. A Node that is deleted and registered again has rates earlier.
const MAX_EMPTY: Duration = Duration::from_secs(15);
/// The time between two requests to kube-apiserver.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The timeout of such a request.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often in a row kube-apiserver must respond that nobody serves the API. One such response can be caused by an
/// endpoint that has just ended.
const POLLS_UNSERVED: u32 = 4;
const DISCOVERY: &str = "/apis/metrics.k8s.io/v1beta1";

/// Whether the replica is ready.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    others: Others,
    /// The number of polls in a row that found that nobody serves.
    unserved: u32,
}

#[derive(Debug)]
enum Phase {
    Unready {
        /// Since when at least one node responds.
        responding: Option<Instant>,
        /// Since when nearly all nodes have responded or failed.
        settled: Option<Instant>,
    },
    Ready {
        /// Since when there is nothing fresh to serve.
        empty: Option<Instant>,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Unready { responding: None, settled: None }
    }
}

/// Whether another replica serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Others {
    /// Not known yet. The replica waits as if another one served.
    #[default]
    Unknown,
    Serve,
    DoNotServe,
}

/// The result of a request to kube-apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Served,
    Unserved,
    /// No response, or an error that says nothing about other replicas.
    Unclear,
}

impl Readiness {
    /// Returns `Ok` if the replica is ready at this coverage, or why it is not. Called at each probe.
    pub(super) fn check(&self, now: Instant, coverage: &Coverage) -> Result<(), String> {
        self.0.lock().check(now, coverage)
    }

    /// Returns whether the replica was ready at the last check.
    fn is_ready(&self) -> bool {
        matches!(self.0.lock().phase, Phase::Ready { .. })
    }

    fn record(&self, poll: Poll) {
        self.0.lock().record(poll);
    }
}

impl State {
    fn check(&mut self, now: Instant, coverage: &Coverage) -> Result<(), String> {
        match &mut self.phase {
            Phase::Unready { responding, settled } => {
                let start = |since: &mut Option<Instant>, holds: bool| {
                    *since = holds.then(|| since.unwrap_or(now));
                    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
                };
                let responding = start(responding, coverage.nodes_responding > 0);
                let settled = start(settled, coverage.is_settled());
                let enough = match self.others {
                    Others::DoNotServe => coverage.is_nearly_complete() || settled >= MAX_WAIT_ALONE,
                    Others::Serve | Others::Unknown => coverage.is_complete(),
                };
                let waits = !coverage.synced || coverage.is_empty();
                if waits || !(enough || coverage.nodes == 0 || responding >= MAX_WAIT) {
                    return Err(self.waiting(coverage));
                }
                tracing::info!(
                    waited = ?responding, pods = coverage.pods_due, measured = coverage.pods_measured, "ready"
                );
                *self = Self { phase: Phase::Ready { empty: None }, ..Self::default() };
                Ok(())
            }
            Phase::Ready { empty } => {
                if !coverage.is_empty() {
                    *empty = None;
                    return Ok(());
                }
                if now.saturating_duration_since(*empty.get_or_insert(now)) < MAX_EMPTY {
                    return Ok(());
                }
                *self = Self::default();
                let problem = self.waiting(coverage);
                tracing::warn!("not ready any more: {problem}");
                Err(problem)
            }
        }
    }

    /// Returns why the replica is not ready.
    fn waiting(&self, coverage: &Coverage) -> String {
        let Coverage { nodes, nodes_failing, nodes_responding, nodes_complete, .. } = coverage;
        let Coverage { pods_due, pods_measured, .. } = coverage;
        if !coverage.synced {
            return "nodes and pods have not been listed yet".to_owned();
        }
        if coverage.is_empty() {
            return format!(
                "no node has fresh rates: of {nodes} nodes {nodes_responding} respond and {nodes_failing} fail"
            );
        }
        let rates = format!(
            "{pods_measured} of {pods_due} pods that have run for a minute have rates; of {nodes} nodes {nodes_responding} \
             respond, {nodes_failing} fail, {nodes_complete} are complete"
        );
        match self.others {
            Others::DoNotServe => rates,
            Others::Serve => format!("another replica serves, and this one is incomplete: {rates}"),
            Others::Unknown => format!("another replica may serve, and this one is incomplete: {rates}"),
        }
    }

    fn record(&mut self, poll: Poll) {
        match poll {
            Poll::Served => (self.others, self.unserved) = (Others::Serve, 0),
            Poll::Unserved => {
                self.unserved += 1;
                if self.unserved >= POLLS_UNSERVED {
                    self.others = Others::DoNotServe;
                }
            }
            Poll::Unclear => {}
        }
    }
}

/// Checks whether another replica serves, while this one is not ready.
pub(super) async fn watch_other_replicas(client: kube::Client, readiness: Arc<Readiness>) {
    loop {
        if !readiness.is_ready() {
            readiness.record(poll(&client).await);
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn poll(client: &kube::Client) -> Poll {
    let Ok(request) = Request::get(DISCOVERY).body(Vec::new()) else { return Poll::Unclear };
    match timeout(POLL_TIMEOUT, client.request_text(request)).await {
        Ok(Ok(_)) => Poll::Served,
        // The aggregation layer has no endpoint, or there is no APIService.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 503) => Poll::Unserved,
        Ok(Err(_)) | Err(_) => Poll::Unclear,
    }
}
