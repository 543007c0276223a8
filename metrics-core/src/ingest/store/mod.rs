//! Two samples make a rate; per-node snapshots swapped whole.
//!
//! A scrape ends in [`Store::put`], which computes the node's next snapshot outside any lock and swaps it
//! in. Reads go in the order of the [`Directory`], which alone says who exists and with which labels.
//!
//! One read-write lock guards all slots: a write is one pointer swap (and, when containers came or went, an
//! update of the index for that node's pods), of which there are nodes ÷ resolution a second; a long read
//! lets go of the lock every few hundred rows.

mod directory;
#[cfg(test)]
#[allow(clippy::default_trait_access)]
mod following;
mod index;
mod intake;
mod keeping;
mod last_place;
mod layout;
mod metrics;
mod rate;
#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod rereading;
mod rows;
mod seek;
#[cfg(test)]
#[allow(clippy::format_push_string, clippy::cast_precision_loss, clippy::default_trait_access)]
mod tests;
#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::default_trait_access
)]
mod whole_way;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

pub use self::directory::Directory;
use self::index::Index;
pub use self::intake::Intake;
use self::intake::{Room, Snapshot};
use self::layout::Layout;
pub use self::metrics::Metrics;
use self::rate::Measured;
use crate::ingest::discover::Node;

/// So many nodes that went are remembered.
const MOST_GONE: usize = 256;

/// Room for intakes that is kept: so many, none of more rows.
const KEEP: usize = 4;
const KEEP_ROWS: usize = 4096;

/// How the store judges samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A container younger than this, and at least 10 s old, is measured from its start.
    pub resolution: Duration,
    /// The last good sample of a node is served, with its own timestamp, until its request is older.
    pub max_age: Duration,
}

impl Config {
    /// The defaults for a resolution: samples are served for three rounds, at least for a minute, so that
    /// two failed scrapes in a row are not seen.
    #[must_use]
    pub fn new(resolution: Duration) -> Self {
        Self { resolution, max_age: (resolution * 3).max(Duration::from_secs(60)) }
    }
}

/// The samples of all nodes. Read through [`crate::model::rows::Rows`].
pub struct Store {
    config: Config,
    directory: Arc<Directory>,
    state: RwLock<State>,
    was_ready: AtomicBool,
    /// Room of intakes that are over.
    spare: Mutex<Vec<Room>>,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, u32>,
    index: Index,
    /// What the last nodes that went were last, for those who watched them.
    gone: VecDeque<(Arc<str>, Measured)>,
}

#[derive(Default)]
struct Slot {
    /// Counts the nodes that were here, so that a ticket of one that is gone opens nothing.
    generation: u32,
    node: Option<Arc<Node>>,
    snapshot: Arc<Snapshot>,
    /// Counts the layouts that were here, so that a pod that was found in one needs no look at its names.
    stamp: u32,
    /// The change that brought the snapshot, or its end by age.
    version: u64,
    /// The change before that one.
    previous: u64,
    /// Whether the last scrape failed.
    failing: bool,
    /// Whether it has been told that the snapshot is too old.
    expired: bool,
}

/// The right to put samples of one node; void once the node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

/// How a put went, for the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// When the node's own sample was taken, by the node's clock, nanoseconds since the Unix epoch.
    pub node_timestamp_ns: Option<i64>,
    /// When the newest sample of a container was taken, by the same clock.
    pub newest_timestamp_ns: Option<i64>,
    /// Whether the node has a rate.
    pub node_measured: bool,
    /// Whether this was at least the second body of the node, so that its pods have rates.
    pub pods_measured: bool,
}

/// How much of the cluster the samples cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Whether nodes and pods have been listed.
    pub synced: bool,
    /// Nodes that exist.
    pub nodes: usize,
    /// Of these, nodes that have a rate of their own.
    pub nodes_measured: usize,
    /// Of these, nodes from which two bodies came, so that their pods have rates.
    pub nodes_covered: usize,
    /// Of these, nodes whose own usage or whose pods' is served now.
    pub nodes_served: usize,
    /// Of these, nodes whose last scrape failed.
    pub nodes_failing: usize,
    /// Of these, nodes that are covered or failing.
    pub nodes_settled: usize,
    /// Running pods.
    pub pods: usize,
    /// Containers that have a rate.
    pub containers_measured: usize,
}

impl Coverage {
    /// Whether the samples cover enough for a first answer: all but a twentieth of the nodes are covered or
    /// have failed, and if there are nodes, not all have failed.
    ///
    /// Nodes' own rates are not waited for: a kubelet samples its node every 10 s, containers at each
    /// request. Who wants to wait (a rollout) compares `nodes_measured`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.synced
            && self.nodes_settled >= self.nodes - self.nodes / 20
            && (self.nodes == 0 || self.nodes_covered > 0)
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(directory: Arc<Directory>, config: Config) -> Self {
        Self {
            config,
            directory,
            state: RwLock::default(),
            was_ready: AtomicBool::new(false),
            spare: Mutex::default(),
        }
    }

