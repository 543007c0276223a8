//! An index from a pod's name to the location of its samples.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::layout::NodeLayout;

/// Maps the hash of (namespace, name) to locations. It stores no names; the layouts do.
///
/// A pod may have several entries, for example when a pod of a `StatefulSet` moves and its old node still reports
/// it.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashTable<IndexEntry>,
    /// The number of entries whose hash another entry has, too.
    repeated: usize,
    hasher: DefaultHashBuilder,
}

/// A row of a node's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    hash: u64,
    pub(super) slot: u32,
    pub(super) row: u32,
}

impl IndexEntry {
    /// Returns slot and row.
    pub(super) fn location(self) -> (usize, usize) {
        (self.slot as usize, self.row as usize)
    }
}

impl Index {
    /// Adds the pods of a layout that is now in `slot`.
    pub(super) fn insert(&mut self, slot: u32, layout: &NodeLayout) {
        for row in 0..layout.pods() {
            let entry = self.entry(slot, row, layout);
            let known = self.candidates_of(entry.hash).next().is_some();
            self.repeated += usize::from(known);
            self.entries.insert_unique(entry.hash, entry, |entry| entry.hash);
        }
    }

    /// Removes what [`Self::insert`] added.
    pub(super) fn remove(&mut self, slot: u32, layout: &NodeLayout) {
        for row in 0..layout.pods() {
            let entry = self.entry(slot, row, layout);
            if let Ok(found) = self.entries.find_entry(entry.hash, |candidate| *candidate == entry) {
                found.remove();
                let others = self.candidates_of(entry.hash).next().is_some();
                self.repeated -= usize::from(others);
            }
        }
    }

    /// Returns whether no two entries share a hash, so that no pod can have two locations.
    pub(super) fn is_unambiguous(&self) -> bool {
        self.repeated == 0
    }

    /// Returns the possible locations of a pod with this name. The hash matches; the caller compares the names.
    pub(super) fn candidates(&self, namespace: &str, name: &str) -> impl Iterator<Item = IndexEntry> {
        self.candidates_of(self.hash(namespace, name))
    }

    /// Returns the hash of a pod's namespace and name.
    pub(super) fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    /// Returns the same as [`Self::candidates`], by the hash.
    pub(super) fn candidates_of(&self, hash: u64) -> impl Iterator<Item = IndexEntry> {
        self.entries.iter_hash(hash).copied().filter(move |entry| entry.hash == hash)
    }

    fn entry(&self, slot: u32, row: usize, layout: &NodeLayout) -> IndexEntry {
        let hash = self.hasher.hash_one(layout.pod(row));
        IndexEntry { hash, slot, row: u32::try_from(row).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
impl Index {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
