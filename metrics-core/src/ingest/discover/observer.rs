//! The interface of the directory to the owner of its objects' state.

use std::sync::Arc;

use crate::model::labels::Labels;

/// The state that the owner of a [`Directory`](super::Directory) keeps beside each node and pod.
///
/// The directory creates the state with its object and drops it with it. It calls these methods while it holds the
/// lock of the nodes or of the pods: they must be quick and not use the directory.
pub trait Observer: std::fmt::Debug + Send + Sync + 'static {
    /// The state beside a node.
    type Node: std::fmt::Debug + Default + Send + Sync;
    /// The state beside a pod.
    type Pod: std::fmt::Debug + Default + Send + Sync;

    /// Called when a node was deleted or recreated under its name, at `now_ms` of [`Directory::now_ms`](super::Directory::now_ms).
    fn node_removed(&self, name: &str, labels: &Labels, state: &Self::Node, now_ms: u64);

    /// Called when the labels of a node changed, with the old and the new ones.
    fn node_relabeled(&self, name: &str, labels: (&Labels, &Labels), state: &Self::Node, now_ms: u64);

    /// Called when a pod was deleted or is no longer Running; `key` is its namespace and name.
    fn pod_removed(&self, key: (&str, &str), labels: &Arc<Labels>, state: &Self::Pod, now_ms: u64);

    /// Called when the labels of a pod changed, with the old and the new ones.
    fn pod_relabeled(
        &self,
        key: (&str, &str),
        labels: (&Arc<Labels>, &Arc<Labels>),
        state: &Self::Pod,
        now_ms: u64,
    );
}

/// Keeps no state.
impl Observer for () {
    type Node = ();
    type Pod = ();

    fn node_removed(&self, _: &str, _: &Labels, (): &(), _: u64) {}

    fn node_relabeled(&self, _: &str, _: (&Labels, &Labels), (): &(), _: u64) {}

    fn pod_removed(&self, _: (&str, &str), _: &Arc<Labels>, (): &(), _: u64) {}

    fn pod_relabeled(&self, _: (&str, &str), _: (&Arc<Labels>, &Arc<Labels>), (): &(), _: u64) {}
}
