//! The store's state of each node and pod in the directory.

use std::sync::Arc;

use super::location_hint::LocationHint;
use crate::ingest::discover::{self, Observer};
use crate::model::changes::{Changes, Visibility};
use crate::model::labels::Labels;
use crate::model::rows::RowKind;

/// The directory with the store's state. Its observer assigns the versions of changes to the directory and the store.
pub type StoreDirectory = discover::Directory<Changes>;

/// A pod with the store's state.
pub(super) type StorePod = discover::Pod<PodState>;

/// The store's state of a pod.
#[derive(Debug, Default)]
pub struct PodState {
    /// Whether clients see the pod's row.
    pub(super) visible: Visibility,
    /// Where the pod's samples were last found.
    pub(super) location_hint: LocationHint,
}

impl Observer for Changes {
    type Node = Visibility;
    type Pod = PodState;

    fn node_removed(&self, name: &str, labels: &Labels, visible: &Visibility, now_ms: u64) {
        self.hide(RowKind::Nodes, ("", name), || Arc::new(labels.clone()), visible, || now_ms);
    }

    fn node_relabeled(&self, name: &str, labels: (&Labels, &Labels), visible: &Visibility, now_ms: u64) {
        let labels = (Arc::new(labels.0.clone()), Arc::new(labels.1.clone()));
        self.relabel(RowKind::Nodes, ("", name), labels, visible, now_ms);
    }

    fn pod_removed(&self, key: (&str, &str), labels: &Arc<Labels>, state: &PodState, now_ms: u64) {
        self.hide(RowKind::Pods, key, || labels.clone(), &state.visible, || now_ms);
    }

    fn pod_relabeled(
        &self,
        key: (&str, &str),
        labels: (&Arc<Labels>, &Arc<Labels>),
        state: &PodState,
        now_ms: u64,
    ) {
        let labels = (labels.0.clone(), labels.1.clone());
        self.relabel(RowKind::Pods, key, labels, &state.visible, now_ms);
    }
}
