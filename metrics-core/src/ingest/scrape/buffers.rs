//! A bounded pool of buffers for reading response bodies, within the memory budget.

use std::sync::Arc;
use std::time::Duration;

use libdeflater::Decompressor;
use parking_lot::Mutex;

use super::error::Error;
use super::inflate::{MAX_BODY, claimed_size, inflate};
use super::session::RecordBuffers;
use crate::memory::{MemoryBudget, MemoryClass, Reservation};

/// The maximum size and number of buffers that are kept for the next responses. They are not reserved: they count as
/// data of the cluster.
const MAX_KEPT_READ_BYTES: usize = 64 * 1024;
const MAX_KEPT_READ_BUFFERS: usize = 16;
const MAX_KEPT_INFLATED_BYTES: usize = 1024 * 1024;
const MAX_KEPT_INFLATERS: usize = 4;

/// What a response reserves at first, and at least at a time: enough for a body of 30 pods, compressed.
const STEP: usize = 32 * 1024;

/// A response that takes more memory is large: it does not wait for memory, and leaves a part to others, so that a few
/// kubelets with huge bodies don't delay the scrapes of the rest.
const LARGE: usize = 1024 * 1024;

/// The part of the memory that large responses leave to others: one of this many.
const SPARED: usize = 4;

/// A large body takes as much again while it is decoded and stored.
const DECODE_FACTOR: usize = 2;

/// How much is read at most before memory is reserved again.
const HEADROOM: usize = 16 * 1024;

/// The buffers for one response.
#[derive(Default)]
pub(super) struct ReadBuffers {
    /// TLS records.
    pub(super) records: RecordBuffers,
    /// The decrypted HTTP response.
    pub(super) wire: Vec<u8>,
}

/// A decompressor and its output. The output is about ten times as large as the compressed body, so it is taken
/// only once the body is complete and kept without an await until the body is decoded. There are at most as many in
/// use as threads.
struct Inflater {
    decompressor: Decompressor,
    inflated: Vec<u8>,
}

/// The buffers that are not in use.
pub(super) struct BufferPool {
    buffers: Mutex<Vec<ReadBuffers>>,
    inflaters: Mutex<Vec<Inflater>>,
    budget: Arc<MemoryBudget>,
    /// How long a response waits for memory.
    patience: Duration,
}

/// A lease of buffers. They are taken only when data arrives: the scraper may be waiting for hundreds of kubelets.
pub(super) struct BufferLease<'p> {
    pool: &'p BufferPool,
    buffers: Option<ReadBuffers>,
    inflater: Option<Inflater>,
    reserved: Reservation,
}

