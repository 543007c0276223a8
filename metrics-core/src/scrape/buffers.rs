//! Buffers for the bodies that are being read, pooled and bounded.

use libdeflater::Decompressor;
use parking_lot::Mutex;

use super::session::Records;

/// Buffers above this are not kept, nor more of them than [`KEEP`].
const KEEP_SIZE: usize = 1024 * 1024;
const KEEP: usize = 16;

/// Buffers for one body.
pub(super) struct Buffers {
    /// TLS records.
    pub(super) records: Records,
    /// What was in them: an HTTP response.
    pub(super) wire: Vec<u8>,
    /// Its body without gzip.
    pub(super) inflated: Vec<u8>,
    pub(super) decompressor: Decompressor,
}

/// Buffers that are not in use.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Buffers>>);

/// Buffers of the pool from the moment in which they are needed: hundreds of kubelets may be waited for.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    taken: Option<Buffers>,
}

impl Lease<'_> {
    pub(super) fn buffers(&mut self) -> &mut Buffers {
        self.taken.get_or_insert_with(|| self.pool.take())
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(buffers) = self.taken.take() {
            self.pool.give(buffers);
        }
    }
}

impl Pool {
    pub(super) fn lease(&self) -> Lease<'_> {
        Lease { pool: self, taken: None }
    }

    fn take(&self) -> Buffers {
        self.0.lock().pop().unwrap_or_else(|| Buffers {
            records: Records::default(),
            wire: Vec::new(),
            inflated: Vec::new(),
            decompressor: Decompressor::new(),
        })
    }

    fn give(&self, buffers: Buffers) {
        let mut pool = self.0.lock();
        let size = buffers.wire.capacity() + buffers.inflated.capacity() + buffers.records.capacity();
        let small = size <= KEEP_SIZE;
        if small && pool.len() < KEEP {
            pool.push(buffers);
        }
    }
}
