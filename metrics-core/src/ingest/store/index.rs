//! Where the samples of a pod are.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::layout::Layout;

/// From the hash of (namespace, name) to where the pod is. Holds no names: the layouts do.
///
/// A pod may be in several places, as when one of a `StatefulSet` moves and its old node still reports it.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<Place>,
    /// How many places have the hash of another one.
    repeated: usize,
    hasher: DefaultHashBuilder,
}

/// A row of a node's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    hash: u64,
    pub(super) slot: u32,
    pub(super) row: u32,
}

impl Place {
    /// Slot and row.
    pub(super) fn at(self) -> (usize, usize) {
        (self.slot as usize, self.row as usize)
    }
}

impl Index {
    /// Adds the pods of a layout that is now in `slot`.
    pub(super) fn insert(&mut self, slot: u32, layout: &Layout) {
        for row in 0..layout.pods() {
            let place = self.place(slot, row, layout);
            let known = self.candidates_of(place.hash).next().is_some();
            self.repeated += usize::from(known);
            self.places.insert_unique(place.hash, place, |place| place.hash);
        }
    }

    /// Takes out what [`Self::insert`] added.
    pub(super) fn remove(&mut self, slot: u32, layout: &Layout) {
        for row in 0..layout.pods() {
            let place = self.place(slot, row, layout);
            if let Ok(entry) = self.places.find_entry(place.hash, |candidate| *candidate == place) {
                entry.remove();
                let others = self.candidates_of(place.hash).next().is_some();
                self.repeated -= usize::from(others);
            }
        }
    }

    /// Whether a pod that is in one place is in no other, whichever it is.
    pub(super) fn is_unambiguous(&self) -> bool {
        self.repeated == 0
    }

    /// Places where a pod of this name may be: the hash agrees, the name is for the caller to compare.
    pub(super) fn candidates(&self, namespace: &str, name: &str) -> impl Iterator<Item = Place> {
        self.candidates_of(self.hash(namespace, name))
    }

    /// The hash of a pod's names.
    pub(super) fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// The same as [`Self::candidates`], by the hash.
    pub(super) fn candidates_of(&self, hash: u64) -> impl Iterator<Item = Place> {
        self.places.iter_hash(hash).copied().filter(move |place| place.hash == hash)
    }

    fn place(&self, slot: u32, row: usize, layout: &Layout) -> Place {
        let hash = self.hasher.hash_one(layout.pod(row));
        Place { hash, slot, row: u32::try_from(row).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
