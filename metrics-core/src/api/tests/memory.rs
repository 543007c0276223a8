//! Rows in memory: a map by key.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::model::labels::Labels;
use crate::model::rows::{
    Change, ChangeQuery, ContainerRow, Expired, Lookup, NodeRow, Pick, PodRow, Progress, RowKind, Rows,
    TwoPassReader, Usage,
};

/// An object with its containers. A node has one container without a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) labels: Labels,
    pub(super) timestamp_ns: i64,
    pub(super) window_ns: i64,
    pub(super) containers: Vec<(String, Usage)>,
    pub(super) unmeasured: bool,
    pub(super) version: u64,
    pub(super) since: u64,
}

/// A pod that was removed or relabeled.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) version: u64,
    pub(super) key: (String, String),
    pub(super) before: Labels,
    pub(super) after: Option<Labels>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct InMemoryRows {
    pub(super) nodes: BTreeMap<String, Object>,
    pub(super) pods: BTreeMap<(String, String), Object>,
    /// The version of the next change; 0 if rows do not change.
    pub(super) version: u64,
    /// Pods that were removed or relabeled.
    pub(super) updates: Vec<Update>,
    /// The last known rows of removed pods.
    pub(super) last_known: BTreeMap<(String, String), Object>,
}

fn usage(cpu_nanocores: u64, memory_bytes: u64) -> Usage {
    Usage { cpu_nanocores, memory_bytes, swap_bytes: None }
}

impl InMemoryRows {
    /// The rows that metrics-server had when its responses in `metrics_server/` were recorded.
    pub(super) fn metrics_server_rows() -> Self {
        let mut rows = Self::default();
        for name in ["node-1", "node-2", "unmeasured"] {
            let node = Object {
                labels: [("kubernetes.io/hostname", name)].into_iter().collect(),
                timestamp_ns: super::NOW_NS,
                window_ns: 60_000_000_000,
                containers: vec![(String::new(), usage(1_000_000_000, 27 << 20))],
                unmeasured: name == "unmeasured",
                ..Object::default()
            };
            rows.nodes.insert(name.to_owned(), node);
        }
        for (namespace, name) in
            [("default", "one"), ("default", "two"), ("default", "unmeasured"), ("kube-system", "dns")]
        {
            let pod = Object {
                labels: [("app", name), ("tier", "x"), ("weird", "a\"<>&b")].into_iter().collect(),
                timestamp_ns: super::NOW_NS,
                window_ns: 15_012_000_000,
                containers: vec![
                    ("a".to_owned(), usage(123_456_789, 4_095_004 * 1024)),
                    ("b".to_owned(), usage(67_000_000, 1000)),
                ],
                unmeasured: name == "unmeasured",
                ..Object::default()
            };
            rows.pods.insert((namespace.to_owned(), name.to_owned()), pod);
        }
        rows
    }

    /// `count` pods in three namespaces, and as many nodes.
    pub(super) fn many(count: usize) -> Self {
        let mut rows = Self::default();
        for index in 0..count {
            let number = index as u64;
            let object = Object {
                labels: [("app", format!("a{}", index % 7)), ("index", index.to_string())]
                    .into_iter()
                    .collect(),
                timestamp_ns: super::NOW_NS - i64::try_from(index).unwrap() * 1_000_000,
                window_ns: 15_000_000_000 + i64::try_from(index).unwrap(),
                containers: vec![("main".to_owned(), usage(number * 1_000_003, number * 4096))],
                ..Object::default()
            };
            rows.nodes.insert(format!("node-{index:06}"), object.clone());
            rows.pods.insert((format!("ns-{}", index % 3), format!("pod-{index:06}")), object);
        }
        rows
    }
}

