//! Implements [`Rows`]: reads rows in the order of the API.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::index::IndexEntry;
use super::pod_lookup::{LOOKUP_BATCH, PodLookup, prefetch};
use super::rate::Measured;
use super::scrape_batch::NodeSnapshot;
use super::two_pass_reader::StoreTwoPassReader;
use super::{Store, StoreState};
use crate::ingest::discover::Node;
use crate::model::changes::Visibility;
use crate::model::labels::Labels;
use crate::model::rows::{
    Change, ChangeQuery, ContainerRow, Expired, Lookup, NodeRow, Pick, PodRow, Progress, RowKind, Rows,
    TwoPassReader,
};

/// The number of rows after which a read releases the locks, so that writers can take them.
const LOCK_BATCH: usize = 512;

impl Rows for Store {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        let nodes = self.directory.nodes();
        let Some((node, visible)) = nodes.get_with_state(name) else { return Lookup::Absent };
        let state = self.state.read();
        match self.shown_node(&state, node, visible, self.directory.now_ms()) {
            Some((row, _)) => {
                visit(&row);
                Lookup::Found
            }
            None => Lookup::Unmeasured,
        }
    }

    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        self.visit_nodes(after, pick, &mut |_, row| visit(row));
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        let pods = self.directory.pods();
        let Some(pod) = pods.get(namespace, name) else { return Lookup::Absent };
        let state = self.state.read();
        let mut lookups = [PodLookup::new(namespace, name, pod)];
        state.look_up(self, &mut lookups, self.directory.now_ms());
        let [lookup] = &lookups;
        let mut containers = Vec::new();
        lookup.containers(&mut containers);
        match self.shown(lookup).and_then(|_| lookup.row(&containers)) {
            Some(row) => {
                visit(&row);
                Lookup::Found
            }
            None => Lookup::Unmeasured,
        }
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        self.visit_pods(namespace, after, pick, &mut |_, row| visit(row));
    }

    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader> {
        Box::new(StoreTwoPassReader::new(self))
    }

    fn last_known_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>)) {
        let state = self.state.read();
        let here = state.by_name.get(name).map(|at| state.slots[*at as usize].snapshot.node);
        let gone =
            || state.removed_nodes.iter().rev().find(|(gone, _)| **gone == *name).map(|(_, last)| *last);
        if let Some(last) = here.filter(Measured::was_measured).or_else(gone) {
            visit(&NodeRow {
                name,
                labels,
                version: 0,
                timestamp_ns: last.timestamp_ns,
                window_ns: last.window_ns.abs(),
                usage: last.usage(),
            });
        }
    }

    fn last_known_pod(
        &self,
        (namespace, name): (&str, &str),
        labels: &Labels,
        visit: &mut dyn FnMut(&PodRow<'_>),
    ) {
        let state = self.state.read();
        let Some((at, row)) = state.locate(namespace, name) else { return };
        let snapshot = &state.slots[at].snapshot;
        let of = snapshot.layout.containers_of(row);
        let containers: Vec<_> = of
            .clone()
            .map(|at| ContainerRow {
                name: snapshot.layout.container(at),
                usage: snapshot.containers[at].usage(),
            })
            .collect();
        let earliest = snapshot.containers[of.clone()].iter().min_by_key(|container| container.timestamp_ns);
        if let Some(earliest) = earliest
            && snapshot.containers[of].iter().all(Measured::was_measured)
        {
            let (timestamp_ns, window_ns) = (earliest.timestamp_ns, earliest.window_ns.abs());
            let containers = &containers;
            visit(&PodRow { namespace, name, labels, version: 0, timestamp_ns, window_ns, containers });
        }
    }

    fn version(&self) -> u64 {
        self.directory.observer().upcoming()
    }

    fn next_change(
        &self,
        query: ChangeQuery<'_>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> bool,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        self.read_change(query, pick, visit)
    }
}

impl PodLookup<'_> {
    /// Returns the pod's row with these containers.
    pub(super) fn row<'a>(&'a self, containers: &'a [ContainerRow<'a>]) -> Option<PodRow<'a>> {
        let key = (self.namespace, self.name);
        self.times.map(|times| times.row(key, &self.pod.labels, containers))
    }
}

