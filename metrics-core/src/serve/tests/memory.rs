//! Rows in memory: a map by key.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use crate::labels::Labels;
use crate::rows::{ContainerRow, Lookup, NodeRow, PodRow, Rows, Usage};

/// An object with its containers; a node has one without a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) labels: Labels,
    pub(super) timestamp_ns: i64,
    pub(super) window_ns: i64,
    pub(super) containers: Vec<(String, Usage)>,
    pub(super) unmeasured: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) nodes: BTreeMap<String, Object>,
    pub(super) pods: BTreeMap<(String, String), Object>,
}

fn usage(cpu_nanocores: u64, memory_bytes: u64) -> Usage {
    Usage { cpu_nanocores, memory_bytes, swap_bytes: None }
}

impl Memory {
    /// What the peer was given when its answers in `peer/` were taken.
    pub(super) fn as_peer() -> Self {
        let mut rows = Self::default();
        for name in ["node-1", "node-2", "unmeasured"] {
            let node = Object {
                labels: [("kubernetes.io/hostname", name)].into_iter().collect(),
                timestamp_ns: super::NOW_NS,
                window_ns: 60_000_000_000,
                containers: vec![(String::new(), usage(1_000_000_000, 27 << 20))],
                unmeasured: name == "unmeasured",
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
            };
            rows.pods.insert((namespace.to_owned(), name.to_owned()), pod);
        }
        rows
    }

    /// Many pods in some namespaces, and as many nodes.
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
                unmeasured: false,
            };
            rows.nodes.insert(format!("node-{index:06}"), object.clone());
            rows.pods.insert((format!("ns-{}", index % 3), format!("pod-{index:06}")), object);
        }
        rows
    }
}

fn visit_node<R>(name: &str, object: &Object, visit: &mut dyn FnMut(&NodeRow<'_>) -> R) -> R {
    let usage = object.containers.first().map(|(_, usage)| *usage).unwrap_or_default();
    let Object { labels, timestamp_ns, window_ns, .. } = object;
    visit(&NodeRow { name, labels, timestamp_ns: *timestamp_ns, window_ns: *window_ns, usage })
}

fn visit_pod<R>(key: &(String, String), object: &Object, visit: &mut dyn FnMut(&PodRow<'_>) -> R) -> R {
    let containers: Vec<ContainerRow<'_>> =
        object.containers.iter().map(|(name, usage)| ContainerRow { name, usage: *usage }).collect();
    visit(&PodRow {
        namespace: &key.0,
        name: &key.1,
        labels: &object.labels,
        timestamp_ns: object.timestamp_ns,
        window_ns: object.window_ns,
        containers: &containers,
    })
}

impl Rows for Memory {
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

    fn nodes(&self, after: Option<&str>, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, object) in self.nodes.range::<str, _>((start, Bound::Unbounded)) {
            if !object.unmeasured && visit_node(name, object, visit).is_break() {
                return;
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
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let after = after.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        for (key, object) in &self.pods {
            let wanted = namespace.is_none_or(|namespace| namespace == key.0)
                && after.as_ref().is_none_or(|after| after < key)
                && !object.unmeasured;
            if wanted && visit_pod(key, object, visit).is_break() {
                return;
            }
        }
    }
}