fn visit_node<R>(name: &str, object: &Object, visit: &mut dyn FnMut(&NodeRow<'_>) -> R) -> R {
    let usage = object.containers.first().map(|(_, usage)| *usage).unwrap_or_default();
    let Object { labels, timestamp_ns, window_ns, version, .. } = object;
    let (version, timestamp_ns, window_ns) = (*version, *timestamp_ns, *window_ns);
    visit(&NodeRow { name, labels, version, timestamp_ns, window_ns, usage })
}

fn visit_pod<R>(key: &(String, String), object: &Object, visit: &mut dyn FnMut(&PodRow<'_>) -> R) -> R {
    let containers: Vec<ContainerRow<'_>> =
        object.containers.iter().map(|(name, usage)| ContainerRow { name, usage: *usage }).collect();
    visit(&PodRow {
        namespace: &key.0,
        name: &key.1,
        labels: &object.labels,
        version: object.version,
        timestamp_ns: object.timestamp_ns,
        window_ns: object.window_ns,
        containers: &containers,
    })
}

impl Rows for InMemoryRows {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        match self.nodes.get(name) {
            None => Lookup::Absent,
            Some(object) if object.unmeasured => Lookup::Unmeasured,
            Some(object) => {
                visit_node(name, object, visit);
                Lookup::Found
            }
        }
    }

    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, object) in self.nodes.range::<str, _>((start, Bound::Unbounded)) {
            match pick(name, &object.labels) {
                Pick::Take if !object.unmeasured && visit_node(name, object, visit).is_break() => return,
                Pick::Take | Pick::Skip => {}
                Pick::End => return,
            }
        }
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        let key = (namespace.to_owned(), name.to_owned());
        match self.pods.get(&key) {
            None => Lookup::Absent,
            Some(object) if object.unmeasured => Lookup::Unmeasured,
            Some(object) => {
                visit_pod(&key, object, visit);
                Lookup::Found
            }
        }
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let after = after.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        for (key, object) in &self.pods {
            let wanted = namespace.is_none_or(|namespace| namespace == key.0)
                && after.as_ref().is_none_or(|after| after < key);
            match if wanted { pick((&key.0, &key.1), &object.labels) } else { Pick::Skip } {
                Pick::Take if !object.unmeasured && visit_pod(key, object, visit).is_break() => return,
                Pick::Take | Pick::Skip => {}
                Pick::End => return,
            }
        }
    }

    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader> {
        Box::new(CopyingReader::of(self))
    }

    fn last_known_node(&self, _: &str, _: &Labels, _: &mut dyn FnMut(&NodeRow<'_>)) {}

    fn last_known_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>)) {
        let key = (key.0.to_owned(), key.1.to_owned());
        if let Some(pod) = self.pods.get(&key).or_else(|| self.last_known.get(&key)) {
            visit_pod(&key, &Object { labels: labels.clone(), ..pod.clone() }, visit);
        }
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn next_change(
        &self,
        query: ChangeQuery<'_>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> bool,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        let ChangeQuery { kind, from, new_from, unknown_from, .. } = query;
        if from < 100 || from > self.version {
            return Err(Expired);
        }
        if kind == RowKind::Nodes {
            let changed = |(_, node): &(&String, &Object)| node.version >= from && !node.unmeasured;
            let first = self.nodes.iter().filter(changed).min_by_key(|(_, node)| node.version);
            let Some((name, node)) = first else { return Ok(Progress { until: self.version, more: false }) };
            visit_node(name, node, &mut |row| {
                let before = (node.since < new_from).then_some(row.labels);
                visit(Change::Node { row, before });
            });
            return Ok(Progress { until: node.version + 1, more: true });
        }
        let mut pick = |key: &(String, String), labels: &Labels| {
            let key = (&*key.0, &*key.1);
            query.selects(key) && pick(key, labels)
        };
        let labels_of = |key: &(String, String), pod: &Object| {
            let later = self.updates.iter().find(|update| update.version > pod.version && update.key == *key);
            later.map_or_else(|| pod.labels.clone(), |update| update.before.clone())
        };
        let pods = self.pods.iter().filter(|(_, pod)| pod.version >= from && !pod.unmeasured);
        let pods =
            pods.map(|(key, pod)| (pod.version, key, Object { labels: labels_of(key, pod), ..pod.clone() }));
        let pod = pods.filter(|(_, key, pod)| pick(key, &pod.labels)).min_by_key(|(version, ..)| *version);
        let mut selected = |update: &&Update| {
            update.version >= from
                && (pick(&update.key, &update.before)
                    || update.after.as_ref().is_some_and(|after| pick(&update.key, after)))
        };
        let update = self.updates.iter().find(|update| selected(update));
        match (pod, update) {
            (Some((version, key, pod)), update) if update.is_none_or(|update| version < update.version) => {
                visit_pod(key, &pod, &mut |row| {
                    let before = (pod.since < new_from).then_some(row.labels);
                    visit(Change::Pod { row, before });
                });
                Ok(Progress { until: version + 1, more: true })
            }
            (_, Some(update)) => {
                let (namespace, name) = (&*update.key.0, &*update.key.1);
                let current = self.pods.get(&update.key);
                let current = current.filter(|pod| !pod.unmeasured && pod.since <= update.version);
                match (current, &update.after) {
                    (Some(pod), Some(_)) if pod.since >= unknown_from && pod.version > update.version => {}
                    (Some(pod), Some(after)) => {
                        let pod = Object { labels: after.clone(), version: update.version, ..pod.clone() };
                        visit_pod(&update.key, &pod, &mut |row| {
                            visit(Change::Pod { row, before: Some(&update.before) });
                        });
                    }
                    (None, Some(after)) if pick(&update.key, after) => {}
                    _ => visit(Change::Removed { namespace, name, labels: &update.before }),
                }
                Ok(Progress { until: update.version + 1, more: true })
            }
            (_, None) => Ok(Progress { until: self.version, more: false }),
        }
    }
}

