//! The store: one snapshot of usage per node, and the rates from two samples.
//!
//! A scrape ends in [`Store::put`], which computes the node's next snapshot outside any lock and then swaps it in.
//! Reads follow the order of the [`StoreDirectory`], which alone decides what exists and with which labels.
//!
//! One read-write lock guards all slots. A write is one pointer swap, plus an update of the index for that node's
//! pods when containers were added or removed; there are nodes ÷ scrape interval writes a second. A long read
//! releases the lock every few hundred rows.

mod absent_pods;
mod coverage;
mod directory;
mod duplicates;
mod index;
mod layout;
mod location_hint;
mod metrics;
mod node_samples;
mod pod_lookup;
mod problems;
mod rate;
mod rivals;
mod row_changes;
mod rows;
mod scrape_batch;
mod snapshot_builder;
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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use self::absent_pods::AbsentPods;
pub(crate) use self::coverage::Coverage;
use self::coverage::NodeCoverage;
pub use self::directory::StoreDirectory;
use self::index::Index;
use self::layout::NodeLayout;
pub(crate) use self::metrics::StoreMetrics;
pub(crate) use self::problems::SampleProblems;
use self::rate::Measured;
pub(crate) use self::scrape_batch::ScrapeBatch;
use self::scrape_batch::{BatchBuffer, NodeSnapshot};
use self::snapshot_builder::BodyContext;
use crate::ingest::discover::Node;
use crate::memory::{MemoryBudget, MemoryClass, Reservation};

/// The maximum number of removed nodes whose last usage is kept.
const MAX_REMOVED_NODES: usize = 256;

/// The maximum number of spare batch buffers, and the maximum capacity of one in points.
const MAX_SPARE_BUFFERS: usize = 4;
const MAX_SPARE_POINTS: usize = 4096;

/// What the samples of a node take without a reservation, in bytes: about 1,000 containers. It counts as data of the
/// cluster.
const NODE_ALLOWANCE: usize = 128 << 10;

/// Configures the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The scrape interval. A container younger than this, and at least 10 s old, is measured from its start.
    pub(crate) scrape_interval: Duration,
    /// The maximum age of a sample that is served, from the start of the request that first returned it. The sample
    /// keeps its own timestamp.
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
    /// Where the memory of nodes with very many containers is reserved; `None` in tests and benchmarks.
    memory: Option<Arc<MemoryBudget>>,
}

#[derive(Default)]
struct StoreState {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32>,
    index: Index,
    /// The slots that changed, by the version of the last change.
    changed: BTreeMap<u64, u32>,
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
    /// Up to when it has been recorded which samples are too old.
    checked_ms: u64,
    /// Whether the last change is that samples are too old.
    only_expired: bool,
    /// The Running pods that the node reported before.
    absent: AbsentPods,
    /// The memory of the snapshot beyond the allowance.
    excess: Option<Reservation>,
}

/// Identifies a node's slot for writing samples; invalid once the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

/// When a request started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTime {
    /// In [`StoreDirectory::now_ms`].
    pub monotonic_ms: u64,
    /// By the wall clock, in nanoseconds since the Unix epoch.
    pub unix_ns: i64,
}

/// Why the samples of a body were not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// The node was removed.
    NodeDeleted,
    /// They need this many bytes, and other nodes hold the rest of the memory.
    NoMemory(usize),
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
    /// The problems of the samples in this body.
    pub(crate) problems: SampleProblems,
}

impl Store {
    /// Returns an empty store.
    #[must_use]
    pub fn new(directory: Arc<StoreDirectory>, config: StoreConfig) -> Self {
        Self { config, directory, state: RwLock::default(), spare_buffers: Mutex::default(), memory: None }
    }

