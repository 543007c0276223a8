//! Readiness during a rollout: a new replica beside a serving one becomes ready when it has as much data, so that
//! nothing is missing during the rollout.
//!
//! The first replica is ready as soon as pods have rates. A kubelet samples its node every 10 s, so the rates of
//! nodes come later. While another replica serves, a replica without them would make responses worse. Whether another
//! one serves is known from kube-apiserver: while this replica is not ready, only another one can serve the discovery
//! of the API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::ingest::store::Coverage;
use http::Request;
use tokio::time::{sleep, timeout};

/// The maximum time to wait. A kubelet's sample of its node is older than this only if the kubelet is faulty.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// The interval and the timeout of requests to kube-apiserver.
const INTERVAL: Duration = Duration::from_secs(1);
const DISCOVERY: &str = "/apis/metrics.k8s.io/v1beta1";

/// Whether the replica must still wait.
#[derive(Debug, Default)]
pub(super) struct RolloutReadiness {
    /// Whether another replica serves.
    other_serves: AtomicBool,
    since: OnceLock<Instant>,
    ready: AtomicBool,
}

impl RolloutReadiness {
    /// Returns `Ok` from the time on when all nodes have rates, no other replica serves, or the maximum time has
    /// passed. Must be called only when the replica has enough data for a first response.
    pub(super) fn check(&self, now: Instant, coverage: impl FnOnce() -> Coverage) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let since = *self.since.get_or_init(|| now);
        let coverage = coverage();
        let known = coverage.nodes_measured + coverage.nodes_failing;
        let complete = known >= coverage.nodes && coverage.nodes_settled >= coverage.nodes;
        let late = now.saturating_duration_since(since) >= MAX_WAIT;
        if complete || late || !self.other_serves.load(Ordering::Relaxed) {
            self.ready.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(format!(
            "only {} of {} nodes have rates on this replica, {} fail; another replica serves metrics",
            coverage.nodes_measured, coverage.nodes, coverage.nodes_failing
        ))
    }
}

/// Checks whether another replica serves, until this one is ready.
pub(super) async fn watch_other_replicas(client: kube::Client, rollout: Arc<RolloutReadiness>) {
    while !rollout.ready.load(Ordering::Relaxed) {
        let other_serves = match Request::get(DISCOVERY).body(Vec::new()) {
            Ok(request) => matches!(timeout(INTERVAL, client.request_text(request)).await, Ok(Ok(_))),
            Err(_) => false,
        };
        rollout.other_serves.store(other_serves, Ordering::Relaxed);
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(nodes_measured: usize, nodes_failing: usize) -> Coverage {
        Coverage { nodes: 10, nodes_settled: 10, nodes_measured, nodes_failing, ..Coverage::default() }
    }

    #[test]
    fn first_replica_does_not_wait() {
        let rollout = RolloutReadiness::default();
        assert_eq!(rollout.check(Instant::now(), || measured(0, 0)), Ok(()));
    }

    #[test]
    fn waits_once_for_nodes_beside_another_replica() {
        let rollout = RolloutReadiness { other_serves: AtomicBool::new(true), ..RolloutReadiness::default() };
        let now = Instant::now();
        assert!(rollout.check(now, || measured(9, 0)).is_err());
        assert_eq!(rollout.check(now, || measured(8, 2)), Ok(()));
        assert_eq!(rollout.check(now, || measured(0, 0)), Ok(()));
    }

    #[test]
    fn waits_for_pods_for_a_limited_time() {
        let rollout = RolloutReadiness { other_serves: AtomicBool::new(true), ..RolloutReadiness::default() };
        let now = Instant::now();
        let unsettled = || Coverage { nodes_settled: 9, ..measured(10, 0) };
        assert!(rollout.check(now, unsettled).is_err());
        assert!(rollout.check(now + MAX_WAIT / 2, unsettled).is_err());
        assert_eq!(rollout.check(now + MAX_WAIT, unsettled), Ok(()));
    }

    #[test]
    fn becomes_ready_when_the_other_replica_stops() {
        let rollout = RolloutReadiness { other_serves: AtomicBool::new(true), ..RolloutReadiness::default() };
        assert!(rollout.check(Instant::now(), || measured(0, 0)).is_err());
        rollout.other_serves.store(false, Ordering::Relaxed);
        assert_eq!(rollout.check(Instant::now(), || measured(0, 0)), Ok(()));
    }
}
