//! Who exists: nodes by name, Running pods by namespace and name.

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
use crate::model::labels::Labels;

/// The state that the owner of a [`Directory`] keeps beside each node and pod.
///
/// The directory creates the state with its object and drops it with it. It calls these methods while it holds the
/// lock of the nodes or of the pods: they must be quick and not use the directory.
pub trait Observer: std::fmt::Debug + Send + Sync + 'static {
    /// The state beside a node.
    type Node: std::fmt::Debug + Default + Send + Sync;
    /// The state beside a pod.
    type Pod: std::fmt::Debug + Default + Send + Sync;

    /// A node was deleted, or replaced by another one of the same name, at `now_ms` of [`Directory::now_ms`].
    fn node_removed(&self, name: &str, labels: &Labels, state: &Self::Node, now_ms: u64);

    /// A node got other labels; these are the old ones.
    fn node_relabeled(&self, name: &str, labels: &Labels, state: &Self::Node, now_ms: u64);

    /// A pod was deleted or is no longer Running; `key` is its namespace and name.
    fn pod_removed(&self, key: (&str, &str), labels: &Labels, state: &Self::Pod, now_ms: u64);

    /// A pod got other labels; these are the old ones.
    fn pod_relabeled(&self, key: (&str, &str), labels: &Labels, state: &Self::Pod, now_ms: u64);
}

/// Keeps no state.
impl Observer for () {
    type Node = ();
    type Pod = ();

    fn node_removed(&self, _: &str, _: &Labels, (): &(), _: u64) {}

    fn node_relabeled(&self, _: &str, _: &Labels, (): &(), _: u64) {}

    fn pod_removed(&self, _: (&str, &str), _: &Labels, (): &(), _: u64) {}

    fn pod_relabeled(&self, _: (&str, &str), _: &Labels, (): &(), _: u64) {}
}

/// Shared by discovery, which writes, and the scraper and the store, which read.
///
/// One read-write lock for nodes and one for pods: a write is one insertion in an ordered map, long reads
/// let go of the lock every few hundred rows, and so neither waits for the other for more than a fraction of
/// a millisecond. Who needs both this and the store's lock takes this one first.
#[derive(Debug)]
pub struct Directory<O: Observer> {
    origin: Instant,
    nodes: RwLock<Nodes<O::Node>>,
    nodes_synced: AtomicBool,
    /// Names of nodes that came, went or changed since the last look.
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
    by_name: BTreeMap<Arc<str>, Listed<S>>,
    /// Counts the lists; what the last one did not bring is gone.
    list: u32,
}

#[derive(Debug)]
struct Listed<S> {
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

/// What is known of a Running pod besides namespace and name.
#[derive(Debug)]
pub struct Pod<S> {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Since when this very pod (this UID) is known, [`Directory::now_ms`]; 0 when it was there at start.
    pub since_ms: u64,
    /// The observer's state of it.
    pub state: S,
    uid: Uid,
    list: u32,
}

/// A UID, without an allocation where it is a UUID as all of Kubernetes' are.
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

impl<O: Observer + Default> Default for Directory<O> {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
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
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<O: Observer> Directory<O> {
    /// Milliseconds since the directory was made, by a clock that is never set: the time base of
    /// [`Pod::since_ms`] and of the store. Begins at 1, so that 0 means "always".
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether nodes and pods have been listed whole once.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.nodes_synced.load(Ordering::Acquire) && self.pods_synced.load(Ordering::Acquire)
    }

    /// Who is informed of changes.
    #[must_use]
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// The nodes. Hold it briefly.
    pub fn nodes(&self) -> RwLockReadGuard<'_, Nodes<O::Node>> {
        self.nodes.read()
    }

    /// The Running pods. Hold it briefly.
    pub fn pods(&self) -> RwLockReadGuard<'_, Pods<O::Pod>> {
        self.pods.read()
    }

    /// Waits until nodes came, went or changed, and names them. For one reader.
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

    /// A list of nodes begins.
    pub fn begin_nodes(&self) {
        let mut nodes = self.nodes.write();
        nodes.list = nodes.list.wrapping_add(1);
    }

    /// A node is there, new or changed or not.
    pub fn apply_node(&self, node: Node) {
        let mut nodes = self.nodes.write();
        let list = nodes.list;
        let name = node.name.clone();
        if let Some(known) = nodes.by_name.get_mut(&name) {
            known.list = list;
            // Most updates of a Node are heartbeats.
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
            let listed = Listed { node: Arc::new(node), list, state: O::Node::default() };
            nodes.by_name.insert(name.clone(), listed);
        }
        drop(nodes);
        self.node_changed(name);
    }

    /// A node is gone.
    pub fn delete_node(&self, name: &str) {
        let mut nodes = self.nodes.write();
        if let Some((name, gone)) = nodes.by_name.remove_entry(name) {
            self.observer.node_removed(&name, &gone.node.labels, &gone.state, self.now_ms());
            drop(nodes);
            self.node_changed(name);
        }
    }

    /// A list of nodes is whole: what it did not bring is gone.
    pub fn end_nodes(&self) {
        let mut nodes = self.nodes.write();
        let list = nodes.list;
        let gone: Vec<_> = nodes
            .by_name
            .iter()
            .filter(|(_, listed)| listed.list != list)
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

    /// A list of pods begins.
    pub fn begin_pods(&self) {
        let mut pods = self.pods.write();
        pods.list = pods.list.wrapping_add(1);
    }

    /// A pod is Running.
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

    /// A pod is no longer Running, or gone.
    pub fn delete_pod(&self, namespace: &str, name: &str) {
        let mut interner = self.interner.lock();
        let mut pods = self.pods.write();
        if let Some(pod) = pods.remove(namespace, name) {
            self.observer.pod_removed((namespace, name), &pod.labels, &pod.state, self.now_ms());
            drop(pods);
            interner.release(pod.labels);
        }
    }

    /// A list of pods is whole: what it did not bring is gone.
    pub fn end_pods(&self) {
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
        while let Some(namespace) = self.pods.write().pack_behind(packed.as_deref()) {
            packed = Some(namespace);
        }
        self.pods_synced.store(true, Ordering::Release);
    }
}

impl<S> Nodes<S> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The node of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|listed| &listed.node)
    }

    /// The node of this name, and the observer's state of it.
    #[must_use]
    pub fn get_with_state(&self, name: &str) -> Option<(&Arc<Node>, &S)> {
        self.by_name.get(name).map(|listed| (&listed.node, &listed.state))
    }

    /// The nodes behind `after`, in order, each with the observer's state of it.
    pub fn behind(&self, after: Option<&str>) -> impl Iterator<Item = (&Arc<Node>, &S)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, listed)| (&listed.node, &listed.state))
    }
}

impl<S> Pods<S> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The pod of this namespace and name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Pod<S>> {
        self.by_namespace.get(namespace)?.get(name)
    }

    /// The pods of one namespace, or of all, behind the key `after`, in order: namespace, name, pod.
    pub fn behind<'a>(
        &'a self,
        namespace: Option<&'a str>,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Pod<S>)> {
        // From the later of the two, so that a key of another namespace needs no case of its own.
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

    /// Packs the first namespace behind this one, if there is any. A tree that grew in order, as by a list, is half
    /// empty: its nodes are split when they are full, and only the last one goes on growing.
    fn pack_behind(&mut self, namespace: Option<&str>) -> Option<Arc<str>> {
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
