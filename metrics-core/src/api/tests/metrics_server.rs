//! Compares responses with those of metrics-server v0.9.0.
//!
//! Each file in `metrics_server/` is a response body of its API package (on k8s.io/apiserver v0.36.2, run on its
//! own), with the rows of [`InMemoryRows::metrics_server_rows`].

use serde_json::Value;

use super::protobuf::{comparable, read};
use super::{BASE, InMemoryRows, PROTOBUF, TABLE, YAML, api, get};

#[test]
fn json_is_identical() {
    let api = api(InMemoryRows::metrics_server_rows());
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    for (path, accept, expected) in [
        ("/namespaces/default/pods", "application/json", include_str!("metrics_server/pods.json")),
        ("/nodes", "*/*", include_str!("metrics_server/nodes.json")),
        ("/nodes/node-1", "", include_str!("metrics_server/node.json")),
        ("/nodes?includeObject=Object", TABLE, include_str!("metrics_server/nodes-table.json")),
        ("/namespaces/default/pods", TABLE, include_str!("metrics_server/pods-table.json")),
        ("/nodes", metadata, include_str!("metrics_server/nodes-metadata.json")),
        ("/namespaces/default/pods/unmeasured", "", include_str!("metrics_server/not-found.json")),
        ("/nodes?resourceVersionMatch=Exact", "", include_str!("metrics_server/invalid.json")),
    ] {
        assert_eq!(get(&api, &format!("{BASE}{path}"), accept).text(), expected, "{path} {accept}");
    }
}

#[test]
fn protobuf_decodes_to_the_same_values() {
    let api = api(InMemoryRows::metrics_server_rows());
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    for (path, accept, expected) in [
        ("/namespaces/default/pods", PROTOBUF, include_bytes!("metrics_server/pods.pb").as_slice()),
        ("/nodes", PROTOBUF, include_bytes!("metrics_server/nodes.pb")),
        ("/nodes/node-1", PROTOBUF, include_bytes!("metrics_server/node.pb")),
        ("/nodes", &metadata, include_bytes!("metrics_server/nodes-metadata.pb")),
        ("/namespaces/default/pods/unmeasured", PROTOBUF, include_bytes!("metrics_server/not-found.pb")),
    ] {
        let ours = get(&api, &format!("{BASE}{path}"), accept);
        assert_eq!(ours.header("content-type"), PROTOBUF);
        assert_eq!(read(&ours.bytes()), read(expected), "{path}");
        let json = get(&api, &format!("{BASE}{path}"), &accept.replace(PROTOBUF, "application/json"));
        assert_eq!(read(&ours.bytes()), comparable(json.json()), "{path}");
    }
}

#[test]
fn yaml_parses_to_the_same_values() {
    let api = api(InMemoryRows::metrics_server_rows());
    let ours = get(&api, &format!("{BASE}/nodes/node-1"), YAML);
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
    assert_eq!(read(&ours.text()), read(include_str!("metrics_server/node.yaml")));
    let mut lines: Vec<&str> = include_str!("metrics_server/node.yaml").lines().collect();
    let text = ours.text();
    let mut ours: Vec<&str> = text.lines().collect();
    // The lines are the same, except for the order of members.
    lines.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, lines);
}
