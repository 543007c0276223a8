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

use super::changes::{Changes, VisibleSince};
use super::hint::Hint;
use super::interner::Interner;
use super::node::Node;
use crate::labels::Labels;
use crate::rows::Kind;

/// The nodes and Running pods. Discovery writes it; the scraper and the store read it.
///
/// Nodes and pods have a read-write lock each. A write inserts one entry into an ordered map, and long reads
/// release the lock every few hundred rows, so neither waits for more than a fraction of a millisecond. Lock order:
/// code that needs this lock and the store's takes this one first.
#[derive(Debug)]
pub struct Directory {
    origin: Instant,
    nodes: RwLock<Nodes>,
    nodes_synced: AtomicBool,
    /// Names of nodes that were added, removed or changed since [`Directory::changed_nodes`] last returned.
    changed: Mutex<BTreeSet<Arc<str>>>,
    change: Notify,
    pods: RwLock<Pods>,
    pods_synced: AtomicBool,
    interner: Mutex<Interner>,
    changes: Changes,
}

/// The nodes, ordered by name.
#[derive(Debug, Default)]
pub struct Nodes {
    by_name: BTreeMap<Arc<str>, NodeEntry>,
    /// Counts the lists. Entries that the last list did not contain are removed.
    list: u32,
}

#[derive(Debug)]
struct NodeEntry {
    node: Arc<Node>,
    list: u32,
    visible: VisibleSince,
}

/// The Running pods, ordered by namespace and name.
#[derive(Debug, Default)]
pub struct Pods {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<Box<str>, Pod>>,
    count: usize,
    list: u32,
}

/// What the directory stores of a Running pod besides namespace and name.
#[derive(Debug)]
pub struct Pod {
    /// The pod's labels.
    pub labels: Arc<Labels>,
    /// When this pod (this UID) was first seen, in [`Directory::now_ms`]; 0 if it was in the initial list.
    pub since_ms: u64,
    /// Since when clients see the pod's row.
    pub visible: VisibleSince,
    /// Where the store last found the pod's samples.
    pub hint: Hint,
    uid: Uid,
    list: u32,
}

/// A UID. A UUID, which all UIDs of Kubernetes are, needs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Uid {
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl Uid {
    fn new(text: &str) -> Self {
        let mut uuid = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut uuid {
            let (Some(high), Some(low)) = (digits.next().and_then(hex), digits.next().and_then(hex)) else {
                return Self::Other(text.into());
            };
            *byte = high << 4 | low;
        }
        if text.len() == 36 && digits.next().is_none() { Self::Uuid(uuid) } else { Self::Other(text.into()) }
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            nodes: RwLock::default(),
            nodes_synced: AtomicBool::new(false),
            changed: Mutex::default(),
            change: Notify::new(),
            pods: RwLock::default(),
            pods_synced: AtomicBool::new(false),
            interner: Mutex::default(),
            changes: Changes::default(),
        }
    }
}

