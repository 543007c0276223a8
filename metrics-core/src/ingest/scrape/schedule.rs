//! Decides when to scrape which node. Pure: the caller passes the time in milliseconds from any origin.
//!
//! - Each node has a scrape slot within the scrape interval. There are few slots (one every 0.25 to 1 s), so that
//!   nodes are woken in groups, and nodes are spread evenly over them.
//! - A new node is scraped at once and again shortly after: a kubelet that samples containers at each request then has
//!   sent two samples of each, which make the first rates. A kubelet that returns cached samples takes a new one of
//!   a container every 10 to 30 s, each container at its own time. Its node is scraped every 1.5 s, less often while
//!   many nodes are new, until all its containers have rates. At last a node is scraped when its own sample is due
//!   to change. After 35 s at most it moves to its slot. Thousands of new nodes are started evenly over half the
//!   scrape interval, with a limit on concurrent scrapes.
//! - A failing node is retried soon, so that a repair shows quickly. The more nodes fail, the longer the pauses,
//!   with jitter, up to a maximum. Failing nodes have a concurrency limit of their own, so they never delay others.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

/// Times outside the slots are rounded up to a multiple of this, so that these nodes are woken in groups, too.
const ROUNDING_MS: u64 = 250;
/// The pause between the first two scrapes of a node.
const SECOND_SCRAPE_MS: u64 = 1_250;
/// The minimum pause between further scrapes of a node whose containers do not all have rates.
const RESCRAPE_MS: u64 = 1_500;
/// The maximum rate of these scrapes over all nodes. Where more nodes are new, their pauses are longer, up to the
/// scrape interval.
const RESCRAPES_PER_SECOND: u64 = 400;
/// The time after a node's first response in which it is scraped more often than once per interval. A kubelet that
/// caches samples takes one of an idle container at least every 30 s; later scrapes would not help.
const MAX_NEW_MS: u64 = 35_000;
/// How often a kubelet samples its node.
const NODE_SAMPLE_MS: u64 = 10_000;
/// The maximum number of concurrent first scrapes, and the minimum number started per rounding period.
const MAX_NEW_IN_FLIGHT: usize = 256;
const MIN_NEW_PER_PERIOD: usize = 32;
/// The maximum number of concurrent scrapes of failing nodes.
const MAX_FAILING_IN_FLIGHT: usize = 64;
/// The maximum number of concurrent scrapes of other nodes; reached only if very many stop responding at once.
const MAX_STEADY_IN_FLIGHT: usize = 4096;
/// The minimum retry pause without jitter, unless the scrape interval is shorter. A kubelet that rejects a token
/// caches that for 30 s by default, so a retry costs it little.
const MIN_RETRY_MS: u64 = 5_000;
/// The maximum retry pause, unless the scrape interval is longer: a repair should show within half a minute.
const MAX_RETRY_MS: u64 = 15_000;
/// The maximum rate of retries over all failing nodes, up to the maximum pause: when a thousand certificates expire
/// at once, a thousand failed handshakes must not cost more than the scrapes did.
const RETRIES_PER_SECOND: u64 = 20;

/// Identifies a node in the schedule; assigned by the caller.
pub(super) type Id = u32;

/// The result of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScrapeOutcome {
    /// Samples were stored.
    Stored {
        /// Whether each container that can have a rate has one.
        pods_measured: bool,
        /// Whether the node itself has a rate.
        node_measured: bool,
        /// The age of the node's own sample, if known.
        node_age_ms: Option<u64>,
    },
    /// The scrape failed.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodePhase {
    /// Its first rates are incomplete. `first_ms` is when the first scrape that succeeded had started, if any.
    New {
        first_ms: Option<u64>,
    },
    Steady,
    Failing,
}

#[derive(Debug)]
struct ScheduledNode {
    slot: usize,
    phase: NodePhase,
    /// When the last scrape started, or when the node was added.
    started_ms: u64,
    /// When the node is due; `None` during a scrape.
    due_ms: Option<u64>,
    /// Whether [`Schedule::wake`] was called during the scrape.
    woken: bool,
}

/// The schedule of all nodes.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ms: u64,
    /// The number of nodes in each slot.
    nodes_per_slot: Vec<u32>,
    nodes: HashMap<Id, ScheduledNode>,
    /// When each node is due. Of nodes that are due together, the one with the oldest scrape comes first: where
    /// concurrency is limited, nodes that have been dead for long must not starve one that failed once.
    due: BTreeSet<(u64, u64, Id)>,
    in_flight: [usize; 3],
    new: usize,
    failing: usize,
    /// The maximum number of new nodes since there were none.
    peak: usize,
    /// The rounding period in which new nodes were last started, and how many were.
    admitted: (u64, usize),
    jitter: fastrand::Rng,
}

