//! Buffers for the bodies that are being read, pooled and bounded.

use libdeflater::Decompressor;
use parking_lot::Mutex;

use super::error::Error;
use super::inflate::inflate;
use super::session::Records;

/// Buffers above this are not kept, nor more of them than [`KEEP`].
const KEEP_SIZE: usize = 1024 * 1024;
const KEEP: usize = 16;

/// What a body arrives in.
#[derive(Default)]
pub(super) struct Buffers {
    /// TLS records.
    pub(super) records: Records,
    /// What was in them: an HTTP response.
    pub(super) wire: Vec<u8>,
}

/// What a whole body is inflated with and into: ten times as much, and so it is not taken before, but then kept without
/// a pause until the body is decoded. There are as many as threads.
struct Inflater {
    decompressor: Decompressor,
    inflated: Vec<u8>,
}

/// Buffers that are not in use.
#[derive(Default)]
pub(super) struct Pool {
    buffers: Mutex<Vec<Buffers>>,
    inflaters: Mutex<Vec<Inflater>>,
}

/// Buffers of the pool from the moment in which they are needed: hundreds of kubelets may be waited for.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    buffers: Option<Buffers>,
    inflater: Option<Inflater>,
}

impl Lease<'_> {
    pub(super) fn buffers(&mut self) -> &mut Buffers {
        self.buffers.get_or_insert_with(|| take(&self.pool.buffers).unwrap_or_default())
    }

    /// What arrived behind the first `skip` bytes.
    pub(super) fn arrived(&mut self, skip: usize) -> &[u8] {
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

impl Drop for Lease<'_> {
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

impl Pool {
    pub(super) fn lease(&self) -> Lease<'_> {
        Lease { pool: self, buffers: None, inflater: None }
    }
}

fn take<T>(kept: &Mutex<Vec<T>>) -> Option<T> {
    kept.lock().pop()
}

fn give<T>(kept: &Mutex<Vec<T>>, unused: T, size: usize) {
    let mut kept = kept.lock();
    if size <= KEEP_SIZE && kept.len() < KEEP {
        kept.push(unused);
    }
}
