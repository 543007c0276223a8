//! What the store hands to the server: rows of usage, borrowed, in the order of the API.
//!
//! This is the seam between the two halves of metrics-core. Everything before it (discover, scrape,
//! decode, store) knows nothing of HTTP; everything after it (serve) knows nothing of kubelets.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::model::labels::Labels;

/// Resource usage at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time per second of wall time over the row's window, in nanocores.
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
    /// The change that brought the newer sample.
    pub version: u64,
    /// When the newer of the two samples was taken, nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The time between the two samples, nanoseconds.
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
    /// The change that brought the newer sample.
    pub version: u64,
    /// When the newer sample of its earliest container was taken, nanoseconds since the Unix epoch.
    pub timestamp_ns: i64,
    /// The time between the two samples of that container, nanoseconds.
    pub window_ns: i64,
    /// The containers, ordered by name.
    pub containers: &'a [ContainerRow<'a>],
}

/// What a list does with an object, by its names and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Visit its row, if there is one.
    Take,
    /// Leave it out; its row is not looked up.
    Skip,
    /// The list ends before it.
    End,
}

/// What is known of an object asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The row was visited.
    Found,
    /// The Node or running Pod exists, but there is no rate for it (yet).
    Unmeasured,
    /// No such Node or running Pod.
    Absent,
}

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those of nodes.
    Nodes,
    /// Those of pods.
    Pods,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A node has a new sample.
    Node {
        /// The row.
        row: &'a NodeRow<'a>,
        /// Whether it has a row at all only since this change.
        new: bool,
    },
    /// A pod has a new sample.
    Pod {
        /// The row.
        row: &'a PodRow<'a>,
        /// Whether it has a row at all only since this change.
        new: bool,
    },
    /// An object has no row any more, or other labels: look at what it has now, if anything.
    Left {
        /// Its namespace; empty for nodes.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// The labels it had.
        labels: &'a Labels,
    },
}

/// How far a look at the changes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// All changes before this version have been visited.
    pub until: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// A version from which changes can't be told any more, or that was never given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

/// Read access to the newest rows.
///
/// Lists visit in key order (nodes by name; pods by namespace, then name) and start behind a key, so
/// that a long answer can be produced in batches without holding a lock in between, and a `continue`
/// token can be a key. Objects without a rate are left out. A visitor must not block, nor read rows.
///
/// Versions count changes. Whoever read rows after taking [`Rows::version`] and then follows [`Rows::next_change`]
/// from there knows what all later reads show.
pub trait Rows: Send + Sync + 'static {
    /// Visits the node of this name.
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup;

    /// Visits the nodes behind `after` that `pick` takes, until the visitor breaks. `pick` is asked of each in order.
    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    );

    /// Visits the pod of this namespace and name.
    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup;

    /// Visits the pods of one namespace, or of all, behind the key `after` (namespace, name) that `pick` takes, until
    /// the visitor breaks. `pick` is asked of each in order, of some before those that it took are visited.
    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    );

    /// Reads the same rows in a way that they can be read again as they were.
    fn keeper(self: Arc<Self>) -> Box<dyn Keeper>;

    /// Visits what a node that left was last, under the labels that it had; not at all where that is forgotten.
    fn left_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>));

    /// Visits what a pod that left was last, under the labels that it had; not at all where that is forgotten.
    fn left_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>));

    /// The version that the next change will have.
    fn version(&self) -> u64;

    /// Visits what changed at the first version at or behind `from` that changed anything of this kind. A row that
    /// changed several times is visited at its last version only.
    fn next_change(
        &self,
        kind: Kind,
        from: u64,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired>;
}

/// Rows that are read twice: for an encoding that says how long a list is before its content. Costs some bytes a row,
/// and what it read last is not freed before it.
pub trait Keeper: Send {
    /// The same as [`Rows::nodes`]. What is visited is kept, the row included at which the visitor breaks.
    fn nodes(
        &mut self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    );

    /// The same as [`Rows::pods`]. What is visited is kept, the row included at which the visitor breaks.
    fn pods(
        &mut self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    );

    /// Visits the nodes that were kept, in order, until the visitor breaks; the next call goes on behind that.
    fn nodes_again(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>);

    /// Visits the pods that were kept, in order, until the visitor breaks; the next call goes on behind that.
    fn pods_again(&mut self, visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>);
}
