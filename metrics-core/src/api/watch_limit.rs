//! The maximum number of concurrent watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts the open watches and ends them on shutdown.
#[derive(Debug)]
pub(super) struct WatchLimit {
    limit: usize,
    open: AtomicUsize,
    closed: AtomicBool,
}

/// Permission for one watch. Dropping it allows another.
#[derive(Debug)]
pub(super) struct WatchPermit(Arc<WatchLimit>);

impl WatchLimit {
    /// Allows up to `limit` concurrent watches.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: AtomicUsize::new(0), closed: AtomicBool::new(false) })
    }

    /// Returns a permit, or `None` if the maximum number of watches is open.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<WatchPermit> {
        let one_more = |open| (open < self.limit).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(WatchPermit(self.clone()))
    }

    /// Makes all watches end.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl WatchPermit {
    /// Returns whether the watch must end.
    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::WatchLimit;

    #[test]
    fn dropping_a_permit_allows_another_watch() {
        let limit = WatchLimit::new(2);
        let (a, b) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
        assert!(limit.try_acquire().is_none());
        drop(a);
        assert!(limit.try_acquire().is_some());
        assert!(limit.try_acquire().is_some(), "the previous permit was dropped at once");
        limit.close();
        assert!(b.is_closed());
        assert!(WatchLimit::new(0).try_acquire().is_none());
    }
}