    /// Returns an empty store that reserves the memory of nodes with very many containers from `budget`.
    #[must_use]
    pub(crate) fn with_memory(self, budget: Arc<MemoryBudget>) -> Self {
        Self { memory: Some(budget), ..self }
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

    /// Replaces a node by a newer state of the same one.
    pub fn update_node(&self, ticket: Ticket, node: &Arc<Node>) {
        let mut state = self.state.write();
        if state.valid(ticket).is_some() {
            state.slots[ticket.slot as usize].node = Some(node.clone());
        }
    }

    /// Removes a node and its samples.
    pub fn remove_node(&self, ticket: Ticket) {
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
        let state = self.state.read();
        let slot = state.valid(ticket)?;
        let capacity_millicores = slot.node.as_ref()?.cpu_millicores;
        let old = slot.snapshot.clone();
        drop(state);
        let buffer = self.spare_buffers.lock().pop().unwrap_or_default();
        Some(ScrapeBatch::new(old, capacity_millicores, buffer))
    }

    /// Writes a batch. Callers scrape a node once at a time.
    ///
    /// # Errors
    /// The node was removed, or has so many containers that their memory must be reserved, and it is short. The last
    /// good samples stay.
    pub fn put(
        &self,
        ticket: Ticket,
        mut batch: ScrapeBatch,
        request: RequestTime,
    ) -> Result<PutSummary, PutError> {
        let context = BodyContext {
            requested_ms: request.monotonic_ms,
            requested_ns: request.unix_ns,
            interval: self.config.scrape_interval,
            max_age: self.config.max_age,
        };
        let (snapshot, mut problems) = batch.finish(context);
        let snapshot = Arc::new(snapshot);
        self.recycle(batch.into_buffer());
        let known = |timestamp_ns| (timestamp_ns != 0).then_some(timestamp_ns);
        let (node_timestamp_ns, newest_timestamp_ns) =
            (known(snapshot.node.timestamp_ns), known(snapshot.newest_ns));
        let coverage = NodeCoverage::new(&snapshot, request.monotonic_ms, self.max_age_ms());
        let (node_measured, pods_measured) = (snapshot.node.is_measured(), coverage.is_complete());
        let mut state = self.state.write();
        state.valid(ticket).ok_or(PutError::NodeDeleted)?;
        self.reserve_excess(&mut state.slots[ticket.slot as usize].excess, snapshot.bytes())?;
        state.changed(ticket.slot, self.directory.observer().take());
        let StoreState { slots, index, .. } = &mut *state;
        let slot = &mut slots[ticket.slot as usize];
        let same_layout = Arc::ptr_eq(&slot.snapshot.layout, &snapshot.layout);
        if !same_layout {
            index.remove(ticket.slot, &slot.snapshot.layout);
            index.insert(ticket.slot, &snapshot.layout);
            slot.layout_version = slot.layout_version.wrapping_add(1);
        }
        (slot.coverage, slot.failures) = (coverage, 0);
        (slot.only_expired, slot.checked_ms) = (false, request.monotonic_ms);
        let has_absent = !slot.absent.is_empty();
        let now = snapshot.layout.clone();
        let old = std::mem::replace(&mut slot.snapshot, snapshot);
        drop(state);
        if !same_layout {
            self.refresh_visibility(now.missing(&old.layout));
        }
        if !same_layout || has_absent {
            let gone = (!same_layout).then(|| now.missing(&old.layout));
            let absent = self.update_absent(ticket, gone.into_iter().flatten(), request.monotonic_ms);
            (problems.pods_absent, problems.pods_missing) = absent.unwrap_or_default();
        }
        drop(old); // Freed outside the lock.
        Ok(PutSummary { node_timestamp_ns, newest_timestamp_ns, node_measured, pods_measured, problems })
    }

    /// Reserves what a snapshot of `bytes` takes beyond the allowance.
    fn reserve_excess(&self, excess: &mut Option<Reservation>, bytes: usize) -> Result<(), PutError> {
        let (more, Some(budget)) = (bytes.saturating_sub(NODE_ALLOWANCE), &self.memory) else {
            return Ok(());
        };
        if more == 0 {
            *excess = None;
            return Ok(());
        }
        let reserved = excess.get_or_insert_with(|| budget.empty(MemoryClass::NodeSamples));
        let has_memory = more <= reserved.bytes() || reserved.try_grow(more - reserved.bytes());
        reserved.shrink_to(more);
        if has_memory { Ok(()) } else { Err(PutError::NoMemory(more)) }
    }

    /// Keeps the buffer of a batch for the next one.
    fn recycle(&self, buffer: BatchBuffer) {
        let mut spare = self.spare_buffers.lock();
        if buffer.capacity() <= MAX_SPARE_POINTS && spare.len() < MAX_SPARE_BUFFERS {
            spare.push(buffer);
        }
    }

    /// Records a failed scrape. The last good sample stays.
    pub fn scrape_failed(&self, ticket: Ticket) {
        let mut state = self.state.write();
        if state.valid(ticket).is_some() {
            let now_ms = self.directory.now_ms();
            let max_age_ms = self.max_age_ms();
            let slot = &mut state.slots[ticket.slot as usize];
            slot.failures = slot.failures.saturating_add(1);
            let checked_ms = std::mem::replace(&mut slot.checked_ms, now_ms);
            let was_fresh = self.fresh(&slot.snapshot, checked_ms);
            if was_fresh
                && (!self.fresh(&slot.snapshot, now_ms)
                    || slot.snapshot.expires_between(checked_ms, now_ms, max_age_ms))
            {
                slot.only_expired = true;
                state.changed(ticket.slot, self.directory.observer().take());
            }
        }
    }

    /// Returns whether a rate is served at `now_ms`.
    fn serves(&self, measured: &Measured, now_ms: u64) -> bool {
        measured.is_served(now_ms, self.max_age_ms())
    }

    fn max_age_ms(&self) -> u32 {
        rate::milliseconds(self.config.max_age)
    }

    /// Returns whether the node's last successful request is recent enough.
    fn fresh(&self, snapshot: &NodeSnapshot, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(snapshot.requested_ms)) <= self.config.max_age.as_millis()
    }
}

impl StoreState {
    fn valid(&self, ticket: Ticket) -> Option<&Slot> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.generation == ticket.generation && slot.node.is_some()).then_some(slot)
    }

    /// Records that the snapshot of a slot was replaced or expired at this version.
    fn changed(&mut self, at: u32, version: u64) {
        let slot = &mut self.slots[at as usize];
        slot.previous = std::mem::replace(&mut slot.version, version);
        self.changed.remove(&slot.previous);
        self.changed.insert(version, at);
    }

    /// Frees a slot and returns the layout it had.
    fn vacate(&mut self, at: u32) -> Arc<NodeLayout> {
        let slot = &mut self.slots[at as usize];
        self.changed.remove(&slot.version);
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
