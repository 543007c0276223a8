//! Where something was found last.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where the store found a pod's samples last: a slot and a row of it. What is there may be another pod's by now.
#[derive(Debug)]
pub struct Hint(AtomicU64);

/// The low bits hold the row, the others the slot.
const ROW_BITS: u32 = 20;
const NONE: u64 = u64::MAX;

impl Default for Hint {
    fn default() -> Self {
        Self(AtomicU64::new(NONE))
    }
}

impl Hint {
    /// The place to look at first, slot and row.
    #[must_use]
    pub fn get(&self) -> Option<(usize, usize)> {
        let hint = self.0.load(Ordering::Relaxed);
        let part = |bits: u64| usize::try_from(bits).ok();
        if hint == NONE { None } else { part(hint >> ROW_BITS).zip(part(hint & ((1 << ROW_BITS) - 1))) }
    }

    /// It was here. Rows beyond a million are not noted.
    pub fn set(&self, slot: usize, row: usize) {
        if row < 1 << ROW_BITS {
            self.0.store((slot as u64) << ROW_BITS | row as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Hint;

    #[test]
    fn keeps_the_last_place() {
        let hint = Hint::default();
        assert_eq!(hint.get(), None);
        for place in [(0, 0), (7, 3), (65_000, 999_999)] {
            hint.set(place.0, place.1);
            assert_eq!(hint.get(), Some(place));
        }
        hint.set(1, 1 << 20);
        assert_eq!(hint.get(), Some((65_000, 999_999)));
    }
}
