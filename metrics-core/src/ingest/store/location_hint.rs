//! A cached location of a pod's samples.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where the store last found a pod's samples. The location may belong to another pod by now unless the layout
/// version is the same.
#[derive(Debug)]
pub(super) struct LocationHint(AtomicU64);

/// A location in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SampleLocation {
    /// The slot of the node.
    pub(super) slot: usize,
    /// The row in the node's layout.
    pub(super) row: usize,
    /// The version of the slot's layout; wraps around after four billion layouts.
    pub(super) layout_version: u32,
}

/// The bits, from the lowest: layout version, row, slot.
const VERSION_BITS: u32 = 32;
const ROW_BITS: u32 = 12;
const SLOT_BITS: u32 = 20;
const NONE: u64 = u64::MAX;

impl Default for LocationHint {
    fn default() -> Self {
        Self(AtomicU64::new(NONE))
    }
}

impl LocationHint {
    /// Returns the last location, if any.
    #[must_use]
    pub(super) fn get(&self) -> Option<SampleLocation> {
        let hint = self.0.load(Ordering::Relaxed);
        if hint == NONE {
            return None;
        }
        let part = |from: u32, bits: u32| usize::try_from(hint >> from & ((1 << bits) - 1)).ok();
        let (slot, row) = part(VERSION_BITS + ROW_BITS, SLOT_BITS).zip(part(VERSION_BITS, ROW_BITS))?;
        let [.., a, b, c, d] = hint.to_be_bytes();
        Some(SampleLocation { slot, row, layout_version: u32::from_be_bytes([a, b, c, d]) })
    }

    /// Stores the location. Slots beyond a million and rows beyond four thousand are not stored.
    pub(super) fn set(&self, location: SampleLocation) {
        let SampleLocation { slot, row, layout_version } = location;
        // The last slot is excluded too: all its bits set would be `NONE`.
        if slot < (1 << SLOT_BITS) - 1 && row < 1 << ROW_BITS {
            let hint = ((slot as u64) << ROW_BITS | row as u64) << VERSION_BITS | u64::from(layout_version);
            self.0.store(hint, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LocationHint, SampleLocation};

    #[test]
    fn keeps_the_last_location_that_fits() {
        let hint = LocationHint::default();
        assert_eq!(hint.get(), None);
        let location = |slot, row, layout_version| SampleLocation { slot, row, layout_version };
        let last = location((1 << 20) - 2, 4095, u32::MAX);
        for location in [location(0, 0, 0), location(7, 3, 1), location(65_000, 4_000, u32::MAX), last] {
            hint.set(location);
            assert_eq!(hint.get(), Some(location));
        }
        for beyond in
            [location(1, 1 << 12, 0), location((1 << 20) - 1, 4095, u32::MAX), location(1 << 20, 0, 0)]
        {
            hint.set(beyond);
            assert_eq!(hint.get(), Some(last));
        }
    }
}
