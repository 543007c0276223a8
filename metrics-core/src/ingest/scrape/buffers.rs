//! A bounded pool of buffers for reading response bodies.

use libdeflater::Decompressor;
use parking_lot::Mutex;

use super::error::Error;
use super::inflate::inflate;
use super::session::RecordBuffers;

/// Larger buffers are freed, and no more than [`MAX_KEPT_BUFFERS`] are kept.
const MAX_KEPT_BYTES: usize = 1024 * 1024;
const MAX_KEPT_BUFFERS: usize = 16;

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
#[derive(Default)]
pub(super) struct BufferPool {
    buffers: Mutex<Vec<ReadBuffers>>,
    inflaters: Mutex<Vec<Inflater>>,
}

/// A lease of buffers. They are taken only when data arrives: the scraper may be waiting for hundreds of kubelets.
pub(super) struct BufferLease<'p> {
    pool: &'p BufferPool,
    buffers: Option<ReadBuffers>,
    inflater: Option<Inflater>,
}

impl BufferLease<'_> {
    pub(super) fn buffers(&mut self) -> &mut ReadBuffers {
        self.buffers.get_or_insert_with(|| take(&self.pool.buffers).unwrap_or_default())
    }

    /// Returns the bytes of the response after the first `skip`.
    pub(super) fn plain(&mut self, skip: usize) -> &[u8] {
        self.buffers().wire.get(skip..).unwrap_or_default()
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
