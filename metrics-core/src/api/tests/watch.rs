//! Watches of rows that change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::memory::{Object, SharedRows, Update};
use super::protobuf::{comparable, read_events};
use super::{BASE, InMemoryRows, NOW_NS, PROTOBUF, TABLE, YAML, get, request};
use crate::api::step::Step;
use crate::api::watch::WatchStream;
use crate::api::{Api, ApiConfig, ResponseBody, request_info};
use crate::model::labels::Labels;
use crate::model::rows::Usage;

/// Reads the chunks that a watch currently has.
pub(super) fn read(watch: &mut WatchStream) -> Vec<Bytes> {
    read_at(watch, Instant::now())
}

fn read_at(watch: &mut WatchStream, now: Instant) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    for _ in 0..100_000 {
        match watch.step(now, NOW_NS) {
            Step::Chunk(chunk) => chunks.push(chunk),
            Step::Yield => {}
            Step::Wait(_) | Step::End => return chunks,
        }
    }
    panic!("the watch does not end");
}

fn owned(key: &str) -> (String, String) {
    let (namespace, name) = key.split_once('/').unwrap();
    (namespace.to_owned(), name.to_owned())
}

/// An API that serves watch.
fn config() -> ApiConfig {
    ApiConfig::default().with_watches(256)
}

struct WatchFixture {
    rows: SharedRows,
    api: Api,
}

impl WatchFixture {
    fn new() -> Self {
        Self::with(InMemoryRows::default(), config())
    }

    fn with(mut memory: InMemoryRows, config: ApiConfig) -> Self {
        memory.version = 1000;
        let rows = SharedRows(Arc::new(RwLock::new(memory)));
        Self { api: Api::new(Arc::new(rows.clone()), config), rows }
    }

    /// Stores a new sample of a pod.
    fn sample(&self, key: &str, labels: &[(&str, &str)], cpu: u64) {
        let mut rows = self.rows.0.write();
        let version = rows.version;
        rows.version += 1;
        let (namespace, name) = key.split_once('/').unwrap();
        let object = rows.pods.entry((namespace.to_owned(), name.to_owned())).or_default();
        if object.version == 0 {
            object.since = version;
        }
        let usage = Usage { cpu_nanocores: cpu, memory_bytes: 1024, swap_bytes: None };
        *object = Object {
            labels: labels.iter().copied().collect(),
            timestamp_ns: NOW_NS,
            window_ns: 15_000_000_000,
            containers: vec![("c".to_owned(), usage)],
            version,
            since: object.since,
            unmeasured: false,
        };
    }

    fn update(&self, key: (String, String), before: &Labels, after: Option<&Labels>) {
        let mut rows = self.rows.0.write();
        let version = rows.version;
        rows.version += 1;
        rows.updates.push(Update { version, key, before: before.clone(), after: after.cloned() });
    }

    /// Deletes a pod.
    fn delete(&self, key: &str) {
        let key = owned(key);
        let deleted = self.rows.0.write().pods.remove(&key);
        if let Some(deleted) = deleted {
            self.update(key.clone(), &deleted.labels, None);
            self.rows.0.write().last_known.insert(key, deleted);
        }
    }

    /// Changes the labels of a pod.
    fn relabel(&self, key: &str, labels: &[(&str, &str)]) {
        let key = owned(key);
        let new: Labels = labels.iter().copied().collect();
        let old =
            self.rows.0.write().pods.get_mut(&key).map(|pod| std::mem::replace(&mut pod.labels, new.clone()));
        if let Some(old) = old.filter(|old| *old != new) {
            self.update(key, &old, Some(&new));
        }
    }

