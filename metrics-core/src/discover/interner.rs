//! One allocation for all equal label sets.

use std::collections::HashSet;
use std::sync::Arc;

use crate::labels::Labels;

/// The label sets in use. Pods of one template mostly have equal ones.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<Labels>>);

impl Interner {
    /// The shared value equal to `labels`.
    pub(super) fn share(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(shared) = self.0.get(&labels) {
            return shared.clone();
        }
        let shared = Arc::new(labels);
        self.0.insert(shared.clone());
        shared
    }

    /// Gives a value back; forgotten when nobody else has it.
    pub(super) fn release(&mut self, labels: Arc<Labels>) {
        // Ours and the one given back.
        if Arc::strong_count(&labels) == 2 {
            self.0.remove(&labels);
        }
        drop(labels);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
