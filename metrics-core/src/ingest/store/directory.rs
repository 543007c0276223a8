//! The store's state of each node and pod in the directory.

use super::location_hint::LocationHint;
use crate::ingest::discover::{self, Observer};
use crate::model::changes::{Changes, VisibleSince};
use crate::model::labels::Labels;
use crate::model::rows::RowKind;

/// The directory with the store's state. Its observer assigns the versions of changes to the directory and the store.
pub type StoreDirectory = discover::Directory<Changes>;

/// A pod with the store's state.
pub(super) type StorePod = discover::Pod<PodState>;

/// The store's state of a pod.
#[derive(Debug, Default)]
pub struct PodState {
    /// The version since which clients see the pod's row.
    pub(super) visible: VisibleSince,
    /// Where the pod's samples were last found.
    pub(super) location_hint: LocationHint,
}

impl Observer for Changes {
    type Node = VisibleSince;
    type Pod = PodState;

    fn node_removed(&self, name: &str, labels: &Labels, visible: &VisibleSince, now_ms: u64) {
        self.hide(RowKind::Nodes, ("", name), labels, visible, || now_ms);
    }

    fn node_relabeled(&self, name: &str, labels: &Labels, visible: &VisibleSince, now_ms: u64) {
        if visible.is_visible() {
            self.record_removal(RowKind::Nodes, ("", name), labels, now_ms);
        }
    }

    fn pod_removed(&self, key: (&str, &str), labels: &Labels, state: &PodState, now_ms: u64) {
        self.hide(RowKind::Pods, key, labels, &state.visible, || now_ms);
    }

    fn pod_relabeled(&self, key: (&str, &str), labels: &Labels, state: &PodState, now_ms: u64) {
        if state.visible.is_visible() {
            self.record_removal(RowKind::Pods, key, labels, now_ms);
        }
    }
}
