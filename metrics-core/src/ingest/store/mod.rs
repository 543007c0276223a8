//! The store: one snapshot of usage per node, and the rates from two samples.
//!
//! A scrape ends in [`Store::put`], which computes the node's next snapshot outside any lock and then swaps it in.
//! Reads follow the order of the [`StoreDirectory`], which alone decides what exists and with which labels.
//!
//! One read-write lock guards all slots. A write is one pointer swap, plus an update of the index for that node's
//! pods when containers were added or removed; there are nodes ÷ scrape interval writes a second. A long read
//! releases the lock every few hundred rows.

mod coverage;
mod directory;
mod index;
mod layout;
mod location_hint;
mod metrics;
mod pod_lookup;
mod rate;
mod rows;
mod scrape_batch;
#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::default_trait_access,
    clippy::format_push_string
)]
mod tests;
mod two_pass_reader;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

pub(crate) use self::coverage::Coverage;
use self::coverage::NodeCoverage;
pub use self::directory::StoreDirectory;
use self::index::Index;
use self::layout::NodeLayout;
pub(crate) use self::metrics::StoreMetrics;
use self::rate::Measured;
pub(crate) use self::scrape_batch::ScrapeBatch;
use self::scrape_batch::{BatchBuffer, NodeSnapshot};
use crate::ingest::discover::Node;

/// The maximum number of removed nodes whose last usage is kept.
const MAX_REMOVED_NODES: usize = 256;

/// The maximum number of spare batch buffers, and the maximum capacity of one in points.
const MAX_SPARE_BUFFERS: usize = 4;
const MAX_SPARE_POINTS: usize = 4096;

/// Configures the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The scrape interval. A container younger than this, and at least 10 s old, is measured from its start.
    pub(crate) scrape_interval: Duration,
    /// The maximum age of a sample that is served, from the start of its request. The sample keeps its own
    /// timestamp.
    pub(crate) max_age: Duration,
}

impl StoreConfig {
    /// Returns the defaults for a scrape interval. Samples are served for three intervals, and at least for a
    /// minute, so that two failed scrapes in a row have no effect.
    #[must_use]
    pub fn new(scrape_interval: Duration) -> Self {
        Self { scrape_interval, max_age: (scrape_interval * 3).max(Duration::from_secs(60)) }
    }
}

/// The samples of all nodes. Read through [`crate::model::rows::Rows`].
pub struct Store {
    config: StoreConfig,
    directory: Arc<StoreDirectory>,
    state: RwLock<StoreState>,
    /// Buffers of finished batches.
    spare_buffers: Mutex<Vec<BatchBuffer>>,
}

#[derive(Default)]
struct StoreState {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32>,
    index: Index,
    /// The last usage of recently removed nodes, for watches.
    removed_nodes: VecDeque<(Arc<str>, Measured)>,
}

#[derive(Default)]
struct Slot {
    /// Counts the nodes that used this slot, so that tickets of removed nodes are invalid.
    generation: u32,
    node: Option<Arc<Node>>,
    snapshot: Arc<NodeSnapshot>,
    /// Counts the layouts that this slot had. A pod that was found in this version needs no comparison of names.
    layout_version: u32,
    /// The version of the change that set the snapshot or expired it.
    version: u64,
    /// The version of the change before that one.
    previous: u64,
    /// The counts of the snapshot.
    coverage: NodeCoverage,
    /// The number of failed scrapes since the last good one.
    failures: u32,
    /// Whether the change has been recorded that the snapshot is too old.
    expired: bool,
}

/// Identifies a node's slot for writing samples; invalid once the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

/// Summarizes a write for the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutSummary {
    /// When the node's own sample was taken, by the node's clock, nanoseconds since the Unix epoch.
    pub(crate) node_timestamp_ns: Option<i64>,
    /// When the newest sample of a container was taken, by the same clock.
    pub(crate) newest_timestamp_ns: Option<i64>,
    /// Whether the node has a rate.
    pub(crate) node_measured: bool,
    /// Whether each container that can have a rate has one.
    pub(crate) pods_measured: bool,
}

impl Store {
    /// Returns an empty store.
    #[must_use]
    pub fn new(directory: Arc<StoreDirectory>, config: StoreConfig) -> Self {
        Self { config, directory, state: RwLock::default(), spare_buffers: Mutex::default() }
    }

    /// Adds a node; one with the same name is removed first.
    pub fn insert_node(&self, node: &Arc<Node>) -> Ticket {
        let mut state = self.state.write();
        let mut left = None;
        if let Some(slot) = state.by_name.get(&node.name).copied() {
            left = Some(state.vacate(slot));
        }
        let at = state.free.pop().unwrap_or_else(|| {
            state.slots.push(Slot::default());
            u32::try_from(state.slots.len() - 1).unwrap_or(u32::MAX)
        });
        state.by_name.insert(node.name.clone(), at);
        let slot = &mut state.slots[at as usize];
        slot.node = Some(node.clone());
        let ticket = Ticket { slot: at, generation: slot.generation };
        drop(state);
        if let Some(left) = left {
            self.refresh_visibility((0..left.pods()).map(|row| left.pod(row)));
        }
        ticket
    }