    /// Makes room for a node. Another one of the same name is removed first.
    pub fn admit(&self, node: &Arc<Node>) -> Ticket {
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
            self.look_again((0..left.pods()).map(|row| left.pod(row)));
        }
        ticket
    }

    /// Forgets a node and its samples.
    pub fn remove(&self, ticket: Ticket) {
        let mut state = self.state.write();
        let left = state.valid(ticket).is_some().then(|| state.vacate(ticket.slot));
        drop(state);
        if let Some(left) = left {
            self.look_again((0..left.pods()).map(|row| left.pod(row)));
        }
    }

    /// Begins to take a body; `None` when the node is gone.
    #[must_use]
    pub fn intake(&self, ticket: Ticket) -> Option<Intake> {
        let old = self.state.read().valid(ticket)?.snapshot.clone();
        let room = self.spare.lock().pop().unwrap_or_default();
        Some(Intake::new(old, room))
    }

    /// Ends taking a body whose request began at `requested_ms` (of [`Directory::now_ms`]); `None` when the
    /// node is gone. There is one scrape of a node at a time.
    pub fn put(&self, ticket: Ticket, intake: Intake, requested_ms: u64) -> Option<Put> {
        let newest_timestamp_ns = intake.newest_ns();
        let resolution_ns = i64::try_from(self.config.resolution.as_nanos()).unwrap_or(i64::MAX);
        let snapshot = Arc::new(intake.finish(resolution_ns, requested_ms));
        self.spare(intake.into_room());
        let put = Put {
            node_timestamp_ns: (snapshot.node.timestamp_ns != 0).then_some(snapshot.node.timestamp_ns),
            newest_timestamp_ns,
            node_measured: snapshot.node.is_measured(),
            pods_measured: snapshot.bodies > 1,
        };
        let mut state = self.state.write();
        state.valid(ticket)?;
        let State { slots, index, .. } = &mut *state;
        let slot = &mut slots[ticket.slot as usize];
        let same_layout = Arc::ptr_eq(&slot.snapshot.layout, &snapshot.layout);
        if !same_layout {
            index.remove(ticket.slot, &slot.snapshot.layout);
            index.insert(ticket.slot, &snapshot.layout);
            slot.stamp = slot.stamp.wrapping_add(1);
        }
        (slot.failing, slot.expired) = (false, false);
        slot.changed(self.directory.observer().take());
        let now = snapshot.layout.clone();
        let old = std::mem::replace(&mut slot.snapshot, snapshot);
        drop(state);
        if !same_layout {
            self.look_again(now.missing(&old.layout));
        }
        drop(old); // Freed outside the lock.
        Some(put)
    }

    /// Keeps the room of an intake for another one.
    fn spare(&self, room: Room) {
        let mut spare = self.spare.lock();
        if room.capacity() <= KEEP_ROWS && spare.len() < KEEP {
            spare.push(room);
        }
    }

    /// A scrape failed. The last good sample stays.
    pub fn failed(&self, ticket: Ticket) {
        let mut state = self.state.write();
        if state.valid(ticket).is_some() {
            let now_ms = self.directory.now_ms();
            let slot = &mut state.slots[ticket.slot as usize];
            slot.failing = true;
            if slot.version > 0 && !slot.expired && !self.fresh(&slot.snapshot, now_ms) {
                slot.expired = true;
                slot.changed(self.directory.observer().take());
            }
        }
    }

    /// How much of the cluster the samples cover now.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage {
            synced: self.directory.synced(),
            nodes: self.directory.nodes().len(),
            pods: self.directory.pods().len(),
            ..Coverage::default()
        };
        let now_ms = self.directory.now_ms();
        let state = self.state.read();
        for slot in state.slots.iter().filter(|slot| slot.node.is_some()) {
            let covered = slot.snapshot.bodies > 1;
            coverage.nodes_covered += usize::from(covered);
            coverage.nodes_failing += usize::from(slot.failing);
            coverage.nodes_settled += usize::from(covered || slot.failing);
            if self.fresh(&slot.snapshot, now_ms) {
                let measured = slot.snapshot.node.is_measured();
                coverage.nodes_served += usize::from(measured || slot.snapshot.measured_containers() > 0);
                coverage.nodes_measured += usize::from(measured);
                coverage.containers_measured += slot.snapshot.measured_containers();
            }
        }
        coverage
    }

    /// Whether the samples cover, or once covered, enough to answer ([`Coverage::is_ready`]). Never goes
    /// back: nodes that join later do not take the server out of service.
    #[must_use]
    pub fn ready(&self) -> bool {
        let ready = self.was_ready.load(Ordering::Relaxed) || self.coverage().is_ready();
        self.was_ready.store(ready, Ordering::Relaxed);
        ready
    }

    fn fresh(&self, snapshot: &Snapshot, now_ms: u64) -> bool {
        u128::from(now_ms.saturating_sub(snapshot.requested_ms)) <= self.config.max_age.as_millis()
    }
}

impl Slot {
    /// There is another snapshot, or none any more, since this version.
    fn changed(&mut self, version: u64) {
        self.previous = std::mem::replace(&mut self.version, version);
    }
}

impl State {
    fn valid(&self, ticket: Ticket) -> Option<&Slot> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.generation == ticket.generation && slot.node.is_some()).then_some(slot)
    }

    /// Frees a slot; gives the names of what was there.
    fn vacate(&mut self, at: u32) -> Arc<Layout> {
        let slot = &mut self.slots[at as usize];
        self.index.remove(at, &slot.snapshot.layout);
        if let Some(node) = &slot.node {
            self.by_name.remove(&node.name);
            if slot.snapshot.node.was_measured() {
                if self.gone.len() >= MOST_GONE {
                    self.gone.pop_front();
                }
                self.gone.push_back((node.name.clone(), slot.snapshot.node));
            }
        }
        let layout = slot.snapshot.layout.clone();
        let (generation, stamp) = (slot.generation.wrapping_add(1), slot.stamp.wrapping_add(1));
        *slot = Slot { generation, stamp, ..Slot::default() };
        self.free.push(at);
        layout
    }
}
