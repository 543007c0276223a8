//! Our answers beside those of metrics-server v0.9.0.
//!
//! The files in `peer/` are what its API package (on k8s.io/apiserver v0.36.2, started by itself) response: its
//! storage was given the rows of [`InMemoryRows::metrics_server_rows`], and each file is one response body.

use serde_json::Value;

use super::protobuf::{comparable, read};
use super::{BASE, InMemoryRows, PROTOBUF, TABLE, YAML, api, get};

#[test]
fn json_is_the_same_bytes() {
    let api = api(InMemoryRows::metrics_server_rows());
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    for (path, accept, expected) in [
        ("/namespaces/default/pods", "application/json", include_str!("peer/pods.json")),
        ("/nodes", "*/*", include_str!("peer/nodes.json")),
        ("/nodes/node-1", "", include_str!("peer/node.json")),
        ("/nodes?includeObject=Object", TABLE, include_str!("peer/nodes-table.json")),
        ("/namespaces/default/pods", TABLE, include_str!("peer/pods-table.json")),
        ("/nodes", metadata, include_str!("peer/nodes-metadata.json")),
        ("/namespaces/default/pods/unmeasured", "", include_str!("peer/not-found.json")),
        ("/nodes?resourceVersionMatch=Exact", "", include_str!("peer/invalid.json")),
    ] {
        assert_eq!(get(&api, &format!("{BASE}{path}"), accept).text(), expected, "{path} {accept}");
    }
}

#[test]
fn protobuf_reads_the_same() {
    let api = api(InMemoryRows::metrics_server_rows());
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    for (path, accept, expected) in [
        ("/namespaces/default/pods", PROTOBUF, include_bytes!("peer/pods.pb").as_slice()),
        ("/nodes", PROTOBUF, include_bytes!("peer/nodes.pb")),
        ("/nodes/node-1", PROTOBUF, include_bytes!("peer/node.pb")),
        ("/nodes", &metadata, include_bytes!("peer/nodes-metadata.pb")),
        ("/namespaces/default/pods/unmeasured", PROTOBUF, include_bytes!("peer/not-found.pb")),
    ] {
        let ours = get(&api, &format!("{BASE}{path}"), accept);
        assert_eq!(ours.header("content-type"), PROTOBUF);
        assert_eq!(read(&ours.bytes()), read(expected), "{path}");
        let json = get(&api, &format!("{BASE}{path}"), &accept.replace(PROTOBUF, "application/json"));
        assert_eq!(read(&ours.bytes()), comparable(json.json()), "{path}");
    }
}

#[test]
fn yaml_reads_the_same() {
    let api = api(InMemoryRows::metrics_server_rows());
    let ours = get(&api, &format!("{BASE}/nodes/node-1"), YAML);
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
    assert_eq!(read(&ours.text()), read(include_str!("peer/node.yaml")));
    let mut lines: Vec<&str> = include_str!("peer/node.yaml").lines().collect();
    let text = ours.text();
    let mut ours: Vec<&str> = text.lines().collect();
    // Members stand in another order, written the same.
    lines.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, lines);
}
