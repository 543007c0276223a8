//! Finds what changed since a version, for watches.
//!
//! The cost of a watch follows its selection: slots are found by version, the rows of a namespace or a name by binary
//! search in a node's layout, and rows whose labels are not selected are not read.

use std::ops::Range;
use std::sync::Arc;

use super::pod_lookup::PodLookup;
use super::{Slot, Store, StoreState};
use crate::model::changes::{Update, Visibility};
use crate::model::labels::Labels;
use crate::model::rows::{Change, ChangeQuery, Expired, NodeRow, PodRow, Progress, RowKind};

/// Selects an object by key and labels.
type Pick<'a> = dyn FnMut((&str, &str), &Labels) -> bool + 'a;

impl Store {
    /// Implements [`Rows::next_change`](crate::model::rows::Rows::next_change).
    pub(super) fn read_change(
        &self,
        query: ChangeQuery<'_>,
        pick: &mut Pick<'_>,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        let mut select = |update: &Update| {
            let key = (&*update.namespace, &*update.name);
            query.selects(key)
                && (pick(key, &update.before) || update.after.as_ref().is_some_and(|after| pick(key, after)))
        };
        // Versions are taken under the lock under which the change is made. So once this thread has that lock, all
        // changes before `until` are visible.
        let (update, until) = self.directory.observer().next_update(query.kind, query.from, &mut select)?;
        let before = update.as_ref().map_or(until, |update| update.version);
        let version = match query.kind {
            RowKind::Nodes => self.changed_node(query, query.from..before, pick, visit),
            RowKind::Pods => self.changed_pods(query, query.from..before, pick, visit),
        };
        if let Some(version) = version {
            return Ok(Progress { until: version + 1, more: true });
        }
        let Some(update) = update else { return Ok(Progress { until, more: false }) };
        let row_exists = match (&update.after, query.kind) {
            (None, _) => false,
            (Some(after), RowKind::Nodes) => self.updated_node(query, &update, after, visit),
            (Some(after), RowKind::Pods) => self.updated_pod(query, &update, after, visit),
        };
        // If the object lost its row after it was relabeled, its removal follows, but with its new labels.
        let (namespace, name) = (&*update.namespace, &*update.name);
        let removal_follows = update.after.as_ref().is_some_and(|after| pick((namespace, name), after));
        if !row_exists && !removal_follows {
            visit(Change::Removed { namespace, name, labels: &update.before });
        }
        Ok(Progress { until: update.version + 1, more: true })
    }

    /// Visits the node whose snapshot changed first within `versions`, if it is selected.
    fn changed_node(
        &self,
        query: ChangeQuery<'_>,
        versions: Range<u64>,
        pick: &mut Pick<'_>,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Option<u64> {
        let nodes = self.directory.nodes();
        let state = self.state.read();
        let (_, slot) = state.first_changed(&versions)?;
        let known = slot.node.as_ref().filter(|node| query.selects(("", &node.name)));
        let Some((node, visible)) = known.and_then(|node| nodes.get_with_state(&node.name)) else {
            return Some(slot.version);
        };
        let key = ("", &*node.name);
        let changed = self.labels_at(RowKind::Nodes, key, visible, slot.version);
        let labels = changed.as_deref().unwrap_or(&node.labels);
        if pick(key, labels)
            && let Some((row, since)) = self.shown_node(&state, node, visible, self.directory.now_ms())
        {
            let new = since >= query.new_from;
            let repeats = slot.only_expired || slot.snapshot.node_repeated;
            if new || !(repeats && slot.previous < versions.start) {
                let row = NodeRow { labels, ..row };
                visit(Change::Node { row: &row, before: (!new).then_some(labels) });
            }
        }
        Some(slot.version)
    }

    /// Visits the selected pods of the node whose snapshot changed first within `versions`.
    fn changed_pods(
        &self,
        query: ChangeQuery<'_>,
        versions: Range<u64>,
        pick: &mut Pick<'_>,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Option<u64> {
        let pods = self.directory.pods();
        let state = self.state.read();
        let (at, slot) = state.first_changed(&versions)?;
        let now_ms = self.directory.now_ms();
        let layout = &slot.snapshot.layout;
        let mut containers = Vec::new();
        for row in layout.rows(query.namespace, query.name) {
            let key @ (namespace, name) = layout.pod(row);
            if !query.selects(key) {
                continue;
            }
            let Some(pod) = pods.get(namespace, name) else { continue };
            let changed = self.labels_at(RowKind::Pods, key, &pod.state.visible, slot.version);
            let labels = changed.as_ref().unwrap_or(&pod.labels);
            if !pick(key, labels) {
                continue;
            }
            let mut lookups = [PodLookup::new(namespace, name, pod)];
            state.look_up(self, &mut lookups, now_ms);
            let [lookup] = &lookups;
            // A pod that is read from another node changes with that node's snapshot.
            if let Some(since) = self.shown(lookup)
                && lookup.location.is_some_and(|(place, _)| place == at)
            {
                let new = since >= query.new_from;
                // For a client that knows the previous snapshot, a repeated sample is not a change.
                let repeats = slot.previous < versions.start
                    && (slot.only_expired || slot.snapshot.repeats(layout.containers_of(row)))
                    && state.index.candidates(namespace, name).count() == 1;
                if new || !repeats {
                    containers.clear();
                    lookup.containers(&mut containers);
                    if let Some(row) = lookup.row(&containers) {
                        let row = PodRow { labels, ..row };
                        visit(Change::Pod { row: &row, before: (!new).then_some(labels) });
                    }
                }
            }
        }
        Some(slot.version)
    }

    /// Visits a node whose labels changed. Returns whether it has a row.
    fn updated_node(
        &self,
        query: ChangeQuery<'_>,
        update: &Update,
        after: &Labels,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> bool {
        let nodes = self.directory.nodes();
        let state = self.state.read();
        let found = nodes
            .get_with_state(&update.name)
            .and_then(|(node, visible)| self.shown_node(&state, node, visible, self.directory.now_ms()))
            .filter(|(_, since)| is_of_same_object(update, *since));
        if let Some((row, since)) = &found
            && !is_pending(query, update, *since, row.version)
        {
            let row = NodeRow { labels: after, version: update.version, ..*row };
            visit(Change::Node { row: &row, before: labels_before(update, *since) });
        }
        found.is_some()
    }

    /// Visits a pod whose labels or whose source of samples changed. Returns whether it has a row.
    fn updated_pod(
        &self,
        query: ChangeQuery<'_>,
        update: &Update,
        after: &Labels,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> bool {
        let pods = self.directory.pods();
        let state = self.state.read();
        let Some(pod) = pods.get(&update.namespace, &update.name) else { return false };
        let mut lookups = [PodLookup::new(&update.namespace, &update.name, pod)];
        state.look_up(self, &mut lookups, self.directory.now_ms());
        let [lookup] = &lookups;
        let mut containers = Vec::new();
        lookup.containers(&mut containers);
        let since = self.shown(lookup).filter(|since| is_of_same_object(update, *since));
        let found = since.zip(lookup.row(&containers));
        if let Some((since, row)) = &found
            && !is_pending(query, update, *since, row.version)
        {
            let row = PodRow { labels: after, version: update.version, ..*row };
            visit(Change::Pod { row: &row, before: labels_before(update, *since) });
        }
        found.is_some()
    }

    fn labels_at(
        &self,
        kind: RowKind,
        key: (&str, &str),
        visible: &Visibility,
        version: u64,
    ) -> Option<Arc<Labels>> {
        self.directory.observer().labels_at(kind, key, visible, version)
    }
}

impl StoreState {
    /// Returns the slot whose last change is the first within `versions`.
    fn first_changed(&self, versions: &Range<u64>) -> Option<(usize, &Slot)> {
        let (_, at) = self.changed.range(versions.clone()).next()?;
        self.slots.get(*at as usize).map(|slot| (*at as usize, slot))
    }
}

/// Returns whether the update is one of the object that clients see now. If that appeared later, the update is one of its
/// predecessor with the same name, which may be known to the reader.
fn is_of_same_object(update: &Update, since: u64) -> bool {
    since <= update.version
}

/// Returns whether the reader does not know the object yet and will visit it, as a new one, at a later version.
fn is_pending(query: ChangeQuery<'_>, update: &Update, since: u64, row_version: u64) -> bool {
    since >= query.unknown_from && row_version > update.version
}

/// Returns the labels before an update; `None` if clients see the object since this update.
fn labels_before(update: &Update, since: u64) -> Option<&Labels> {
    (since < update.version).then_some(&*update.before)
}
