//! A store with one or more nodes, and rows that can be compared.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use metrics_core::ingest::discover::Node;
use metrics_core::ingest::store::{Store, StoreConfig, StoreDirectory};
use metrics_core::model::labels::Labels;
use metrics_core::model::rows::{NodeRow, Pick, PodRow, Rows};

/// A row, without its version: namespace (empty for nodes) and name, then labels and values.
pub(crate) type Row = ((String, String), String);
/// Rows by key.
pub(crate) type Table = BTreeMap<(String, String), String>;

pub(crate) fn node(name: &str, uid: &str, labels: Labels) -> Node {
    Node {
        name: name.into(),
        uid: uid.into(),
        labels,
        addresses: Box::default(),
        identities: Box::default(),
        port: 10250,
        path: "/metrics/resource".into(),
        ready: true,
        cpu_millicores: 4000,
    }
}

/// Returns an empty store, and its directory in which both lists have begun.
pub(crate) fn empty_store() -> (Arc<StoreDirectory>, Arc<Store>) {
    let directory = Arc::new(StoreDirectory::new());
    let store = Arc::new(Store::new(directory.clone(), StoreConfig::new(Duration::from_secs(15))));
    directory.begin_node_list();
    directory.begin_pod_list();
    (directory, store)
}

pub(crate) fn pod_row(row: &PodRow<'_>) -> Row {
    let names: Vec<_> = row.containers.iter().map(|container| container.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    let values = format!("{:?} {} {} {:?}", row.labels, row.timestamp_ns, row.window_ns, row.containers);
    ((row.namespace.to_owned(), row.name.to_owned()), values)
}

pub(crate) fn node_row(row: &NodeRow<'_>) -> Row {
    let values = format!("{:?} {} {} {:?}", row.labels, row.timestamp_ns, row.window_ns, row.usage);
    ((String::new(), row.name.to_owned()), values)
}

/// Returns all pods, or those of one namespace, after a key.
pub(crate) fn pods(rows: &dyn Rows, namespace: Option<&str>, after: Option<(&str, &str)>) -> Vec<Row> {
    let mut found = Vec::new();
    rows.pods(namespace, after, &mut |_, _| Pick::Take, &mut |row| {
        found.push(pod_row(row));
        ControlFlow::Continue(())
    });
    found
}

pub(crate) fn nodes(rows: &dyn Rows, after: Option<&str>) -> Vec<Row> {
    let mut found = Vec::new();
    rows.nodes(after, &mut |_, _| Pick::Take, &mut |row| {
        found.push(node_row(row));
        ControlFlow::Continue(())
    });
    found
}
