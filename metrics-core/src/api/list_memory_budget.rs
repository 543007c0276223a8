//! The memory that all list responses together may hold, encoded and not yet sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that lists reserve from.
#[derive(Debug)]
pub(super) struct ListMemoryBudget {
    available: AtomicUsize,
}

/// The bytes that one list has reserved. Dropping it releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<ListMemoryBudget>,
    reserved: usize,
}

impl ListMemoryBudget {
    /// Creates a budget of `bytes`.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { available: AtomicUsize::new(bytes) })
    }

    /// Returns an empty reservation.
    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: self.clone(), reserved: 0 }
    }

    /// Returns the number of bytes that are not reserved.
    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        self.available.load(Ordering::Relaxed)
    }
}

impl Reservation {
    /// Reserves `bytes` more. Returns false, and reserves nothing, if fewer are available.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let less = |available: usize| available.checked_sub(bytes);
        let grown = self.budget.available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        self.reserved += if grown { bytes } else { 0 };
        grown
    }

    /// Moves `bytes`, or all if fewer are reserved, to a reservation of their own.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let reserved = bytes.min(self.reserved);
        self.reserved -= reserved;
        Self { budget: self.budget.clone(), reserved }
    }

    /// Releases `bytes`, or all if fewer are reserved.
    pub(super) fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.reserved);
        self.reserved -= bytes;
        self.budget.available.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::ListMemoryBudget;

    #[test]
    fn reserved_bytes_are_released_once() {
        let budget = ListMemoryBudget::new(10);
        let (mut one, mut other) = (budget.reservation(), budget.reservation());
        assert!(one.try_grow(7));
        assert!(!other.try_grow(4));
        assert!(other.try_grow(3));
        one.release(5);
        other.release(100);
        assert_eq!(budget.available(), 8);
        let part = one.split(1);
        drop(one);
        assert_eq!(budget.available(), 9);
        drop((part, other));
        assert_eq!(budget.available(), 10);
    }
}
