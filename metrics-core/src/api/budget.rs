//! What all lists together may hold, encoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

/// What one list holds of it; given back at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// A share that holds nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), held: 0 }
    }

    /// How much nobody holds.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes so many bytes more, or none if there are not as many.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        self.held += if taken { bytes } else { 0 };
        taken
    }

    /// Parts with so many, or all that it holds if that is less: they are given back with what is returned.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let held = bytes.min(self.held);
        self.held -= held;
        Self { budget: self.budget.clone(), held }
    }

    /// Gives so many back, or all that it holds if that is less.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.budget.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_taken_is_given_back_once() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.take(7));
        assert!(!other.take(4));
        assert!(other.take(3));
        one.give_back(5);
        other.give_back(100);
        assert_eq!(budget.left(), 8);
        let part = one.split(1);
        drop(one);
        assert_eq!(budget.left(), 9);
        drop((part, other));
        assert_eq!(budget.left(), 10);
    }
}