impl Directory {
    /// Returns an empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the milliseconds since the directory was created, by a monotonic clock. It is the time base of
    /// [`Pod::since_ms`] and of the store and starts at 1, so that 0 can mean "always".
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Returns whether the first lists of nodes and pods are complete.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.nodes_synced.load(Ordering::Acquire) && self.pods_synced.load(Ordering::Acquire)
    }

    /// Returns the versions of changes to this directory and to the store.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Marks an object's row hidden and records the removal if clients saw it.
    pub fn hide(&self, kind: Kind, key: (&str, &str), labels: &Labels, visible: &VisibleSince) {
        if visible.mark_hidden() {
            self.changes.record_removal(kind, key, labels, self.now_ms());
        }
    }

    /// Returns the nodes under a read lock; hold it briefly.
    pub fn nodes(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read()
    }

    /// Returns the Running pods under a read lock; hold it briefly.
    pub fn pods(&self) -> RwLockReadGuard<'_, Pods> {
        self.pods.read()
    }

    /// Waits until nodes were added, removed or changed and returns their names. Supports one caller.
    pub async fn changed_nodes(&self) -> BTreeSet<Arc<str>> {
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
                self.hide(Kind::Nodes, ("", &name), &old.labels, &known.visible);
            } else if old.labels != known.node.labels && known.visible.is_visible() {
                self.changes.record_removal(Kind::Nodes, ("", &name), &old.labels, self.now_ms());
            }
        } else {
            let entry = NodeEntry { node: Arc::new(node), list, visible: VisibleSince::default() };
            nodes.by_name.insert(name.clone(), entry);
        }
        drop(nodes);
        self.node_changed(name);
    }

    /// Removes a node.
    pub fn delete_node(&self, name: &str) {
        let mut nodes = self.nodes.write();
        if let Some((name, gone)) = nodes.by_name.remove_entry(name) {
            self.hide(Kind::Nodes, ("", &name), &gone.node.labels, &gone.visible);
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
                self.hide(Kind::Nodes, ("", name), &gone.node.labels, &gone.visible);
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
            if !Arc::ptr_eq(&pod.labels, &labels) && pod.visible.is_visible() {
                self.changes.record_removal(Kind::Pods, (namespace, name), &pod.labels, self.now_ms());
            }
            Some(std::mem::replace(&mut pod.labels, labels))
        } else {
            pods.insert(
                namespace,
                name,
                Pod { labels, since_ms, visible: VisibleSince::default(), hint: Hint::default(), uid, list },
            );
            None
        };
        drop(pods);
        if let Some(labels) = replaced {
            interner.release(labels);
        }
    }

    /// Removes a pod that was deleted or is no longer Running.
    pub fn delete_pod(&self, namespace: &str, name: &str) {
        let mut interner = self.interner.lock();
        let mut pods = self.pods.write();
        if let Some(pod) = pods.remove(namespace, name) {
            self.hide(Kind::Pods, (namespace, name), &pod.labels, &pod.visible);
            drop(pods);
            interner.release(pod.labels);
        }
    }

    /// Completes a list of pods: removes the pods that it did not contain.
    pub fn end_pod_list(&self) {
        let mut interner = self.interner.lock();
        let mut pods = self.pods.write();
        let gone = pods.remove_unlisted(|key, pod| self.hide(Kind::Pods, key, &pod.labels, &pod.visible));
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

impl Nodes {
    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns the node with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|entry| &entry.node)
    }

    /// Returns the node with this name and since when clients see its row.
    #[must_use]
    pub fn get_with_visibility(&self, name: &str) -> Option<(&Arc<Node>, &VisibleSince)> {
        self.by_name.get(name).map(|entry| (&entry.node, &entry.visible))
    }

    /// Iterates over the nodes after the name `after`, in order, with since when clients see their rows.
    pub fn iter_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<Node>, &VisibleSince)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<str, _>((from, Bound::Unbounded)).map(|(_, entry)| (&entry.node, &entry.visible))
    }
}

impl Pods {
    /// Returns the number of pods.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are no pods.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the pod with this namespace and name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// Iterates over the pods of one namespace, or of all, after the key `after`, in order: namespace, name, pod.
    pub fn iter_after<'a>(
        &'a self,
        namespace: Option<&'a str>,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Pod)> {
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

    fn get_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Pod> {
        self.by_namespace.get_mut(namespace)?.get_mut(name)
    }

    fn insert(&mut self, namespace: &str, name: &str, pod: Pod) {
        if !self.by_namespace.contains_key(namespace) {
            self.by_namespace.insert(namespace.into(), BTreeMap::new());
        }
        if let Some(pods) = self.by_namespace.get_mut(namespace)
            && pods.insert(name.into(), pod).is_none()
        {
            self.count += 1;
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Pod> {
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

    fn remove_unlisted(&mut self, leaves: impl Fn((&str, &str), &Pod)) -> Vec<Pod> {
        let list = self.list;
        let mut gone = Vec::new();
        self.by_namespace.retain(|namespace, pods| {
            if pods.values().any(|pod| pod.list != list) {
                let (kept, unlisted): (_, BTreeMap<Box<str>, Pod>) =
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