impl Store {
    /// Visits nodes, each with the Node of its row.
    pub(super) fn visit_nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&Arc<Node>, &NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let mut after: Option<Box<str>> = after.map(Into::into);
        loop {
            let nodes = self.directory.nodes();
            let state = self.state.read();
            let now_ms = self.directory.now_ms();
            let mut last = None;
            for (node, visible) in nodes.iter_after(after.as_deref()).take(LOCK_BATCH) {
                last = Some(&*node.name);
                match pick(&node.name, &node.labels) {
                    Pick::Take => {}
                    Pick::Skip => continue,
                    Pick::End => return,
                }
                if let Some((row, _)) = self.shown_node(&state, node, visible, now_ms)
                    && visit(node, &row).is_break()
                {
                    return;
                }
            }
            let Some(last) = last else { return };
            after = Some(last.into());
        }
    }

    /// Visits pods, each with the lookup that found its row.
    pub(super) fn visit_pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodLookup<'_>, &PodRow<'_>) -> ControlFlow<()>,
    ) {
        let mut after: Option<(Box<str>, Box<str>)> = after.map(|(a, b)| (a.into(), b.into()));
        let mut ended = false;
        while !ended {
            let pods = self.directory.pods();
            let state = self.state.read();
            let now_ms = self.directory.now_ms();
            let mut containers = Vec::new();
            let mut last = None;
            let key = after.as_ref().map(|(namespace, name)| (&**namespace, &**name));
            let mut behind = pods.iter_after(namespace, key).take(LOCK_BATCH);
            let mut lookups = Vec::with_capacity(LOOKUP_BATCH);
            let mut more = true;
            while more {
                lookups.clear();
                while more && lookups.len() < LOOKUP_BATCH {
                    let mut ahead = [None; LOOKUP_BATCH];
                    for place in &mut ahead[lookups.len()..] {
                        *place = behind.next();
                    }
                    more = ahead[LOOKUP_BATCH - 1].is_some();
                    ahead.iter().flatten().for_each(|(_, name, pod)| prefetch(name, pod));
                    for (namespace, name, pod) in ahead.into_iter().flatten() {
                        match pick((namespace, name), &pod.labels) {
                            Pick::Take => lookups.push(PodLookup::new(namespace, name, pod)),
                            Pick::Skip => {}
                            Pick::End => {
                                (ended, more) = (true, false);
                                break;
                            }
                        }
                        last = Some((namespace, name));
                    }
                }
                state.look_up(self, &mut lookups, now_ms);
                containers.clear();
                let mut ends = [0; LOOKUP_BATCH];
                for (lookup, end) in lookups.iter().zip(&mut ends) {
                    lookup.containers(&mut containers);
                    *end = containers.len();
                }
                let mut start = 0;
                for (lookup, end) in lookups.iter().zip(ends) {
                    let containers = &containers[std::mem::replace(&mut start, end)..end];
                    if self.shown(lookup).is_some()
                        && lookup.row(containers).is_some_and(|row| visit(lookup, &row).is_break())
                    {
                        return;
                    }
                }
            }
            drop(behind);
            let Some((last_namespace, last_name)) = last else { return };
            after = Some((last_namespace.into(), last_name.into()));
        }
    }

    /// Returns the row of a node and since which version clients see it, and records that they see it, or do not
    /// any more.
    pub(super) fn shown_node<'a>(
        &self,
        state: &StoreState,
        node: &'a Node,
        visible: &Visibility,
        now_ms: u64,
    ) -> Option<(NodeRow<'a>, u64)> {
        let row = state.node_row(self, node, now_ms);
        if row.is_none() {
            let (key, labels) = (("", &*node.name), || Arc::new(node.labels.clone()));
            self.directory.observer().hide(RowKind::Nodes, key, labels, visible, || now_ms);
        }
        row.map(|row| (row, visible.mark_visible(row.version)))
    }

    /// Returns the same for a pod that was looked up: since which version clients see it, if it has a row.
    pub(super) fn shown(&self, lookup: &PodLookup<'_>) -> Option<u64> {
        let PodLookup { namespace, name, pod, times, .. } = lookup;
        if times.is_none() {
            let now_ms = || self.directory.now_ms();
            let (key, labels, visible) = ((*namespace, *name), || pod.labels.clone(), &pod.state.visible);
            self.directory.observer().hide(RowKind::Pods, key, labels, visible, now_ms);
        }
        times.map(|times| pod.state.visible.mark_visible(times.version))
    }

    /// Updates the visibility of pods that a node no longer reports: they have no row any more, or another node's.
    pub(super) fn refresh_visibility<'a>(&self, keys: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return;
        }
        let pods = self.directory.pods();
        let state = self.state.read();
        let now_ms = self.directory.now_ms();
        for key in keys {
            let Some(pod) = pods.get(key.0, key.1) else { continue };
            let mut lookups = [PodLookup::new(key.0, key.1, pod)];
            state.look_up(self, &mut lookups, now_ms);
            if lookups[0].times.is_none() {
                self.shown(&lookups[0]);
                continue;
            }
            let labels = pod.labels.clone();
            let after = Some(labels.clone());
            let version = self.directory.observer().record(RowKind::Pods, key, labels, after, now_ms);
            // If clients did not see the pod, it appears now, although its sample is older.
            pod.state.visible.mark_visible(version);
        }
    }
}

impl StoreState {
    /// Returns the row of a node that has a rate; `None` also if the samples belong to another node of that name.
    fn node_row<'a>(&self, store: &Store, node: &'a Node, now_ms: u64) -> Option<NodeRow<'a>> {
        let slot = &self.slots[*self.by_name.get(&node.name)? as usize];
        let NodeSnapshot { node: measured, .. } = &*slot.snapshot;
        let same = slot.node.as_ref().is_some_and(|scraped| scraped.uid == node.uid);
        (same && store.fresh(&slot.snapshot, now_ms) && store.serves(measured, now_ms)).then(|| NodeRow {
            name: &node.name,
            labels: &node.labels,
            version: slot.version,
            timestamp_ns: measured.timestamp_ns,
            window_ns: measured.window_ns,
            usage: measured.usage(),
        })
    }

    /// Returns slot and row of a pod's samples.
    ///
    /// If several nodes report the pod, as while it moves, the node counts that is Ready, then the one that reported
    /// it first last. Their timestamps are not compared: each node has its own clock.
    pub(super) fn locate(&self, namespace: &str, name: &str) -> Option<(usize, usize)> {
        let locations = self.index.candidates(namespace, name).map(IndexEntry::location);
        locations
            .filter(|(slot, row)| self.slots[*slot].snapshot.layout.pod(*row) == (namespace, name))
            .max_by_key(|(slot, row)| {
                let at = &self.slots[*slot];
                let is_ready = at.node.as_ref().is_some_and(|node| node.ready);
                (is_ready, at.snapshot.layout.appeared_ms(*row), *slot)
            })
    }
}
