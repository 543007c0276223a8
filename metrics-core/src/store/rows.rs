//! Reading: the rows of the API, in its order.

use std::ops::ControlFlow;

use super::intake::Snapshot;
use super::{State, Store};
use crate::discover::{Node, Pod};
use crate::rows::{ContainerRow, Lookup, NodeRow, PodRow, Rows, Usage};

/// Rows between two looks at who waits for the locks.
const BATCH: usize = 512;

impl Rows for Store {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        let nodes = self.directory.nodes();
        let Some(node) = nodes.get(name) else { return Lookup::Absent };
        let Some(row) = self.state.read().node_row(self, node, self.directory.now_ms()) else {
            return Lookup::Unmeasured;
        };
        visit(&row);
        Lookup::Found
    }

    fn nodes(&self, after: Option<&str>, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let mut after: Option<Box<str>> = after.map(Into::into);
        loop {
            let nodes = self.directory.nodes();
            let state = self.state.read();
            let now_ms = self.directory.now_ms();
            let mut last = None;
            for node in nodes.behind(after.as_deref()).take(BATCH) {
                last = Some(&*node.name);
                if let Some(row) = state.node_row(self, node, now_ms)
                    && visit(&row).is_break()
                {
                    return;
                }
            }
            let Some(last) = last else { return };
            after = Some(last.into());
        }
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        let pods = self.directory.pods();
        let Some(pod) = pods.get(namespace, name) else { return Lookup::Absent };
        let state = self.state.read();
        let mut containers = Vec::new();
        match state.pod_row(self, (namespace, name, pod), self.directory.now_ms(), &mut containers) {
            Some((timestamp_ns, window_ns)) => {
                visit(&PodRow {
                    namespace,
                    name,
                    labels: &pod.labels,
                    timestamp_ns,
                    window_ns,
                    containers: &containers,
                });
                Lookup::Found
            }
            None => Lookup::Unmeasured,
        }
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let mut after: Option<(Box<str>, Box<str>)> = after.map(|(a, b)| (a.into(), b.into()));
        loop {
            let pods = self.directory.pods();
            let state = self.state.read();
            let now_ms = self.directory.now_ms();
            let mut containers = Vec::new();
            let mut last = None;
            let behind = after.as_ref().map(|(namespace, name)| (&**namespace, &**name));
            for (namespace, name, pod) in pods.behind(namespace, behind).take(BATCH) {
                last = Some((namespace, name));
                containers.clear();
                let times = state.pod_row(self, (namespace, name, pod), now_ms, &mut containers);
                if let Some((timestamp_ns, window_ns)) = times
                    && visit(&PodRow {
                        namespace,
                        name,
                        labels: &pod.labels,
                        timestamp_ns,
                        window_ns,
                        containers: &containers,
                    })
                    .is_break()
                {
                    return;
                }
            }
            let Some((last_namespace, last_name)) = last else { return };
            after = Some((last_namespace.into(), last_name.into()));
        }
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
            timestamp_ns: measured.timestamp_ns,
            window_ns: measured.window_ns,
            usage: Usage {
                cpu_nanocores: measured.cpu_nanocores,
                memory_bytes: measured.memory_bytes,
                swap_bytes: measured.swap(),
            },
        })
    }

    /// Fills in the containers of a pod of which all have a rate; timestamp and window are of the earliest.
    fn pod_row<'a>(
        &'a self,
        store: &Store,
        (namespace, name, pod): (&str, &str, &Pod),
        now_ms: u64,
        containers: &mut Vec<ContainerRow<'a>>,
    ) -> Option<(i64, i64)> {
        let (snapshot, row) = self.locate(namespace, name)?;
        // What was asked for before this pod was seen Running may be of a namesake that is gone.
        if snapshot.requested_ms < pod.since_ms || !store.fresh(snapshot, now_ms) {
            return None;
        }
        let mut times: Option<(i64, i64)> = None;
        for at in snapshot.layout.containers_of(row) {
            let measured = &snapshot.containers[at];
            if !measured.is_measured() {
                return None;
            }
            // Without a start the counter alone would tell a namesake's first sample from this pod's.
            let began_ms =
                snapshot.requested_ms.saturating_sub(measured.window_ns.unsigned_abs() / 1_000_000);
            if measured.start_ns == 0 && pod.since_ms > 0 && began_ms < pod.since_ms {
                return None;
            }
            if times.is_none_or(|(earliest, _)| measured.timestamp_ns < earliest) {
                times = Some((measured.timestamp_ns, measured.window_ns));
            }
            containers.push(ContainerRow {
                name: snapshot.layout.container(at),
                usage: Usage {
                    cpu_nanocores: measured.cpu_nanocores,
                    memory_bytes: measured.memory_bytes,
                    swap_bytes: measured.swap(),
                },
            });
        }
        times
    }

    /// Where a pod's samples are. Of several places, as while a pod moves, the one whose container started
    /// last, then the one asked last.
    fn locate(&self, namespace: &str, name: &str) -> Option<(&Snapshot, usize)> {
        let mut found: Option<(&Snapshot, usize)> = None;
        for place in self.index.candidates(namespace, name) {
            let (snapshot, row) = (&*self.slots[place.slot as usize].snapshot, place.row as usize);
            if snapshot.layout.pod(row) != (namespace, name) {
                continue;
            }
            found = match found {
                Some(other) if age_key(other) >= age_key((snapshot, row)) => Some(other),
                _ => Some((snapshot, row)),
            };
        }
        found
    }
}

fn age_key((snapshot, row): (&Snapshot, usize)) -> (i64, u64) {
    let starts = snapshot.layout.containers_of(row).map(|at| snapshot.containers[at].start_ns);
    (starts.max().unwrap_or(0), snapshot.requested_ms)
}