impl Schedule {
    /// Returns an empty schedule. `interval_ms` is at least 1.
    pub(super) fn new(interval_ms: u64, seed: u64) -> Self {
        let interval_ms = interval_ms.max(1);
        let slot_ms = (interval_ms / 15).clamp(250, 1000);
        let slots = usize::try_from((interval_ms / slot_ms).max(1)).unwrap_or(1);
        Self {
            interval_ms,
            nodes_per_slot: vec![0; slots],
            nodes: HashMap::new(),
            due: BTreeSet::new(),
            in_flight: [0; 3],
            new: 0,
            failing: 0,
            peak: 0,
            admitted: (0, 0),
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a node, due at once.
    pub(super) fn insert(&mut self, id: Id, now_ms: u64) {
        self.remove(id);
        let slot = self.emptiest_slot();
        self.nodes_per_slot[slot] += 1;
        self.peak = if self.new == 0 { 1 } else { self.peak.max(self.new + 1) };
        self.new += 1;
        let phase = NodePhase::New { first_ms: None };
        let node = ScheduledNode { slot, phase, started_ms: now_ms, due_ms: Some(now_ms), woken: false };
        self.nodes.insert(id, node);
        self.due.insert((now_ms, now_ms, id));
    }

    /// Removes a node. If it is being scraped, its [`Self::finish`] is ignored.
    pub(super) fn remove(&mut self, id: Id) {
        let Some(node) = self.nodes.remove(&id) else { return };
        self.nodes_per_slot[node.slot] -= 1;
        self.new -= usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing -= usize::from(node.phase == NodePhase::Failing);
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
            }
            None => self.in_flight[class(node.phase)] -= 1,
        }
    }

    /// Makes a node due at `at_ms` at the latest, or at once if it is being scraped: a change may have fixed its
    /// failure, or another response must confirm the last one.
    pub(super) fn wake(&mut self, id: Id, at_ms: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match node.due_ms {
            Some(due_ms) => {
                self.due.remove(&(due_ms, node.started_ms, id));
                node.due_ms = Some(at_ms.min(due_ms));
                self.due.insert((at_ms.min(due_ms), node.started_ms, id));
            }
            None => node.woken = true,
        }
    }

