//! Where something was found last.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where the store found a pod's samples last. What is there may be another pod's by now, unless the stamp is the same.
#[derive(Debug)]
pub(super) struct LastPlaceCell(AtomicU64);

/// A place in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastPlace {
    /// The slot of a node.
    pub(super) slot: usize,
    /// The row in its layout.
    pub(super) row: usize,
    /// Which of the layouts that the slot had, by a count that begins anew after four billion.
    pub(super) stamp: u32,
}

/// From the low bits: the stamp, the row, the slot.
const STAMP_BITS: u32 = 32;
const ROW_BITS: u32 = 12;
const SLOT_BITS: u32 = 20;
const NONE: u64 = u64::MAX;

impl Default for LastPlaceCell {
    fn default() -> Self {
        Self(AtomicU64::new(NONE))
    }
}

impl LastPlaceCell {
    /// The place to look at first.
    #[must_use]
    pub(super) fn get(&self) -> Option<LastPlace> {
        let hint = self.0.load(Ordering::Relaxed);
        if hint == NONE {
            return None;
        }
        let part = |from: u32, bits: u32| usize::try_from(hint >> from & ((1 << bits) - 1)).ok();
        let (slot, row) = part(STAMP_BITS + ROW_BITS, SLOT_BITS).zip(part(STAMP_BITS, ROW_BITS))?;
        let [.., a, b, c, d] = hint.to_be_bytes();
        Some(LastPlace { slot, row, stamp: u32::from_be_bytes([a, b, c, d]) })
    }

    /// It was here. Not noted beyond a million slots and four thousand rows.
    pub(super) fn set(&self, place: LastPlace) {
        let LastPlace { slot, row, stamp } = place;
        // The last slot is left out as well, for `NONE`.
        if slot < (1 << SLOT_BITS) - 1 && row < 1 << ROW_BITS {
            let hint = ((slot as u64) << ROW_BITS | row as u64) << STAMP_BITS | u64::from(stamp);
            self.0.store(hint, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LastPlace, LastPlaceCell};

    #[test]
    fn keeps_the_last_place() {
        let hint = LastPlaceCell::default();
        assert_eq!(hint.get(), None);
        let place = |slot, row, stamp| LastPlace { slot, row, stamp };
        let last = place((1 << 20) - 2, 4095, u32::MAX);
        for place in [place(0, 0, 0), place(7, 3, 1), place(65_000, 4_000, u32::MAX), last] {
            hint.set(place);
            assert_eq!(hint.get(), Some(place));
        }
        for beyond in [place(1, 1 << 12, 0), place((1 << 20) - 1, 4095, u32::MAX), place(1 << 20, 0, 0)] {
            hint.set(beyond);
            assert_eq!(hint.get(), Some(last));
        }
    }
}
