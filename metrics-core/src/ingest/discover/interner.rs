//! Interns label sets: equal sets share one allocation.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::labels::Labels;

/// The label sets in use. Pods of one template mostly have equal ones.
#[derive(Debug, Default)]
pub(super) struct Interner {
    shared: HashSet<Arc<Labels>>,
    /// The size from which [`Self::share`] removes unused sets before it adds one.
    sweep_at: usize,
}

/// The minimum size for a sweep.
const MIN_SWEEP: usize = 1024;

impl Interner {
    /// Returns the shared value equal to `labels`.
    pub(super) fn share(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(shared) = self.shared.get(&labels) {
            return shared.clone();
        }
        if self.shared.len() >= self.sweep_at.max(MIN_SWEEP) {
            self.shared.retain(|shared| Arc::strong_count(shared) > 1);
            self.sweep_at = self.shared.len() * 2;
        }
        let shared = Arc::new(labels);
        self.shared.insert(shared.clone());
        shared
    }

    /// Releases a value and removes it if it has no other user. A list that is being sent may still use it; then a
    /// later [`Self::share`] removes it.
    pub(super) fn release(&mut self, labels: Arc<Labels>) {
        // The interner's reference and the released one.
        if Arc::strong_count(&labels) == 2 {
            self.shared.remove(&labels);
        }
        drop(labels);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shared.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Interner, MIN_SWEEP};
    use crate::model::labels::Labels;

    #[test]
    fn removes_sets_that_were_in_use_when_released() {
        let mut interner = Interner::default();
        let labels = |number: usize| [("n", number.to_string())].into_iter().collect::<Labels>();
        for number in 0..MIN_SWEEP * 10 {
            let shared = interner.share(labels(number));
            let elsewhere = shared.clone();
            interner.release(shared);
            drop(elsewhere);
            assert!(interner.len() <= MIN_SWEEP);
        }
        let kept = interner.share(labels(0));
        assert!(std::sync::Arc::ptr_eq(&kept, &interner.share(labels(0))));
    }
}
