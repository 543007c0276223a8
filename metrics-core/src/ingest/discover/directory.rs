//! The directory of what exists: nodes by name, Running pods by namespace and name.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

use super::interner::Interner;
use super::node::Node;
use super::observer::Observer;
use super::uid::Uid;
use crate::model::labels::Labels;

/// The nodes and Running pods. Discovery writes it; the scraper and the store read it.
///
/// Nodes and pods have a read-write lock each. A write inserts one entry into an ordered map, and long reads
/// release the lock every few hundred rows, so neither waits for more than a fraction of a millisecond. Lock order:
/// code that needs this lock and the store's takes this one first.
#[derive(Debug)]
pub struct Directory<O: Observer> {
    origin: Instant,
    /// How far tests moved the clock forward.
    #[cfg(test)]
    skipped_ms: std::sync::atomic::AtomicU64,
    #[cfg(test)]
    stopped: AtomicBool,
    nodes: RwLock<Nodes<O::Node>>,
    nodes_synced: AtomicBool,
    /// Names of nodes that were added, removed or changed since [`Directory::changed_nodes`] last returned.
    changed: Mutex<BTreeSet<Arc<str>>>,
    change: Notify,
    pods: RwLock<Pods<O::Pod>>,
    pods_synced: AtomicBool,
    interner: Mutex<Interner>,
    observer: O,
}

/// The nodes, ordered by name.
#[derive(Debug)]
pub struct Nodes<S> {
    by_name: BTreeMap<Arc<str>, NodeEntry<S>>,
    /// Counts the lists. Entries that the last list did not contain are removed.
    list: u32,
}

#[derive(Debug)]
struct NodeEntry<S> {
    node: Arc<Node>,
    list: u32,
    state: S,
}

/// The Running pods, ordered by namespace and name.
#[derive(Debug)]
pub struct Pods<S> {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<Box<str>, Pod<S>>>,
    count: usize,
    list: u32,
}

/// What the directory stores of a Running pod besides namespace and name.
#[derive(Debug)]
pub struct Pod<S> {
    /// The pod's labels.
    pub(crate) labels: Arc<Labels>,
    /// When this pod (this UID) was first seen, in [`Directory::now_ms`]; 0 if it was in the initial list.
    pub(crate) since_ms: u64,
    /// The observer's state of the pod.
    pub(crate) state: S,
    uid: Uid,
    list: u32,
}

impl<O: Observer + Default> Default for Directory<O> {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            #[cfg(test)]
            skipped_ms: std::sync::atomic::AtomicU64::new(0),
            #[cfg(test)]
            stopped: AtomicBool::new(false),
            nodes: RwLock::new(Nodes { by_name: BTreeMap::new(), list: 0 }),
            nodes_synced: AtomicBool::new(false),
            changed: Mutex::default(),
            change: Notify::new(),
            pods: RwLock::new(Pods { by_namespace: BTreeMap::new(), count: 0, list: 0 }),
            pods_synced: AtomicBool::new(false),
            interner: Mutex::default(),
            observer: O::default(),
        }
    }
}

impl<O: Observer + Default> Directory<O> {
    /// Returns an empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<O: Observer> Directory<O> {
    /// Returns the milliseconds since the directory was created, by a monotonic clock. It is the time base of
    /// [`Pod::since_ms`] and of the store and starts at 1, so that 0 can mean "always".
    #[must_use]
    pub(crate) fn now_ms(&self) -> u64 {
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        #[cfg(test)]
        let now_ms = if self.stopped.load(Ordering::Relaxed) { 1 } else { now_ms }
            + self.skipped_ms.load(Ordering::Relaxed);
        now_ms
    }

    /// Stops the clock: only [`Self::skip`] moves it, however slow the machine is.
    #[cfg(test)]
    pub(crate) fn stop_clock(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Moves the clock forward.
    #[cfg(test)]
    pub(crate) fn skip(&self, time: std::time::Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.skipped_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Returns whether the first lists of nodes and pods are complete.
    #[must_use]
    pub(crate) fn synced(&self) -> bool {
        self.nodes_synced.load(Ordering::Acquire) && self.pods_synced.load(Ordering::Acquire)
    }

    /// Returns the observer.
    #[must_use]
    pub(crate) fn observer(&self) -> &O {
        &self.observer
    }

    /// Returns the nodes under a read lock; hold it briefly.
    pub fn nodes(&self) -> RwLockReadGuard<'_, Nodes<O::Node>> {
        self.nodes.read()
    }

    /// Returns the Running pods under a read lock; hold it briefly.
    pub(crate) fn pods(&self) -> RwLockReadGuard<'_, Pods<O::Pod>> {
        self.pods.read()
    }