    /// Returns when [`Self::take`] next returns a node, unless a concurrency limit delays it.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Returns the nodes to scrape now. Each is in flight until [`Self::finish`] or [`Self::remove`].
    pub(super) fn take(&mut self, now_ms: u64) -> Vec<Id> {
        let period = now_ms / ROUNDING_MS;
        if self.admitted.0 != period {
            self.admitted = (period, 0);
        }
        let periods = usize::try_from(self.interval_ms / 2 / ROUNDING_MS).unwrap_or(usize::MAX).max(1);
        let new_per_period = self.peak.div_ceil(periods).max(MIN_NEW_PER_PERIOD);
        let mut taken = Vec::new();
        let mut deferred = Vec::new();
        while let Some(first) = self.due.first().copied().filter(|(due_ms, ..)| *due_ms <= now_ms) {
            self.due.remove(&first);
            let (.., id) = first;
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let class = class(node.phase);
            let first = node.phase == NodePhase::New { first_ms: None };
            let full = self.in_flight[class]
                >= [MAX_NEW_IN_FLIGHT, MAX_STEADY_IN_FLIGHT, MAX_FAILING_IN_FLIGHT][class];
            if full || (first && self.admitted.1 >= new_per_period) {
                deferred.push(id);
                continue;
            }
            self.admitted.1 += usize::from(first);
            self.in_flight[class] += 1;
            node.started_ms = now_ms;
            node.due_ms = None;
            taken.push(id);
        }
        let next_ms = (period + 1) * ROUNDING_MS;
        for id in deferred {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.due_ms = Some(next_ms);
                self.due.insert((next_ms, node.started_ms, id));
            }
        }
        taken
    }

    /// Records the result of a scrape.
    pub(super) fn finish(&mut self, id: Id, now_ms: u64, outcome: ScrapeOutcome) {
        let emptiest = self.emptiest_slot();
        let fair_share = self.nodes.len().div_ceil(self.nodes_per_slot.len());
        let pause_ms = self.retry_ms();
        let rescrape_ms = (self.new as u64 * 1000 / RESCRAPES_PER_SECOND).max(RESCRAPE_MS);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.due_ms.is_some() {
            return;
        }
        self.in_flight[class(node.phase)] -= 1;
        self.new -= usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing -= usize::from(node.phase == NodePhase::Failing);
        // Removed nodes may have left the slots unbalanced.
        if self.nodes_per_slot[node.slot] as usize > fair_share {
            self.nodes_per_slot[node.slot] -= 1;
            self.nodes_per_slot[emptiest] += 1;
            node.slot = emptiest;
        }
        let slots = self.nodes_per_slot.len() as u64;
        let offset_ms = node.slot as u64 * self.interval_ms / slots;
        let slot_from = |from_ms: u64| next_slot(from_ms, self.interval_ms, offset_ms).max(now_ms + 1);
        let next_slot_ms = slot_from(node.started_ms + self.interval_ms / 2);
        let first_ms = match node.phase {
            NodePhase::New { first_ms: Some(first_ms) } => Some(first_ms),
            // A node that failed counts as new.
            NodePhase::New { first_ms: None } | NodePhase::Failing => Some(node.started_ms),
            NodePhase::Steady => None,
        };
        let first_ms = first_ms.filter(|first_ms| node.started_ms < first_ms + MAX_NEW_MS);
        let due_ms = match (first_ms, outcome) {
            (Some(first_ms), ScrapeOutcome::Stored { pods_measured, node_measured, node_age_ms })
                if !(pods_measured && node_measured) =>
            {
                node.phase = NodePhase::New { first_ms: Some(first_ms) };
                let pause_ms = match node_age_ms {
                    _ if !pods_measured && first_ms == node.started_ms => SECOND_SCRAPE_MS,
                    _ if !pods_measured => rescrape_ms,
                    // The kubelet needs a moment to sample.
                    Some(age_ms) => (NODE_SAMPLE_MS + ROUNDING_MS)
                        .saturating_sub(age_ms)
                        .clamp(SECOND_SCRAPE_MS, NODE_SAMPLE_MS),
                    None => 2 * SECOND_SCRAPE_MS,
                };
                round_up(node.started_ms.max(now_ms.saturating_sub(ROUNDING_MS)) + pause_ms).min(next_slot_ms)
            }
            (_, ScrapeOutcome::Stored { .. }) => {
                node.phase = NodePhase::Steady;
                next_slot_ms
            }
            (_, ScrapeOutcome::Failed) => {
                node.phase = NodePhase::Failing;
                // Counted from the end of the scrape, so that a node that times out is not retried more often than
                // it takes.
                round_up(now_ms + pause_ms + self.jitter.u64(..=pause_ms / 4))
            }
        };
        let due_ms = if std::mem::take(&mut node.woken) { now_ms } else { due_ms };
        self.new += usize::from(matches!(node.phase, NodePhase::New { .. }));
        self.failing += usize::from(node.phase == NodePhase::Failing);
        node.due_ms = Some(due_ms);
        self.due.insert((due_ms, node.started_ms, id));
    }

    /// Returns the retry pause for a failing node.
    fn retry_ms(&self) -> u64 {
        let spread_ms = self.failing as u64 * 1000 / RETRIES_PER_SECOND;
        spread_ms.clamp(MIN_RETRY_MS.min(self.interval_ms), MAX_RETRY_MS.max(self.interval_ms))
    }

    fn emptiest_slot(&self) -> usize {
        self.nodes_per_slot
            .iter()
            .enumerate()
            .min_by_key(|(_, nodes_per_slot)| **nodes_per_slot)
            .map_or(0, |(at, _)| at)
    }
}

fn class(phase: NodePhase) -> usize {
    match phase {
        NodePhase::New { first_ms: None } => 0,
        // It has responded at least once.
        NodePhase::New { .. } | NodePhase::Steady => 1,
        NodePhase::Failing => 2,
    }
}

/// Returns the first instant from `from_ms` on that lies `offset_ms` after a multiple of the interval.
fn next_slot(from_ms: u64, interval_ms: u64, offset_ms: u64) -> u64 {
    let this = from_ms - from_ms % interval_ms + offset_ms;
    if this < from_ms { this + interval_ms } else { this }
}

fn round_up(at_ms: u64) -> u64 {
    at_ms.next_multiple_of(ROUNDING_MS)
}
