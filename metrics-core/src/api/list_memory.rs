//! The memory of list and watch responses.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::memory::{Lease, MemoryBudget, MemoryClass, Reservation};

/// The memory of a list that is being sent: a chunk that is encoded, the compressor in which it may be for a moment, and
/// what HTTP and TLS hold of earlier ones.
const LIST_BYTES: usize = 512 << 10;

/// The same of a watch, whose chunks are shorter.
const WATCH_BYTES: usize = 192 << 10;

/// How often, and how many times, a list asks for memory for the rows that it keeps.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRIES: u32 = 40;

/// Leases memory to responses.
#[derive(Debug)]
pub(super) struct ResponseMemory {
    budget: Arc<MemoryBudget>,
    /// Only one list at a time adds to the rows that are kept, so that no two wait for each other's memory.
    recording: Arc<Semaphore>,
}

/// The memory of one list.
#[derive(Debug)]
pub(super) struct ListMemory {
    lease: Arc<Lease>,
    recording: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
    retries: u32,
}

impl ResponseMemory {
    /// Leases from `budget`.
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, recording: Arc::new(Semaphore::new(1)) }
    }

    /// Returns the memory of a list, and an empty reservation for what is encoded before it is sent; `None` if memory
    /// is short.
    ///
    /// The list leaves one in `spared_part` bytes of all memory for responses to others.
    pub(super) fn list(&self, spared_part: Option<usize>) -> Option<(ListMemory, Reservation)> {
        let spare = spared_part.map_or(0, |part| self.budget.max(MemoryClass::Responses) / part);
        let lease = Arc::new(self.budget.lease(LIST_BYTES, spare)?);
        let memory = ListMemory { lease, recording: self.recording.clone(), turn: None, retries: 0 };
        Some((memory, self.budget.empty(MemoryClass::EncodedLists)))
    }

    /// Returns the memory of a watch; `None` if memory is short. Watches last, so half of the memory remains for lists.
    pub(super) fn watch(&self) -> Option<Lease> {
        self.budget.lease(WATCH_BYTES, self.budget.max(MemoryClass::Responses) / 2)
    }
}

impl ListMemory {
    /// Returns the lease.
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Reserves memory for the rows that are kept so far, `bytes` of them. Returns how long to wait before rows are
    /// added, or `None` if they may be. A list that gets no memory for ten seconds is revoked.
    pub(super) fn keep_rows(&mut self, bytes: usize) -> Option<Duration> {
        if self.turn.is_none() {
            self.turn = self.recording.clone().try_acquire_owned().ok();
            // The client may stop reading before there is memory for the first row.
            if self.turn.is_some() {
                self.lease.may_keep_rows();
            }
        }
        if self.turn.is_none() {
            self.lease.want_rows();
        } else if self.lease.try_keep_rows(bytes) {
            self.retries = 0;
            return None;
        }
        self.retries += 1;
        if self.retries == MAX_RETRIES {
            self.turn = None;
            self.lease.revoke();
        }
        Some(RETRY)
    }

    /// Records that no rows will be added. `bytes` are kept.
    pub(super) fn rows_complete(&mut self, bytes: usize) {
        if self.turn.is_some() {
            // The last rows are reserved even if memory is short: no others will follow.
            self.lease.must_keep_rows(bytes);
        }
        self.turn = None;
    }
}