    /// Waits until nodes were added, removed or changed and returns their names. Supports one caller.
    pub(crate) async fn changed_nodes(&self) -> BTreeSet<Arc<str>> {
        loop {
            let change = self.change.notified();
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            change.await;
        }
    }

    fn node_changed(&self, name: Arc<str>) {
        self.changed.lock().insert(name);
        self.change.notify_one();
    }

    /// Starts a list of nodes.
    pub fn begin_node_list(&self) {
        let mut nodes = self.nodes.write();
        nodes.list = nodes.list.wrapping_add(1);
    }

    /// Adds or updates a node.
    pub fn apply_node(&self, node: Node) {
        let mut nodes = self.nodes.write();
        let list = nodes.list;
        let name = node.name.clone();
        if let Some(known) = nodes.by_name.get_mut(&name) {
            known.list = list;
            // Most updates of a Node are heartbeats, which change nothing here.
            if *known.node == node {
                return;
            }
            let old = std::mem::replace(&mut known.node, Arc::new(node));
            if old.uid != known.node.uid {
                self.observer.node_removed(&name, &old.labels, &known.state, self.now_ms());
            } else if old.labels != known.node.labels {
                self.observer.node_relabeled(&name, &old.labels, &known.state, self.now_ms());
            }
        } else {
            let entry = NodeEntry { node: Arc::new(node), list, state: O::Node::default() };
            nodes.by_name.insert(name.clone(), entry);
        }
        drop(nodes);
        self.node_changed(name);
    }

    /// Removes a node.
    pub(crate) fn delete_node(&self, name: &str) {
        let mut nodes = self.nodes.write();
        if let Some((name, gone)) = nodes.by_name.remove_entry(name) {
            self.observer.node_removed(&name, &gone.node.labels, &gone.state, self.now_ms());
            drop(nodes);
            self.node_changed(name);
        }
    }

    /// Completes a list of nodes: removes the nodes that it did not contain.
    pub fn end_node_list(&self) {
        let mut nodes = self.nodes.write();
        let list = nodes.list;
        let gone: Vec<_> = nodes
            .by_name
            .iter()
            .filter(|(_, entry)| entry.list != list)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            if let Some(gone) = nodes.by_name.remove(name) {
                self.observer.node_removed(name, &gone.node.labels, &gone.state, self.now_ms());
            }
        }
        drop(nodes);
        for name in gone {
            self.node_changed(name);
        }
        self.nodes_synced.store(true, Ordering::Release);
    }

    /// Starts a list of pods.
    pub fn begin_pod_list(&self) {
        let mut pods = self.pods.write();
        pods.list = pods.list.wrapping_add(1);
    }

    /// Adds or updates a Running pod.
    pub fn apply_pod(&self, namespace: &str, name: &str, uid: &str, labels: Labels) {
        let uid = Uid::new(uid);
        let since_ms = if self.pods_synced.load(Ordering::Acquire) { self.now_ms() } else { 0 };
        let mut interner = self.interner.lock();
        let labels = interner.share(labels);
        let mut pods = self.pods.write();
        let list = pods.list;
        let replaced = if let Some(pod) = pods.get_mut(namespace, name) {
            pod.list = list;
            if pod.uid != uid {
                (pod.uid, pod.since_ms) = (uid, self.now_ms());
            }
            if !Arc::ptr_eq(&pod.labels, &labels) {
                self.observer.pod_relabeled((namespace, name), &pod.labels, &pod.state, self.now_ms());
            }
            Some(std::mem::replace(&mut pod.labels, labels))
        } else {
            pods.insert(namespace, name, Pod { labels, since_ms, state: O::Pod::default(), uid, list });
            None
        };
        drop(pods);
        if let Some(labels) = replaced {
            interner.release(labels);
        }
    }

    /// Removes a pod that was deleted or is no longer Running.
    pub(crate) fn delete_pod(&self, namespace: &str, name: &str) {
        let mut interner = self.interner.lock();
        let mut pods = self.pods.write();
        if let Some(pod) = pods.remove(namespace, name) {
            self.observer.pod_removed((namespace, name), &pod.labels, &pod.state, self.now_ms());
            drop(pods);
            interner.release(pod.labels);
        }
    }

    /// Completes a list of pods: removes the pods that it did not contain.
    pub fn end_pod_list(&self) {
        let mut interner = self.interner.lock();
        let mut pods = self.pods.write();
        let gone = pods.remove_unlisted(|key, pod| {
            self.observer.pod_removed(key, &pod.labels, &pod.state, self.now_ms());
        });
        drop(pods);
        for pod in gone {
            interner.release(pod.labels);
        }
        drop(interner);
        let mut packed = None;
        while let Some(namespace) = self.pods.write().pack_after(packed.as_deref()) {
            packed = Some(namespace);
        }
        self.pods_synced.store(true, Ordering::Release);
    }
}

