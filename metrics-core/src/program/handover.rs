//! A new replica beside one that serves waits until it knows as much: during a rollout nothing is missing.
//!
//! The first replica of all is ready as soon as pods have rates. A kubelet samples its node every 10 s, so nodes' own
//! rates come later; while somebody else answers, nobody is helped by one who does not know them yet. Whether somebody
//! does is asked of kube-apiserver: its answer to the discovery of our own API can't be ours before we are ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::ingest::store::Coverage;
use http::Request;
use tokio::time::{sleep, timeout};

/// A kubelet's sample of its node is older than this only if something is wrong with it.
const LONGEST: Duration = Duration::from_secs(15);
/// How often, and how long at most, kube-apiserver is asked.
const PAUSE: Duration = Duration::from_secs(1);
const DISCOVERY: &str = "/apis/metrics.k8s.io/v1beta1";

/// Whether to wait still.
#[derive(Debug, Default)]
pub struct Handover {
    others: AtomicBool,
    since: OnceLock<Instant>,
    over: AtomicBool,
}

impl Handover {
    /// Passes for good once all nodes are measured, nobody else serves, or it has lasted too long. To be asked when
    /// there is enough for a first answer.
    pub fn check(&self, now: Instant, coverage: impl FnOnce() -> Coverage) -> Result<(), String> {
        if self.over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let since = *self.since.get_or_init(|| now);
        let coverage = coverage();
        let known = coverage.nodes_measured + coverage.nodes_failing;
        let whole = known >= coverage.nodes && coverage.nodes_settled >= coverage.nodes;
        let late = now.saturating_duration_since(since) >= LONGEST;
        if whole || late || !self.others.load(Ordering::Relaxed) {
            self.over.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(format!(
            "another replica serves, and only {} of {} nodes have a rate here, {} fail",
            coverage.nodes_measured, coverage.nodes, coverage.nodes_failing
        ))
    }
}

/// Keeps an eye on whether somebody else serves, until it does not matter any more.
pub async fn watch(client: kube::Client, handover: Arc<Handover>) {
    while !handover.over.load(Ordering::Relaxed) {
        let others = match Request::get(DISCOVERY).body(Vec::new()) {
            Ok(request) => matches!(timeout(PAUSE, client.request_text(request)).await, Ok(Ok(_))),
            Err(_) => false,
        };
        handover.others.store(others, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(nodes_measured: usize, nodes_failing: usize) -> Coverage {
        Coverage { nodes: 10, nodes_settled: 10, nodes_measured, nodes_failing, ..Coverage::default() }
    }

    #[test]
    fn the_first_replica_does_not_wait() {
        let handover = Handover::default();
        assert_eq!(handover.check(Instant::now(), || measured(0, 0)), Ok(()));
    }

    #[test]
    fn beside_another_it_waits_for_the_nodes_and_then_never_again() {
        let handover = Handover { others: AtomicBool::new(true), ..Handover::default() };
        let now = Instant::now();
        assert!(handover.check(now, || measured(9, 0)).is_err());
        assert_eq!(handover.check(now, || measured(8, 2)), Ok(()));
        assert_eq!(handover.check(now, || measured(0, 0)), Ok(()));
    }

    #[test]
    fn it_waits_for_its_pods_too_and_not_for_ever() {
        let handover = Handover { others: AtomicBool::new(true), ..Handover::default() };
        let now = Instant::now();
        let unsettled = || Coverage { nodes_settled: 9, ..measured(10, 0) };
        assert!(handover.check(now, unsettled).is_err());
        assert!(handover.check(now + LONGEST / 2, unsettled).is_err());
        assert_eq!(handover.check(now + LONGEST, unsettled), Ok(()));
    }

    #[test]
    fn when_the_other_goes_it_steps_in() {
        let handover = Handover { others: AtomicBool::new(true), ..Handover::default() };
        assert!(handover.check(Instant::now(), || measured(0, 0)).is_err());
        handover.others.store(false, Ordering::Relaxed);
        assert_eq!(handover.check(Instant::now(), || measured(0, 0)), Ok(()));
    }
}
