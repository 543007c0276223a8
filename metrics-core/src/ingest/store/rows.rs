//! Reading: the rows of the API, in its order.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::intake::Snapshot;
use super::keeping::Keeping;
use super::rate::Measured;
use super::seek::{Sought, TOGETHER, touch};
use super::{Slot, State, Store};
use crate::ingest::discover::Node;
use crate::model::changes::{Departure, Shown};
use crate::model::labels::Labels;
use crate::model::rows::{
    Change, ContainerRow, Expired, Lookup, NodeRow, Pick, PodRow, Progress, RowKind, Rows, TwoPassReader,
};

/// Rows between two looks at who waits for the locks.
const BATCH: usize = 512;

impl Rows for Store {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        let nodes = self.directory.nodes();
        let Some((node, shown)) = nodes.get_with_state(name) else { return Lookup::Absent };
        let state = self.state.read();
        match self.shown_node(&state, node, shown, self.directory.now_ms()) {
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
        let mut sought = [Sought::new(namespace, name, pod)];
        state.seek(self, &mut sought, self.directory.now_ms());
        let [one] = &sought;
        let mut containers = Vec::new();
        one.containers(&mut containers);
        match self.shown(one).and_then(|_| one.row(&containers)) {
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
        Box::new(Keeping::new(self))
    }

    fn last_known_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>)) {
        let state = self.state.read();
        let here = state.by_name.get(name).map(|at| state.slots[*at as usize].snapshot.node);
        let gone = || state.gone.iter().rev().find(|(gone, _)| **gone == *name).map(|(_, last)| *last);
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
        kind: RowKind,
        from: u64,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        // Versions are taken within the lock under which the change is made, so once the locks are ours all changes
        // before `until` are there.
        let (departure, until) = self.directory.observer().departure(kind, from)?;
        let before = departure.as_ref().map_or(until, |departure| departure.version);
        let version = match kind {
            RowKind::Nodes => self.changed_node(from..before, visit),
            RowKind::Pods => self.changed_pods(from..before, visit),
        };
        if let Some(version) = version {
            return Ok(Progress { until: version + 1, more: true });
        }
        Ok(match departure {
            Some(Departure { version, namespace, name, labels, .. }) => {
                visit(Change::Removed { namespace: &namespace, name: &name, labels: &labels });
                Progress { until: version + 1, more: true }
            }
            None => Progress { until, more: false },
        })
    }
}

impl Sought<'_> {
    /// Its row, of these containers.
    fn row<'a>(&'a self, containers: &'a [ContainerRow<'a>]) -> Option<PodRow<'a>> {
        let key = (self.namespace, self.name);
        self.times.map(|times| times.row(key, &self.pod.labels, containers))
    }
}

