//! How much of the cluster the samples cover: the input of readiness.

use super::scrape_batch::NodeSnapshot;
use super::{Slot, Store};

/// The age at its newest sample from which a container must have a rate. A kubelet that caches samples takes one of
/// each container at least every 30 s. So each container that has run for a minute is at least this old at its
/// newest sample, and had an earlier one.
const DUE_AGE_NS: i64 = 30_000_000_000;

/// The number of failed scrapes in a row after which a node counts as not responding.
const NOT_RESPONDING: u32 = 2;

/// The share of nodes and of pods that may be missing for [`Coverage::is_nearly_complete`]: one of this many.
const TOLERATED: usize = 20;

/// How much of the cluster the samples cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Whether the first lists of nodes and pods are complete.
    pub(crate) synced: bool,
    /// The number of nodes.
    pub(crate) nodes: usize,
    /// Of these, the nodes that have a rate of their own.
    pub(crate) nodes_measured: usize,
    /// Of these, the nodes that sent samples of which all due pods have rates.
    pub(crate) nodes_covered: usize,
    /// Of these, the nodes for which own usage or pod usage is served now.
    pub(crate) nodes_served: usize,
    /// Of these, the nodes whose last scrape failed.
    pub(crate) nodes_failing: usize,
    /// Of these, the nodes whose last scrape succeeded recently.
    pub(crate) nodes_responding: usize,
    /// Of these, the nodes that have all rates that are due, or have failed more than once in a row.
    pub(crate) nodes_complete: usize,
    /// The number of Running pods.
    pub(crate) pods: usize,
    /// The number of pods in the samples that have run long enough to have rates.
    pub(crate) pods_due: usize,
    /// Of these, the pods that have rates.
    pub(crate) pods_measured: usize,
    /// The number of containers that have a rate.
    pub(crate) containers_measured: usize,
}

impl Coverage {
    /// Returns whether every node that responds and every due pod on it has a rate.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.synced && self.nodes_complete >= self.nodes
    }

    /// Returns whether at least 95 % of the nodes have responded or failed.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        self.synced && is_most(self.nodes_responding + self.nodes_failing, self.nodes)
    }

    /// Returns whether at least 95 % of the nodes have responded or failed, and at least 95 % of the due pods on
    /// those that respond have rates.
    #[must_use]
    pub(crate) fn is_nearly_complete(&self) -> bool {
        self.is_settled() && is_most(self.pods_measured, self.pods_due)
    }

    /// Returns whether there are nodes, but nothing fresh to serve of any of them.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes > 0 && self.nodes_served == 0
    }

    /// Adds a node's slot. `is_fresh` is whether its last body is recent enough to serve.
    fn add(&mut self, slot: &Slot, is_fresh: bool, now_ms: u64, max_age_ms: u32) {
        let counts = if now_ms <= slot.coverage.valid_until_ms {
            slot.coverage
        } else {
            NodeCoverage::new(&slot.snapshot, now_ms, max_age_ms)
        };
        let NodeCoverage { containers_measured, pods_due, pods_measured, .. } = counts;
        let responding = is_fresh && slot.failures == 0;
        let gone = slot.failures >= NOT_RESPONDING;
        let node_measured = is_fresh && slot.snapshot.node.is_served(now_ms, max_age_ms);
        let covered = responding && pods_measured >= pods_due;
        self.nodes_failing += usize::from(slot.failures > 0);
        self.nodes_responding += usize::from(responding);
        self.nodes_covered += usize::from(covered);
        self.nodes_complete += usize::from(gone || (covered && node_measured));
        self.nodes_measured += usize::from(node_measured);
        if is_fresh {
            self.nodes_served += usize::from(node_measured || containers_measured > 0);
            self.containers_measured += containers_measured as usize;
            self.pods_due += pods_due as usize;
            self.pods_measured += pods_measured as usize;
        }
    }
}

fn is_most(some: usize, all: usize) -> bool {
    some >= all - all / TOLERATED
}

/// The counts of one node's snapshot, computed once for each body, and again when a rate has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeCoverage {
    pub(super) containers_measured: u32,
    /// Containers that have a sample but no rate.
    containers_pending: u32,
    pods_due: u32,
    pods_measured: u32,
    /// Until when no rate expires.
    valid_until_ms: u64,
}

impl NodeCoverage {
    /// Counts the containers and pods of a snapshot.
    ///
    /// A pod is due if all its containers are, and measured if all have rates. A container without CPU time or
    /// memory, or whose sample stands still for too long, can't have a rate, so it is not due; it is reported elsewhere.
    pub(super) fn new(snapshot: &NodeSnapshot, now_ms: u64, max_age_ms: u32) -> Self {
        let mut coverage = Self::default();
        let mut valid_for_ms = u32::MAX;
        for row in 0..snapshot.layout.pods() {
            let (mut due, mut measured) = (true, true);
            for container in &snapshot.containers[snapshot.layout.containers_of(row)] {
                let pending = container.has_sample() && !container.was_measured();
                let served = container.is_served(now_ms, max_age_ms);
                due &= pending || served;
                due &= container.age_at_sample_ns().is_none_or(|age_ns| age_ns >= DUE_AGE_NS);
                if served {
                    valid_for_ms = valid_for_ms.min(container.served_for_ms(now_ms, max_age_ms));
                }
                measured &= served;
                coverage.containers_pending += u32::from(pending);
                coverage.containers_measured += u32::from(served);
            }
            coverage.pods_due += u32::from(due);
            coverage.pods_measured += u32::from(due && measured);
        }
        coverage.valid_until_ms = now_ms.saturating_add(valid_for_ms.into());
        coverage
    }

    /// Returns whether each container that can have a rate has one.
    pub(super) fn is_complete(&self) -> bool {
        self.containers_pending == 0
    }
}

impl Store {
    /// Returns how much of the cluster the samples cover now.
    #[must_use]
    pub(crate) fn coverage(&self) -> Coverage {
        let mut coverage = Coverage {
            synced: self.directory.synced(),
            nodes: self.directory.nodes().len(),
            pods: self.directory.pods().len(),
            ..Coverage::default()
        };
        let now_ms = self.directory.now_ms();
        let state = self.state.read();
        for slot in state.slots.iter().filter(|slot| slot.node.is_some()) {
            let is_fresh = slot.snapshot.bodies > 0 && self.fresh(&slot.snapshot, now_ms);
            coverage.add(slot, is_fresh, now_ms, self.max_age_ms());
        }
        coverage
    }
}
