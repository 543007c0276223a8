//! Rows of resource usage: the interface between the store, which implements [`Rows`], and the Metrics API, which reads
//! through it.
//!
//! Rows are borrowed from the store and visited in the order of the API. Code that ingests samples (discover, scrape,
//! decode, store) does not depend on HTTP; code that serves them does not depend on kubelets.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::labels::Labels;

/// Resource usage at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU usage averaged over the row's window, in nanocores.
    pub cpu_nanocores: u64,
    /// Working set in bytes.
    pub memory_bytes: u64,
    /// Swap in use in bytes; `None` where the kubelet does not report it.
    pub swap_bytes: Option<u64>,
}

/// The usage of one node.
#[derive(Clone, Copy, Debug)]
pub struct NodeRow<'a> {
    /// The Node's name.
    pub name: &'a str,
    /// The Node's labels.
    pub labels: &'a Labels,
    /// The resource version: the number of the change that stored the newer sample.
    pub version: u64,
    /// The time of the newer of the two samples, in nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The time between the two samples, in nanoseconds.
    pub window_ns: i64,
    /// The usage.
    pub usage: Usage,
}

/// The usage of one container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerRow<'a> {
    /// The container's name, unique within its pod.
    pub name: &'a str,
    /// The usage.
    pub usage: Usage,
}

/// The usage of one pod.
#[derive(Clone, Copy, Debug)]
pub struct PodRow<'a> {
    /// The Pod's namespace.
    pub namespace: &'a str,
    /// The Pod's name.
    pub name: &'a str,
    /// The Pod's labels.
    pub labels: &'a Labels,
    /// The resource version: the number of the change that stored the newer sample.
    pub version: u64,
    /// The time of the newer sample of the container that was sampled earliest, in nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The time between the two samples of that container, in nanoseconds.
    pub window_ns: i64,
    /// The containers, ordered by name.
    pub containers: &'a [ContainerRow<'a>],
}

/// What a list does with an object, decided from its key and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Visits its row, if it has one.
    Take,
    /// Skips it without reading its row.
    Skip,
    /// Ends the list before it.
    End,
}

/// The result of reading one object by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The row was visited.
    Found,
    /// The Node or running Pod exists, but has no rate (yet).
    Unmeasured,
    /// There is no such Node or running Pod.
    Absent,
}

/// The kind of object that a row describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Nodes.
    Nodes,
    /// Pods.
    Pods,
}

/// The changes that a reader follows.
#[derive(Clone, Copy, Debug)]
pub struct ChangeQuery<'a> {
    /// The kind of the objects.
    pub kind: RowKind,
    /// One namespace, or all.
    pub namespace: Option<&'a str>,
    /// One name, or all.
    pub name: Option<&'a str>,
    /// The first version that the reader has not visited.
    pub from: u64,
    /// Objects that appeared at this version or later are new to the reader: it had all objects before. At most `from`.
    pub new_from: u64,
    /// The reader has no object that appeared at this version or later, unless it was visited by these queries. It is
    /// later than `new_from` for a client that resumes after one of several changes of a version.
    pub unknown_from: u64,
}

impl ChangeQuery<'_> {
    /// Returns whether namespace and name are selected.
    #[must_use]
    pub fn selects(&self, (namespace, name): (&str, &str)) -> bool {
        self.namespace.is_none_or(|selected| selected == namespace)
            && self.name.is_none_or(|selected| selected == name)
    }
}

/// A change of an object: a new sample, other labels, or its end.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A node has a new sample or other labels.
    Node {
        /// The row, with the labels as of its version.
        row: &'a NodeRow<'a>,
        /// The labels before the change; `None` if the object is new.
        before: Option<&'a Labels>,
    },
    /// A pod has a new sample, other labels, or its samples come from another node.
    Pod {
        /// The row, with the labels as of its version.
        row: &'a PodRow<'a>,
        /// The labels before the change; `None` if the object is new.
        before: Option<&'a Labels>,
    },
    /// An object no longer exists or no longer has a row.
    Removed {
        /// Its namespace; empty for nodes.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// The labels that it had before the change.
        labels: &'a Labels,
    },
}

/// How many changes a call of [`Rows::next_change`] covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The version up to which all changes have been visited, itself excluded.
    pub until: u64,
    /// Whether there may be further changes.
    pub more: bool,
}

/// The version is too old to list the changes since then, or was never issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// Read access to the newest rows.
///
/// Lists visit objects in key order (nodes by name; pods by namespace, then name). They can start after a key, so
/// that a long response is built in batches without holding a lock between them, and so that a `continue` token can
/// be a key. Objects without a rate are skipped. A visitor must not block, nor read rows.
///
/// Versions count changes. A reader that takes [`Rows::version`] before it reads rows, and then follows
/// [`Rows::next_change`] from that version, misses no change.
pub trait Rows: Send + Sync + 'static {
    /// Visits the row of one node.
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup;

    /// Visits the nodes after `after` that `pick` takes, until the visitor breaks. Calls `pick` for each node, in
    /// order.
    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    );

    /// Visits the row of one pod.
    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup;

    /// Visits the pods of one namespace, or of all, after the key `after` (namespace, name) that `pick` takes, until
    /// the visitor breaks. Calls `pick` for each pod, in order, for several pods before it visits those that were
    /// taken.
    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    );

    /// Returns a reader that can visit the rows that it has read a second time, unchanged.
    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader>;

    /// Visits the last known row of a removed node, with the labels given; visits nothing if that row is no longer
    /// stored.
    fn last_known_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>));

    /// Visits the last known row of a removed pod, with the labels given; visits nothing if that row is no longer
    /// stored.
    fn last_known_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>));

    /// Returns the version that the next change will have.
    fn version(&self) -> u64;

    /// Visits the changes of the first version, `from` or later, that changed a selected object. A row that changed
    /// several times is visited at its newest version only. `pick` selects by the labels before or after a change; an
    /// object that is not selected costs no read of its row.
    ///
    /// # Errors
    /// [`Expired`] if the changes since `from` are no longer known.
    fn next_change(
        &self,
        query: ChangeQuery<'_>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> bool,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired>;
}

/// Reads rows in a first pass and replays the same rows, unchanged, in a second one.
///
/// Protobuf needs this: it states the length of a list before its content. Costs some bytes a row, and keeps the
/// samples that were read in memory until the reader is dropped.
pub trait TwoPassReader: Send {
    /// Like [`Rows::nodes`]. Records what is visited, including the row at which the visitor breaks.
    fn nodes(
        &mut self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    );

    /// Like [`Rows::pods`]. Records what is visited, including the row at which the visitor breaks.
    fn pods(
        &mut self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    );

    /// Returns how much memory the recorded rows take at most, in bytes, while the store replaces what they share.
    fn kept_bytes(&self) -> usize;

    /// Visits the recorded nodes, in order, until the visitor breaks; the next call continues after that node.
    fn replay_nodes(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>);

    /// Visits the recorded pods, in order, until the visitor breaks; the next call continues after that pod.
    fn replay_pods(&mut self, visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>);
}
