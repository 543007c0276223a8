//! The idle connections of one kind, by source and age.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::source::Source;

/// When a connection became idle, as a number that increases.
pub(super) type Since = u64;

/// The idle connections. All operations take logarithmic time, as a flood makes one of each for every connection.
#[derive(Default)]
pub(super) struct IdleQueue {
    by_age: BTreeMap<Since, (u64, Source)>,
    by_source: BTreeSet<(Source, Since)>,
    counts: HashMap<Source, usize>,
    ranking: BTreeSet<(usize, Source)>,
}

impl IdleQueue {
    /// Adds the connection `id`.
    pub(super) fn insert(&mut self, source: Source, since: Since, id: u64) {
        self.by_age.insert(since, (id, source));
        self.by_source.insert((source, since));
        self.change_count(source, |count| count + 1);
    }

    /// Removes the connection that was added with `since`.
    pub(super) fn remove(&mut self, source: Source, since: Since) {
        if self.by_age.remove(&since).is_some() {
            self.by_source.remove(&(source, since));
            self.change_count(source, |count| count - 1);
        }
    }

    /// Returns the sources with more than `free` connections, the one with most first.
    pub(super) fn largest(&self, free: usize) -> impl Iterator<Item = Source> {
        self.ranking.iter().rev().take_while(move |(count, _)| *count > free).map(|(_, source)| *source)
    }

    /// Returns the connection of `source` that is idle for longest.
    pub(super) fn oldest_of(&self, source: Source) -> Option<u64> {
        let (_, since) = self.by_source.range((source, Since::MIN)..=(source, Since::MAX)).next()?;
        self.by_age.get(since).map(|(id, _)| *id)
    }

    /// Returns all connections with their sources, the one that is idle for longest first.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (u64, Source)> {
        self.by_age.values().copied()
    }

    fn change_count(&mut self, source: Source, change: impl FnOnce(usize) -> usize) {
        let before = self.counts.get(&source).copied().unwrap_or(0);
        let count = change(before);
        self.ranking.remove(&(before, source));
        if count == 0 {
            self.counts.remove(&source);
        } else {
            self.counts.insert(source, count);
            self.ranking.insert((count, source));
        }
    }
}