    /// Removes a node and its samples.
    pub(crate) fn remove_node(&self, ticket: Ticket) {
        let mut state = self.state.write();
        let left = state.valid(ticket).is_some().then(|| state.vacate(ticket.slot));
        drop(state);
        if let Some(left) = left {
            self.refresh_visibility((0..left.pods()).map(|row| left.pod(row)));
        }
    }

    /// Starts a batch for one body; `None` if the node was removed.
    #[must_use]
    pub fn begin_batch(&self, ticket: Ticket) -> Option<ScrapeBatch> {
        let old = self.state.read().valid(ticket)?.snapshot.clone();
        let buffer = self.spare_buffers.lock().pop().unwrap_or_default();
        Some(ScrapeBatch::new(old, buffer))
    }

    /// Writes a batch whose request started at `requested_ms` (of [`StoreDirectory::now_ms`]); `None` if the node was
    /// removed. Callers scrape a node once at a time.
    pub fn put(&self, ticket: Ticket, batch: ScrapeBatch, requested_ms: u64) -> Option<PutSummary> {
        let newest_timestamp_ns = batch.newest_ns();
        let interval_ns = i64::try_from(self.config.scrape_interval.as_nanos()).unwrap_or(i64::MAX);
        let snapshot = Arc::new(batch.finish(interval_ns, requested_ms));
        self.recycle(batch.into_buffer());
        let coverage = NodeCoverage::new(&snapshot);
        let put = PutSummary {
            node_timestamp_ns: (snapshot.node.timestamp_ns != 0).then_some(snapshot.node.timestamp_ns),
            newest_timestamp_ns,
            node_measured: snapshot.node.is_measured(),
            pods_measured: coverage.is_complete(),
        };
        let mut state = self.state.write();
        state.valid(ticket)?;
        let StoreState { slots, index, .. } = &mut *state;
        let slot = &mut slots[ticket.slot as usize];
        let same_layout = Arc::ptr_eq(&slot.snapshot.layout, &snapshot.layout);
        if !same_layout {
            index.remove(ticket.slot, &slot.snapshot.layout);
            index.insert(ticket.slot, &snapshot.layout);
            slot.layout_version = slot.layout_version.wrapping_add(1);
        }
        (slot.coverage, slot.failures, slot.expired) = (coverage, 0, false);
        slot.changed(self.directory.observer().take());
        let now = snapshot.layout.clone();
        let old = std::mem::replace(&mut slot.snapshot, snapshot);
        drop(state);
        if !same_layout {
            self.refresh_visibility(now.missing(&old.layout));
        }
        drop(old); // Freed outside the lock.
        Some(put)
    }

    /// Keeps the buffer of a batch for the next one.
    fn recycle(&self, buffer: BatchBuffer) {
        let mut spare = self.spare_buffers.lock();
        if buffer.capacity() <= MAX_SPARE_POINTS && spare.len() < MAX_SPARE_BUFFERS {
            spare.push(buffer);
        }
    }

    /// Records a failed scrape. The last good sample stays.
    pub(crate) fn scrape_failed(&self, ticket: Ticket) {
        let mut state = self.state.write();
        if state.valid(ticket).is_some() {
            let now_ms = self.directory.now_ms();
            let slot = &mut state.slots[ticket.slot as usize];
            slot.failures = slot.failures.saturating_add(1);
            if slot.version > 0 && !slot.expired && !self.fresh(&slot.snapshot, now_ms) {
                slot.expired = true;
                slot.changed(self.directory.observer().take());
            }
        }
    }

    fn fresh(&self, snapshot: &NodeSnapshot, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(snapshot.requested_ms)) <= self.config.max_age.as_millis()
    }
}

impl Slot {
    /// Records that the snapshot was replaced or expired at this version.
    fn changed(&mut self, version: u64) {
        self.previous = std::mem::replace(&mut self.version, version);
    }
}

impl StoreState {
    fn valid(&self, ticket: Ticket) -> Option<&Slot> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.generation == ticket.generation && slot.node.is_some()).then_some(slot)
    }

    /// Frees a slot and returns the layout it had.
    fn vacate(&mut self, at: u32) -> Arc<NodeLayout> {
        let slot = &mut self.slots[at as usize];
        self.index.remove(at, &slot.snapshot.layout);
        if let Some(node) = &slot.node {
            self.by_name.remove(&node.name);
            if slot.snapshot.node.was_measured() {
                if self.removed_nodes.len() >= MAX_REMOVED_NODES {
                    self.removed_nodes.pop_front();
                }
                self.removed_nodes.push_back((node.name.clone(), slot.snapshot.node));
            }
        }
        let layout = slot.snapshot.layout.clone();
        let (generation, layout_version) =
            (slot.generation.wrapping_add(1), slot.layout_version.wrapping_add(1));
        *slot = Slot { generation, layout_version, ..Slot::default() };
        self.free.push(at);
        layout
    }
}
