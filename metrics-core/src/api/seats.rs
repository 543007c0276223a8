//! The places for watches, a bounded number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    taken: AtomicUsize,
    closing: AtomicBool,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Taken(Arc<Seats>);

impl Seats {
    /// So many places.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), closing: AtomicBool::new(false) })
    }

    /// Takes a place; `None` if all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Taken> {
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Taken(self.clone()))
    }

    /// Has all watches end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl Taken {
    /// Whether all watches are to end.
    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Seats;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let seats = Seats::new(2);
        let (a, b) = (seats.take().unwrap(), seats.take().unwrap());
        assert!(seats.take().is_none());
        drop(a);
        assert!(seats.take().is_some());
        assert!(seats.take().is_some(), "a place that is dropped at once is free at once");
        seats.close();
        assert!(b.is_closing());
        assert!(Seats::new(0).take().is_none());
    }
}