impl BufferLease<'_> {
    /// Takes buffers and reserves memory for their use.
    pub(super) async fn take(&mut self) -> Result<&mut ReadBuffers, Error> {
        if self.buffers.is_none() {
            self.buffers = Some(take(&self.pool.buffers).unwrap_or_default());
        }
        self.reserve(STEP).await?;
        Ok(self.buffers.get_or_insert_default())
    }

    /// Makes room in `wire` for the next read, within the memory that the response may take.
    pub(super) async fn make_room(&mut self) -> Result<&mut ReadBuffers, Error> {
        let buffers = self.buffers.get_or_insert_default();
        if buffers.wire.len() > self.pool.max_body() {
            return Err(Error::BodyTooLarge("on the wire"));
        }
        let used = buffers.wire.len() + HEADROOM;
        let mut capacity = buffers.wire.capacity();
        if capacity < used {
            // Grows by half, so that a body of any length is copied a few times at most.
            capacity = used.max(capacity + capacity / 2);
        }
        let records = buffers.records.capacity();
        self.reserve(capacity + records).await?;
        let wire = &mut self.buffers.get_or_insert_default().wire;
        wire.reserve_exact(capacity.saturating_sub(wire.len()));
        Ok(self.buffers.get_or_insert_default())
    }

    /// Returns the buffers.
    pub(super) fn buffers(&mut self) -> &mut ReadBuffers {
        self.buffers.get_or_insert_default()
    }

    /// Returns the bytes of the response after the first `skip`.
    pub(super) fn plain(&mut self, skip: usize) -> &[u8] {
        self.buffers().wire.get(skip..).unwrap_or_default()
    }

    /// Reserves memory to decode the body, which is the response after the first `skip` bytes.
    pub(super) async fn reserve_decoded(&mut self, skip: usize, gzip: bool) -> Result<(), Error> {
        let buffers = self.buffers.get_or_insert_default();
        let held = buffers.wire.capacity() + buffers.records.capacity();
        let body = buffers.wire.get(skip..).unwrap_or_default();
        let inflated = if gzip { claimed_size(body)? } else { 0 };
        let body = inflated.max(body.len());
        let decoding = if body > LARGE { body * (DECODE_FACTOR - 1) } else { 0 };
        self.reserve(held + inflated + decoding).await
    }

    /// Returns the same, decompressed. Do not hold it across an await.
    pub(super) fn inflated(&mut self, skip: usize) -> Result<&[u8], Error> {
        let wire = self.buffers.as_ref().and_then(|buffers| buffers.wire.get(skip..)).unwrap_or_default();
        let inflater = self.inflater.get_or_insert_with(|| {
            let new = || Inflater { decompressor: Decompressor::new(), inflated: Vec::new() };
            take(&self.pool.inflaters).unwrap_or_else(new)
        });
        inflate(&mut inflater.decompressor, wire, &mut inflater.inflated)
    }

    /// Returns the maximum size of a body on the wire.
    pub(super) fn max_body(&self) -> usize {
        self.pool.max_body()
    }

    /// Reserves `bytes` in total. A small response waits for memory, a large one fails.
    async fn reserve(&mut self, bytes: usize) -> Result<(), Error> {
        let more = bytes.saturating_sub(self.reserved.bytes());
        if more == 0 {
            return Ok(());
        }
        let more = more.next_multiple_of(STEP);
        let total = self.reserved.bytes() + more;
        let reserved = if total <= LARGE {
            self.reserved.grow_within(more, self.pool.patience).await
        } else if total > self.pool.max_large() {
            return Err(Error::BodyTooLarge("for the memory of metrics-core"));
        } else {
            self.reserved.try_grow_sparing(more, self.pool.spared())
        };
        if reserved { Ok(()) } else { Err(Error::NoMemory(total)) }
    }
}

impl Drop for BufferLease<'_> {
    fn drop(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            let size = buffers.wire.capacity() + buffers.records.capacity();
            if size <= MAX_KEPT_READ_BYTES {
                give(&self.pool.buffers, buffers, MAX_KEPT_READ_BUFFERS);
            }
        }
        if let Some(inflater) = self.inflater.take() {
            let size = inflater.inflated.capacity();
            if size <= MAX_KEPT_INFLATED_BYTES {
                give(&self.pool.inflaters, inflater, MAX_KEPT_INFLATERS);
            }
        }
    }
}

impl BufferPool {
    /// Creates an empty pool. A response waits for memory for `patience` at most.
    pub(super) fn new(budget: Arc<MemoryBudget>, patience: Duration) -> Self {
        Self { buffers: Mutex::default(), inflaters: Mutex::default(), budget, patience }
    }

    pub(super) fn lease(&self) -> BufferLease<'_> {
        let reserved = self.budget.empty(MemoryClass::KubeletBodies);
        BufferLease { pool: self, buffers: None, inflater: None, reserved }
    }

    fn spared(&self) -> usize {
        self.budget.max(MemoryClass::KubeletBodies) / SPARED
    }

    fn max_body(&self) -> usize {
        self.max_large().min(MAX_BODY)
    }

    /// Returns the maximum memory of one response.
    fn max_large(&self) -> usize {
        let max = self.budget.max(MemoryClass::KubeletBodies);
        max - max / SPARED
    }
}

fn take<T>(kept: &Mutex<Vec<T>>) -> Option<T> {
    kept.lock().pop()
}

fn give<T>(kept: &Mutex<Vec<T>>, unused: T, max: usize) {
    let mut kept = kept.lock();
    if kept.len() < max {
        kept.push(unused);
    }
}

#[cfg(test)]
mod tests;