impl Store {
    /// Visits nodes, each with what its row is made of.
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
            for (node, shown) in nodes.behind(after.as_deref()).take(BATCH) {
                last = Some(&*node.name);
                match pick(&node.name, &node.labels) {
                    Pick::Take => {}
                    Pick::Skip => continue,
                    Pick::End => return,
                }
                if let Some((row, _)) = self.shown_node(&state, node, shown, now_ms)
                    && visit(node, &row).is_break()
                {
                    return;
                }
            }
            let Some(last) = last else { return };
            after = Some(last.into());
        }
    }

    /// Visits pods, each with what its row is made of.
    pub(super) fn visit_pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&Sought<'_>, &PodRow<'_>) -> ControlFlow<()>,
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
            let mut behind = pods.behind(namespace, key).take(BATCH);
            let mut sought = Vec::with_capacity(TOGETHER);
            let mut more = true;
            while more {
                sought.clear();
                while more && sought.len() < TOGETHER {
                    let mut ahead = [None; TOGETHER];
                    for place in &mut ahead[sought.len()..] {
                        *place = behind.next();
                    }
                    more = ahead[TOGETHER - 1].is_some();
                    ahead.iter().flatten().for_each(|(_, name, pod)| touch(name, pod));
                    for (namespace, name, pod) in ahead.into_iter().flatten() {
                        match pick((namespace, name), &pod.labels) {
                            Pick::Take => sought.push(Sought::new(namespace, name, pod)),
                            Pick::Skip => {}
                            Pick::End => {
                                (ended, more) = (true, false);
                                break;
                            }
                        }
                        last = Some((namespace, name));
                    }
                }
                state.seek(self, &mut sought, now_ms);
                containers.clear();
                let mut of_one = [0; TOGETHER];
                for (one, end) in sought.iter().zip(&mut of_one) {
                    one.containers(&mut containers);
                    *end = containers.len();
                }
                let mut start = 0;
                for (one, end) in sought.iter().zip(of_one) {
                    let containers = &containers[std::mem::replace(&mut start, end)..end];
                    if self.shown(one).is_some()
                        && one.row(containers).is_some_and(|row| visit(one, &row).is_break())
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

    /// The row of a node, and since which version it is shown; notes that it is shown from now on, or not any more.
    fn shown_node<'a>(
        &self,
        state: &State,
        node: &'a Node,
        shown: &Shown,
        now_ms: u64,
    ) -> Option<(NodeRow<'a>, u64)> {
        let row = state.node_row(self, node, now_ms);
        if row.is_none() {
            let now = || now_ms;
            self.directory.observer().hide(RowKind::Nodes, ("", &node.name), &node.labels, shown, now);
        }
        row.map(|row| (row, shown.show(row.version)))
    }

    /// The same of a pod that was sought: since which version it is shown, if it has a row.
    fn shown(&self, one: &Sought<'_>) -> Option<u64> {
        let Sought { namespace, name, pod, times, .. } = one;
        if times.is_none() {
            let now_ms = || self.directory.now_ms();
            let shown = &pod.state.shown;
            self.directory.observer().hide(RowKind::Pods, (namespace, name), &pod.labels, shown, now_ms);
        }
        times.map(|times| pod.state.shown.show(times.version))
    }

    /// Notes what became of pods that a node says no more of: they have no row any more, or that of another node.
    pub(super) fn look_again<'a>(&self, keys: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return;
        }
        let pods = self.directory.pods();
        let state = self.state.read();
        let now_ms = self.directory.now_ms();
        for key in keys {
            let Some(pod) = pods.get(key.0, key.1) else { continue };
            let mut sought = [Sought::new(key.0, key.1, pod)];
            state.seek(self, &mut sought, now_ms);
            if self.shown(&sought[0]).is_some() {
                self.directory.observer().depart(RowKind::Pods, key, &pod.labels, now_ms);
            }
        }
    }

    /// Visits the node whose snapshot came first within `versions`.
    fn changed_node(&self, versions: Range<u64>, visit: &mut dyn FnMut(Change<'_>)) -> Option<u64> {
        let nodes = self.directory.nodes();
        let state = self.state.read();
        let (_, slot) = state.first_changed(&versions)?;
        if let Some((node, shown)) = slot.node.as_ref().and_then(|node| nodes.get_with_state(&node.name))
            && let Some((row, since)) = self.shown_node(&state, node, shown, self.directory.now_ms())
        {
            let new = since >= versions.start;
            if new || !(slot.snapshot.node_repeated && slot.previous < versions.start) {
                visit(Change::Node { row: &row, new });
            }
        }
        Some(slot.version)
    }

    /// Visits the pods of the node whose snapshot came first within `versions`.
    fn changed_pods(&self, versions: Range<u64>, visit: &mut dyn FnMut(Change<'_>)) -> Option<u64> {
        let pods = self.directory.pods();
        let state = self.state.read();
        let (at, slot) = state.first_changed(&versions)?;
        let now_ms = self.directory.now_ms();
        let layout = &slot.snapshot.layout;
        let mut containers = Vec::new();
        for row in 0..layout.pods() {
            let (namespace, name) = layout.pod(row);
            let Some(pod) = pods.get(namespace, name) else { continue };
            let mut sought = [Sought::new(namespace, name, pod)];
            state.seek(self, &mut sought, now_ms);
            let [one] = &sought;
            // What is read at another node changes when that does.
            if let Some(since) = self.shown(one)
                && one.place.is_some_and(|(place, _)| place == at)
            {
                let new = since >= versions.start;
                // To whom the snapshot before is known, a sample that repeats is no news.
                let repeats = slot.previous < versions.start
                    && slot.snapshot.repeats(layout.containers_of(row))
                    && state.index.candidates(namespace, name).count() == 1;
                if new || !repeats {
                    containers.clear();
                    one.containers(&mut containers);
                    if let Some(row) = one.row(&containers) {
                        visit(Change::Pod { row: &row, new });
                    }
                }
            }
        }
        Some(slot.version)
    }
}

impl State {
    /// The row of a node that has a rate; `None` also for one whose samples are of a namesake.
    fn node_row<'a>(&self, store: &Store, node: &'a Node, now_ms: u64) -> Option<NodeRow<'a>> {
        let slot = &self.slots[*self.by_name.get(&node.name)? as usize];
        let Snapshot { node: measured, .. } = &*slot.snapshot;
        let same = slot.node.as_ref().is_some_and(|scraped| scraped.uid == node.uid);
        (same && measured.is_measured() && store.fresh(&slot.snapshot, now_ms)).then(|| NodeRow {
            name: &node.name,
            labels: &node.labels,
            version: slot.version,
            timestamp_ns: measured.timestamp_ns,
            window_ns: measured.window_ns,
            usage: measured.usage(),
        })
    }

    /// The slot whose last change is the first within `versions`.
    fn first_changed(&self, versions: &Range<u64>) -> Option<(usize, &Slot)> {
        let slots = self.slots.iter().enumerate();
        slots.filter(|(_, slot)| versions.contains(&slot.version)).min_by_key(|(_, slot)| slot.version)
    }

    /// Where a pod's samples are, slot and row. Of several places, as while a pod moves, the one whose container started
    /// last, then the one asked last.
    pub(super) fn locate(&self, namespace: &str, name: &str) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for place in self.index.candidates(namespace, name) {
            let candidate = place.at();
            if self.slots[candidate.0].snapshot.layout.pod(candidate.1) != (namespace, name) {
                continue;
            }
            found = match found {
                Some(other) if self.age_key(other) >= self.age_key(candidate) => Some(other),
                _ => Some(candidate),
            };
        }
        found
    }

    fn age_key(&self, (slot, row): (usize, usize)) -> (i64, u64) {
        age_key((&self.slots[slot].snapshot, row))
    }
}

fn age_key((snapshot, row): (&Snapshot, usize)) -> (i64, u64) {
    let starts = snapshot.layout.containers_of(row).map(|at| snapshot.containers[at].start_ns);
    (starts.max().unwrap_or(0), snapshot.requested_ms)
}
