//! ReadBuffers for the bodies that are being read, pooled and bounded.

use libdeflater::Decompressor;
use parking_lot::Mutex;

use super::error::Error;
use super::inflate::inflate;
use super::session::RecordBuffers;

/// ReadBuffers above this are not kept, nor more of them than [`MAX_KEPT_BUFFERS`].
const MAX_KEPT_BYTES: usize = 1024 * 1024;
const MAX_KEPT_BUFFERS: usize = 16;

/// What a body arrives in.
#[derive(Default)]
pub(super) struct ReadBuffers {
    /// TLS records.
    pub(super) records: RecordBuffers,
    /// What was in them: an HTTP response.
    pub(super) wire: Vec<u8>,
}

/// What a whole body is inflated with and into: ten times as much, and so it is not taken before, but then kept without
/// a pause until the body is decoded. There are as many as threads.
struct Inflater {
    decompressor: Decompressor,
    inflated: Vec<u8>,
}

/// ReadBuffers that are not in use.
#[derive(Default)]
pub(super) struct BufferPool {
    buffers: Mutex<Vec<ReadBuffers>>,
    inflaters: Mutex<Vec<Inflater>>,
}

/// ReadBuffers of the pool from the moment in which they are needed: hundreds of kubelets may be waited for.
pub(super) struct BufferLease<'p> {
    pool: &'p BufferPool,
    buffers: Option<ReadBuffers>,
    inflater: Option<Inflater>,
}

impl BufferLease<'_> {
    pub(super) fn buffers(&mut self) -> &mut ReadBuffers {
        self.buffers.get_or_insert_with(|| take(&self.pool.buffers).unwrap_or_default())
    }

    /// What arrived behind the first `skip` bytes.
    pub(super) fn plain(&mut self, skip: usize) -> &[u8] {
        self.buffers().wire.get(skip..).unwrap_or_default()
    }

    /// The same, inflated. Not to be held while something is waited for.
    pub(super) fn inflated(&mut self, skip: usize) -> Result<&[u8], Error> {
        let wire = self.buffers.as_ref().and_then(|buffers| buffers.wire.get(skip..)).unwrap_or_default();
        let inflater = self.inflater.get_or_insert_with(|| {
            let new = || Inflater { decompressor: Decompressor::new(), inflated: Vec::new() };
            take(&self.pool.inflaters).unwrap_or_else(new)
        });
        inflate(&mut inflater.decompressor, wire, &mut inflater.inflated)
    }
}

impl Drop for BufferLease<'_> {
    fn drop(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            let size = buffers.wire.capacity() + buffers.records.capacity();
            give(&self.pool.buffers, buffers, size);
        }
        if let Some(inflater) = self.inflater.take() {
            let size = inflater.inflated.capacity();
            give(&self.pool.inflaters, inflater, size);
        }
    }
}

impl BufferPool {
    pub(super) fn lease(&self) -> BufferLease<'_> {
        BufferLease { pool: self, buffers: None, inflater: None }
    }
}

fn take<T>(kept: &Mutex<Vec<T>>) -> Option<T> {
    kept.lock().pop()
}

fn give<T>(kept: &Mutex<Vec<T>>, unused: T, size: usize) {
    let mut kept = kept.lock();
    if size <= MAX_KEPT_BYTES && kept.len() < MAX_KEPT_BUFFERS {
        kept.push(unused);
    }
}
