//! One allocation for all equal label sets.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::labels::Labels;

/// The label sets in use. Pods of one template mostly have equal ones.
#[derive(Debug, Default)]
pub(super) struct Interner {
    shared: HashSet<Arc<Labels>>,
    /// From so many on it is looked for what nobody has any more.
    sweep_at: usize,
}

/// Below this it is not worth looking.
const FEW: usize = 1024;

impl Interner {
    /// The shared value equal to `labels`.
    pub(super) fn share(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(shared) = self.shared.get(&labels) {
            return shared.clone();
        }
        if self.shared.len() >= self.sweep_at.max(FEW) {
            self.shared.retain(|shared| Arc::strong_count(shared) > 1);
            self.sweep_at = self.shared.len() * 2;
        }
        let shared = Arc::new(labels);
        self.shared.insert(shared.clone());
        shared
    }

    /// Gives a value back; forgotten when nobody else has it. A list on its way to a client may have it a while longer:
    /// then it is forgotten some day by [`Self::share`].
    pub(super) fn release(&mut self, labels: Arc<Labels>) {
        // Ours and the one given back.
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
    use super::{FEW, Interner};
    use crate::model::labels::Labels;

    #[test]
    fn forgets_what_was_still_in_use_when_it_was_released() {
        let mut interner = Interner::default();
        let labels = |number: usize| [("n", number.to_string())].into_iter().collect::<Labels>();
        for number in 0..FEW * 10 {
            let shared = interner.share(labels(number));
            let elsewhere = shared.clone();
            interner.release(shared);
            drop(elsewhere);
            assert!(interner.len() <= FEW);
        }
        let kept = interner.share(labels(0));
        assert!(std::sync::Arc::ptr_eq(&kept, &interner.share(labels(0))));
    }
}