    fn watch(&self, query: &str, accept: &str) -> ResponseBody {
        let request = request("GET", &format!("{BASE}{query}"), &[("accept", accept)]);
        let info = request_info(&request.method, &request.uri);
        let response = self.api.handle_at(&request, &info, NOW_NS);
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    fn version(&self) -> String {
        get(&self.api, &format!("{BASE}/pods"), "").json()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn events(body: &mut ResponseBody) -> Vec<Value> {
    let text = read(body.as_watch().unwrap()).concat();
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Returns type, name and CPU of each event, sorted by name.
fn brief(body: &mut ResponseBody) -> Vec<String> {
    let mut brief: Vec<String> = events(body)
        .iter()
        .map(|event| {
            let object = &event["object"];
            let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let cpu = word(&object["containers"][0]["usage"]["cpu"]);
            format!("{} {} {cpu}", word(&event["type"]), word(&object["metadata"]["name"]))
        })
        .collect();
    brief.sort_by_key(|line| line.split(' ').nth(1).map(str::to_owned));
    brief
}

#[test]
fn sends_initial_events_and_then_changes() {
    let fixture = WatchFixture::new();
    fixture.sample("n/a", &[], 1);
    fixture.sample("n/b", &[], 2);
    let mut watch = fixture.watch("/pods?watch=1", "");
    assert_eq!(brief(&mut watch), ["ADDED a 1n", "ADDED b 2n"]);
    assert!(brief(&mut watch).is_empty());
    fixture.sample("n/a", &[], 3);
    fixture.sample("n/c", &[], 4);
    fixture.sample("m/d", &[], 5);
    fixture.delete("n/b");
    assert_eq!(brief(&mut watch), ["MODIFIED a 3n", "DELETED b 2n", "ADDED c 4n", "ADDED d 5n"]);
    let mut namespace = fixture.watch("/namespaces/m/pods?watch=1", "");
    assert_eq!(brief(&mut namespace), ["ADDED d 5n"]);
    fixture.sample("n/d", &[], 6);
    fixture.delete("n/d");
    fixture.delete("m/d");
    fixture.sample("m/d", &[], 7);
    assert_eq!(brief(&mut namespace), ["DELETED d 7n", "ADDED d 7n"]);
    let mut one = fixture.watch("/namespaces/n/pods?watch=1&fieldSelector=metadata.name%3Da", "");
    assert_eq!(brief(&mut one), ["ADDED a 3n"]);
    fixture.sample("n/c", &[], 8);
    assert!(brief(&mut one).is_empty());
}

#[test]
fn resumes_from_a_list_and_from_any_event() {
    let fixture = WatchFixture::new();
    fixture.sample("n/a", &[], 1);
    let version = fixture.version();
    let mut watch = fixture.watch(&format!("/pods?watch=1&resourceVersion={version}"), "");
    assert!(events(&mut watch).is_empty());
    fixture.sample("n/b", &[], 2);
    fixture.sample("n/a", &[], 3);
    fixture.delete("n/b");
    let sent = events(&mut watch);
    assert_eq!(sent.len(), 2);
    let again = sent[0]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let mut resumed = fixture.watch(&format!("/pods?watch=1&resourceVersion={again}"), "");
    assert_eq!(brief(&mut resumed), ["MODIFIED a 3n", "DELETED b 2n"]);
    // All pages of a list have the resource version of the first page.
    fixture.sample("n/c", &[], 4);
    let first = get(&fixture.api, &format!("{BASE}/pods?limit=1"), "").json();
    fixture.sample("n/d", &[], 4);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = get(&fixture.api, &format!("{BASE}/pods?limit=9&continue={token}"), "").json();
    assert_eq!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
}

#[test]
fn returns_410_for_an_unknown_version() {
    let fixture = WatchFixture::new();
    for version in ["1", "5000", "99999999999999999999999"] {
        let mut watch = fixture.watch(&format!("/pods?watch=1&resourceVersion={version}"), "");
        let sent = events(&mut watch);
        assert_eq!((&sent[0]["type"], &sent[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert_eq!(sent[0]["object"]["reason"], "Expired");
        assert_eq!(watch.as_watch().unwrap().step(Instant::now(), NOW_NS), Step::End);
    }
    let mut watch = fixture.watch("/pods?watch=1&resourceVersion=1", PROTOBUF);
    let sent = read_events(&read(watch.as_watch().unwrap()).concat());
    assert_eq!((sent[0].0.as_str(), &sent[0].1["reason"]), ("ERROR", &json!("Expired")));
}

#[test]
fn sends_bookmarks_and_marks_the_end_of_initial_events() {
    let fixture = WatchFixture::new();
    fixture.sample("n/a", &[], 1);
    let query = "/pods?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=600";
    for accept in ["application/json", PROTOBUF] {
        let mut watch = fixture.watch(query, accept);
        let chunks = read(watch.as_watch().unwrap()).concat();
        let sent: Vec<(String, Value)> = if accept == PROTOBUF {
            read_events(&chunks)
        } else {
            let lines = std::str::from_utf8(&chunks).unwrap().lines();
            let read = |line| serde_json::from_str::<Value>(line).unwrap();
            lines
                .map(read)
                .map(|event| (event["type"].as_str().unwrap().to_owned(), event["object"].clone()))
                .collect()
        };
        let types: Vec<&str> = sent.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["ADDED", "BOOKMARK"]);
        let metadata = &sent[1].1["metadata"];
        assert_eq!(metadata["annotations"], json!({"k8s.io/initial-events-end": "true"}));
        assert_eq!(metadata["resourceVersion"], json!(fixture.version()));
    }
    let mut watch = fixture.watch(query, "");
    assert_eq!(events(&mut watch).len(), 2);
    fixture.rows.0.write().version += 5;
    let text = |chunks: Vec<Bytes>| String::from_utf8(chunks.concat()).unwrap();
    let late = text(read_at(watch.as_watch().unwrap(), Instant::now() + Duration::from_secs(70)));
    assert!(late.contains("BOOKMARK") && late.contains(&fixture.version()) && !late.contains("annotations"));
    let over = Instant::now() + Duration::from_secs(601);
    assert!(text(read_at(watch.as_watch().unwrap(), over)).contains("BOOKMARK"));
    assert_eq!(watch.as_watch().unwrap().step(over, NOW_NS), Step::End);
}

#[test]
fn label_changes_add_and_delete_objects() {
    let fixture = WatchFixture::new();
    fixture.sample("n/a", &[("app", "x")], 1);
    fixture.sample("n/b", &[("app", "y")], 2);
    let mut watch = fixture.watch("/pods?watch=1&labelSelector=app%3Dx", "");
    assert_eq!(brief(&mut watch), ["ADDED a 1n"]);
    fixture.relabel("n/a", &[("app", "y")]);
    fixture.relabel("n/b", &[("app", "z")]);
    assert_eq!(brief(&mut watch), ["DELETED a 1n"]);
    fixture.relabel("n/b", &[("app", "x")]);
    assert_eq!(brief(&mut watch), ["ADDED b 2n"], "without a new sample");
    fixture.sample("n/a", &[("app", "y")], 3);
    fixture.sample("n/b", &[("app", "x")], 4);
    assert_eq!(brief(&mut watch), ["MODIFIED b 4n"]);
    fixture.relabel("n/b", &[("app", "x"), ("tier", "t")]);
    assert_eq!(brief(&mut watch), ["MODIFIED b 4n"]);
}

/// Whatever happens between two reads, the types follow from what the client knows.
#[test]
fn types_of_events_follow_from_the_labels_as_of_each_change() {
    let fixture = WatchFixture::new();
    let (selected, other) = ([("app", "x")], [("app", "y")]);
    for name in ["a", "b", "c", "d"] {
        fixture.sample(&format!("n/{name}"), &other, 1);
    }
    fixture.sample("n/e", &selected, 1);
    let mut watch = fixture.watch("/pods?watch=1&labelSelector=app%3Dx", "");
    assert_eq!(brief(&mut watch), ["ADDED e 1n"]);
    // A sample, then the label: the sample is not of a selected pod.
    fixture.sample("n/a", &other, 2);
    fixture.relabel("n/a", &selected);
    // The label, then a sample.
    fixture.relabel("n/b", &selected);
    fixture.sample("n/b", &selected, 2);
    // Selected for a moment.
    fixture.relabel("n/c", &selected);
    fixture.relabel("n/c", &other);
    // Not selected for a moment.
    fixture.relabel("n/e", &other);
    fixture.relabel("n/e", &selected);
    // New and selected, then not selected; new, then selected.
    fixture.sample("n/f", &selected, 2);
    fixture.relabel("n/f", &other);
    fixture.sample("n/g", &other, 2);
    fixture.relabel("n/g", &selected);
    // New, relabeled and sampled again: known only as of the last sample.
    fixture.sample("n/h", &other, 2);
    fixture.relabel("n/h", &selected);
    fixture.sample("n/h", &selected, 3);
    let words: Vec<_> = brief(&mut watch);
    assert_eq!(
        words,
        [
            "ADDED a 2n",
            "ADDED b 2n",
            "MODIFIED b 2n",
            "ADDED c 1n",
            "DELETED c 1n",
            "DELETED e 1n",
            "ADDED e 1n",
            "ADDED f 2n",
            "DELETED f 2n",
            "ADDED g 2n",
            "ADDED h 3n",
        ]
    );
    let labels = |event: &Value| event["object"]["metadata"]["labels"]["app"].as_str().unwrap().to_owned();
    fixture.relabel("n/g", &other);
    assert_eq!(events(&mut watch).iter().map(labels).collect::<Vec<_>>(), ["x"], "as it was last selected");
}

#[test]
fn without_watch_responses_are_those_of_metrics_server() {
    let mut rows = InMemoryRows::metrics_server_rows();
    rows.version = 1000;
    rows.pods.values_mut().chain(rows.nodes.values_mut()).for_each(|object| object.version = 999);
    let api = Api::new(Arc::new(rows.clone()), ApiConfig::default());
    let watching = Api::new(Arc::new(rows), config());
    let verbs = |api: &Api| {
        let plain = get(api, BASE, "").json()["resources"][0]["verbs"].clone();
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let aggregated = get(api, "/apis", aggregated).json()["items"][0]["versions"][1].clone();
        assert_eq!(aggregated["resources"][1]["verbs"], plain);
        let protobuf = String::from_utf8_lossy(&get(api, BASE, PROTOBUF).bytes()).contains("watch");
        assert_eq!(protobuf, plain.as_array().unwrap().contains(&json!("watch")));
        plain
    };
    assert_eq!((verbs(&api), verbs(&watching)), (json!(["get", "list"]), json!(["get", "list", "watch"])));
    for query in ["/pods?watch=1", "/namespaces/default/pods?watch=true&resourceVersion=1000", "/nodes?watch"]
    {
        let rejected = get(&api, &format!("{BASE}{query}"), "");
        let resource = if query.contains("nodes") { "nodes" } else { "pods" };
        let expected = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("watch is not supported on resources of kind \"{resource}.metrics.k8s.io\""),
            "reason": "MethodNotAllowed",
            "details": {"group": "metrics.k8s.io", "kind": resource},
            "code": 405,
        });
        assert_eq!((rejected.status.as_u16(), rejected.json()), (405, expected), "{query}");
    }
    // As in kube-apiserver, what is wrong with the request comes first.
    assert_eq!(get(&api, &format!("{BASE}/pods?watch=1&labelSelector=!"), "").status, 400);
    assert_eq!(get(&api, &format!("{BASE}/pods?watch=1"), "text/html").status, 406);
    assert_eq!(get(&api, &format!("{BASE}/watch/pods"), "").status, 404);
    assert_eq!(get(&watching, &format!("{BASE}/watch/pods"), "").status, 404);
    for path in ["/pods", "/pods?limit=1", "/nodes/node-1", "/namespaces/default/pods/one"] {
        for accept in ["", PROTOBUF, TABLE] {
            let (without, with) = (
                get(&api, &format!("{BASE}{path}"), accept),
                get(&watching, &format!("{BASE}{path}"), accept),
            );
            let has_version = |bytes: &[u8]| bytes.windows(3).any(|bytes| bytes == b"999");
            assert!(!has_version(&without.bytes()) && has_version(&with.bytes()), "{path} {accept}");
        }
        let list = get(&api, &format!("{BASE}{path}"), "").json();
        assert_eq!(list["metadata"]["resourceVersion"], Value::Null, "{path}");
    }
}

#[test]
fn a_list_of_an_exact_version_has_expired() {
    for watches in [0, 256] {
        let api = Api::new(
            Arc::new(InMemoryRows::metrics_server_rows()),
            ApiConfig::default().with_watches(watches),
        );
        let expired = get(&api, &format!("{BASE}/pods?resourceVersion=7&resourceVersionMatch=Exact"), "");
        assert_eq!((expired.status.as_u16(), &expired.json()["reason"]), (410, &json!("Expired")));
        for query in [
            "resourceVersion=7",
            "resourceVersion=7&resourceVersionMatch=NotOlderThan",
            "resourceVersion=0&limit=1",
        ] {
            assert_eq!(get(&api, &format!("{BASE}/pods?{query}"), "").status, 200, "{query}");
        }
    }
}

#[test]
fn events_support_the_views_and_encodings_of_lists() {
    let fixture = WatchFixture::with(InMemoryRows::metrics_server_rows(), config());
    let metadata = "as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    for (json, protobuf) in [
        ("application/json".to_owned(), PROTOBUF.to_owned()),
        ("application/json;stream=watch".to_owned(), format!("{PROTOBUF};stream=watch")),
        (format!("application/json;{metadata}"), format!("{PROTOBUF};{metadata}")),
    ] {
        for path in ["/nodes?watch=1", "/pods?watch=1"] {
            let plain = get(&fixture.api, &format!("{BASE}{path}"), &json);
            assert_eq!(plain.header("content-type"), "application/json");
            let encoded = get(&fixture.api, &format!("{BASE}{path}"), &protobuf);
            assert_eq!(encoded.header("content-type"), "application/vnd.kubernetes.protobuf;stream=watch");
            let lines: Vec<(String, Value)> = plain
                .text()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .map(|event| {
                    (event["type"].as_str().unwrap().to_owned(), comparable(event["object"].clone()))
                })
                .collect();
            assert_eq!(read_events(&encoded.bytes()), lines);
        }
    }
    let table = get(&fixture.api, &format!("{BASE}/pods?watch=1"), TABLE).text();
    let tables: Vec<Value> = table.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let columns = |event: &Value| event["object"]["columnDefinitions"].as_array().map(Vec::len);
    assert_eq!(tables.iter().map(columns).collect::<Vec<_>>(), [Some(5), None, None]);
    assert_eq!(tables[2]["object"]["rows"][0]["cells"][0], "dns");
    for unsupported in [YAML, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"] {
        let rejected = get(&fixture.api, &format!("{BASE}/pods?watch=1"), unsupported);
        assert_eq!(rejected.status, 406, "{unsupported}");
    }
    assert!(get(&fixture.api, &format!("{BASE}/pods?watch=1"), &format!("{YAML},*/*")).status.is_success());
}

#[test]
fn returns_429_above_the_watch_limit_and_ends_all_watches() {
    let fixture =
        WatchFixture::with(InMemoryRows::metrics_server_rows(), ApiConfig::default().with_watches(1));
    let mut watch = fixture.watch("/pods?watch=1&resourceVersion=1000", "");
    let rejected = get(&fixture.api, &format!("{BASE}/nodes?watch=1"), "");
    assert_eq!((rejected.status.as_u16(), rejected.header("retry-after")), (429, "5"));
    assert_eq!(rejected.json()["details"]["retryAfterSeconds"], 5);
    fixture.api.end_watches();
    assert_eq!(watch.as_watch().unwrap().step(Instant::now(), NOW_NS), Step::End);
    drop(watch);
    assert_eq!(get(&fixture.api, &format!("{BASE}/nodes?watch=1"), "").status, 200);
}

#[test]
fn sends_many_events_in_chunks() {
    let fixture = WatchFixture::with(InMemoryRows::many(3000), config());
    let response = get(&fixture.api, &format!("{BASE}/pods?watch=1"), "");
    assert_eq!(response.text().lines().count(), 3000);
    assert!(response.chunks.len() > 10 && response.chunks.iter().all(|chunk| chunk.len() < 40 * 1024));
}

#[derive(Clone, Debug)]
enum Action {
    Sample(u8, u8),
    Relabel(u8, u8),
    Delete(u8),
    Read,
    Reconnect,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..6_u8, 0..2_u8).prop_map(|(pod, label)| Action::Sample(pod, label)),
        2 => (0..6_u8, 0..2_u8).prop_map(|(pod, label)| Action::Relabel(pod, label)),
        2 => (0..6_u8).prop_map(Action::Delete),
        2 => Just(Action::Read),
        1 => Just(Action::Reconnect),
    ]
}

proptest! {
    /// A client that lists and then applies watch events has the same objects as a new list, however it reads and
    /// reconnects.
    #[test]
    fn a_reflector_has_the_objects_of_a_list(
        before in prop::collection::vec(action(), 0..12),
        after in prop::collection::vec(action(), 0..24),
        query in prop::sample::select(vec!["", "labelSelector=l%3D1", "fieldSelector=metadata.namespace%3Dn1", "fieldSelector=metadata.name%3Dp2"]),
    ) {
        let fixture = WatchFixture::new();
        let names: Vec<String> = (0..6).map(|pod| format!("n{}/p{pod}", pod % 2)).collect();
        let mut cpu = 0;
        let mut apply = |action: &Action| {
            cpu += 1;
            let label = |label: &u8| label.to_string();
            match action {
                Action::Sample(pod, l) => {
                    let (name, labels) = (&names[usize::from(*pod)], [("l", &*label(l))]);
                    fixture.relabel(name, &labels);
                    fixture.sample(name, &labels, cpu);
                }
                Action::Relabel(pod, l) => fixture.relabel(&names[usize::from(*pod)], &[("l", &label(l))]),
                Action::Delete(pod) => fixture.delete(&names[usize::from(*pod)]),
                Action::Read | Action::Reconnect => {}
            }
        };
        let list = || {
            let list = get(&fixture.api, &format!("{BASE}/pods?{query}"), "").json();
            let objects: BTreeMap<String, Value> = list["items"].as_array().unwrap().iter()
                .map(|object| (object["metadata"]["name"].to_string(), object["containers"].clone()))
                .collect();
            (objects, list["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
        };
        before.iter().for_each(&mut apply);
        let (mut known, mut version) = list();
        let open = |version: &str| fixture.watch(&format!("/pods?watch=1&resourceVersion={version}&{query}"), "");
        let mut watch = open(&version);
        for step in after.iter().chain([&Action::Read]) {
            apply(step);
            match step {
                Action::Read => {
                    for event in events(&mut watch) {
                        let object = &event["object"];
                        let name = object["metadata"]["name"].to_string();
                        match event["type"].as_str().unwrap() {
                            "DELETED" => drop(known.remove(&name)),
                            _ => drop(known.insert(name, object["containers"].clone())),
                        }
                        object["metadata"]["resourceVersion"].as_str().unwrap().clone_into(&mut version);
                    }
                }
                Action::Reconnect => watch = open(&version),
                _ => {}
            }
        }
        prop_assert_eq!(known, list().0);
    }
}