/// Rows that a test changes while they are read.
#[derive(Clone)]
pub(super) struct SharedRows(pub(super) Arc<RwLock<InMemoryRows>>);

impl Rows for SharedRows {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        self.0.read().node(name, visit)
    }

    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        self.0.read().nodes(after, pick, visit);
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        self.0.read().pod(namespace, name, visit)
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        self.0.read().pods(namespace, after, pick, visit);
    }

    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader> {
        Box::new(CopyingReader::of(self))
    }

    fn last_known_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>)) {
        self.0.read().last_known_node(name, labels, visit);
    }

    fn last_known_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>)) {
        self.0.read().last_known_pod(key, labels, visit);
    }

    fn version(&self) -> u64 {
        self.0.read().version()
    }

    fn next_change(
        &self,
        query: ChangeQuery<'_>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> bool,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        self.0.read().next_change(query, pick, visit)
    }
}

/// Copies rows in the first pass, and replays the copies.
struct CopyingReader {
    rows: Arc<dyn Rows>,
    nodes: VecDeque<(String, Object)>,
    pods: VecDeque<((String, String), Object)>,
}

impl CopyingReader {
    fn of(rows: Arc<dyn Rows>) -> Self {
        Self { rows, nodes: VecDeque::new(), pods: VecDeque::new() }
    }
}

impl TwoPassReader for CopyingReader {
    fn nodes(
        &mut self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let Self { rows, nodes, .. } = self;
        rows.nodes(after, pick, &mut |row| {
            let node = Object {
                labels: row.labels.clone(),
                timestamp_ns: row.timestamp_ns,
                window_ns: row.window_ns,
                containers: vec![(String::new(), row.usage)],
                version: row.version,
                ..Object::default()
            };
            nodes.push_back((row.name.to_owned(), node));
            visit(row)
        });
    }

    fn pods(
        &mut self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let Self { rows, pods, .. } = self;
        rows.pods(namespace, after, pick, &mut |row| {
            let containers =
                row.containers.iter().map(|container| (container.name.to_owned(), container.usage));
            let pod = Object {
                labels: row.labels.clone(),
                timestamp_ns: row.timestamp_ns,
                window_ns: row.window_ns,
                containers: containers.collect(),
                version: row.version,
                ..Object::default()
            };
            pods.push_back(((row.namespace.to_owned(), row.name.to_owned()), pod));
            visit(row)
        });
    }

    fn kept_bytes(&self) -> usize {
        100 * (self.nodes.len() + self.pods.len())
    }

    fn replay_nodes(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        while let Some((name, object)) = self.nodes.pop_front() {
            if visit_node(&name, &object, visit).is_break() {
                return;
            }
        }
    }

    fn replay_pods(&mut self, visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>) {
        while let Some((key, object)) = self.pods.pop_front() {
            if visit_pod(&key, &object, visit).is_break() {
                return;
            }
        }
    }
}