impl<S> Nodes<S> {
    /// Returns the number of nodes.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns the node with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|entry| &entry.node)
    }

    /// Returns the node with this name and the observer's state of it.
    #[must_use]
    pub(crate) fn get_with_state(&self, name: &str) -> Option<(&Arc<Node>, &S)> {
        self.by_name.get(name).map(|entry| (&entry.node, &entry.state))
    }

    /// Iterates over the nodes after the name `after`, in order, with the observer's state of them.
    pub(crate) fn iter_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<Node>, &S)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<str, _>((from, Bound::Unbounded)).map(|(_, entry)| (&entry.node, &entry.state))
    }
}

impl<S> Pods<S> {
    /// Returns the number of pods.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Returns the pod with this namespace and name.
    #[must_use]
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Pod<S>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// Iterates over the pods of one namespace, or of all, after the key `after`, in order: namespace, name, pod.
    pub(crate) fn iter_after<'a>(
        &'a self,
        namespace: Option<&'a str>,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Pod<S>)> {
        // Starts at the later of the two, so that a key of another namespace needs no special case.
        let first = namespace.into_iter().chain(after.map(|(namespace, _)| namespace)).max();
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let last = namespace.map_or(Bound::Unbounded, Bound::Included);
        let empty = matches!((first, namespace), (Some(first), Some(last)) if first > last);
        let range = (!empty).then(|| self.by_namespace.range::<str, _>((from, last)));
        range.into_iter().flatten().flat_map(move |(namespace, pods)| {
            let behind = match after {
                Some((after_namespace, name)) if after_namespace == &**namespace => Bound::Excluded(name),
                _ => Bound::Unbounded,
            };
            pods.range::<str, _>((behind, Bound::Unbounded))
                .map(move |(name, pod)| (&**namespace, &**name, pod))
        })
    }

    fn get_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Pod<S>> {
        self.by_namespace.get_mut(namespace)?.get_mut(name)
    }

    fn insert(&mut self, namespace: &str, name: &str, pod: Pod<S>) {
        if !self.by_namespace.contains_key(namespace) {
            self.by_namespace.insert(namespace.into(), BTreeMap::new());
        }
        if let Some(pods) = self.by_namespace.get_mut(namespace)
            && pods.insert(name.into(), pod).is_none()
        {
            self.count += 1;
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Pod<S>> {
        let pods = self.by_namespace.get_mut(namespace)?;
        let pod = pods.remove(name)?;
        if pods.is_empty() {
            self.by_namespace.remove(namespace);
        }
        self.count -= 1;
        Some(pod)
    }

    /// Rebuilds the map of the first namespace after this one, if any, and returns its name. A B-tree that was
    /// filled in order, as by a list, is half empty: full nodes are split in halves and only the last one is filled
    /// further.
    fn pack_after(&mut self, namespace: Option<&str>) -> Option<Arc<str>> {
        let from = namespace.map_or(Bound::Unbounded, Bound::Excluded);
        let (namespace, pods) = self.by_namespace.range_mut::<str, _>((from, Bound::Unbounded)).next()?;
        *pods = std::mem::take(pods).into_iter().collect();
        Some(namespace.clone())
    }

    fn remove_unlisted(&mut self, leaves: impl Fn((&str, &str), &Pod<S>)) -> Vec<Pod<S>> {
        let list = self.list;
        let mut gone = Vec::new();
        self.by_namespace.retain(|namespace, pods| {
            if pods.values().any(|pod| pod.list != list) {
                let (kept, unlisted): (_, BTreeMap<Box<str>, Pod<S>>) =
                    std::mem::take(pods).into_iter().partition(|(_, pod)| pod.list == list);
                *pods = kept;
                for (name, pod) in &unlisted {
                    leaves((namespace, name), pod);
                }
                gone.extend(BTreeMap::into_values(unlisted));
            }
            !pods.is_empty()
        });
        self.count -= gone.len();
        gone
    }
}
