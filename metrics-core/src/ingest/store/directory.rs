//! The store's state beside each node and pod of the directory.

use super::last_place::LastPlaceCell;
use crate::ingest::discover::{self, Observer};
use crate::model::changes::{Changes, Shown};
use crate::model::labels::Labels;
use crate::model::rows::RowKind;

/// The directory with the store's state. The order of changes is that of the directory and of the store.
pub type Directory = discover::Directory<Changes>;

/// A pod with the store's state.
pub(super) type Pod = discover::Pod<PodState>;

/// The store's state of a pod.
#[derive(Debug, Default)]
pub struct PodState {
    /// Since which change clients have been shown its row.
    pub(super) shown: Shown,
    /// Where its samples were found last.
    pub(super) last_place: LastPlaceCell,
}

impl Observer for Changes {
    type Node = Shown;
    type Pod = PodState;

    fn node_removed(&self, name: &str, labels: &Labels, shown: &Shown, now_ms: u64) {
        self.hide(RowKind::Nodes, ("", name), labels, shown, || now_ms);
    }

    fn node_relabeled(&self, name: &str, labels: &Labels, shown: &Shown, now_ms: u64) {
        if shown.is_shown() {
            self.depart(RowKind::Nodes, ("", name), labels, now_ms);
        }
    }

    fn pod_removed(&self, key: (&str, &str), labels: &Labels, state: &PodState, now_ms: u64) {
        self.hide(RowKind::Pods, key, labels, &state.shown, || now_ms);
    }

    fn pod_relabeled(&self, key: (&str, &str), labels: &Labels, state: &PodState, now_ms: u64) {
        if state.shown.is_shown() {
            self.depart(RowKind::Pods, key, labels, now_ms);
        }
    }
}
