//! Lists: in all encodings, in pages, in chunks, and while rows change.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Body as _;
use parking_lot::RwLock;
use proptest::prelude::*;
use serde_json::Value;

use super::memory::{Object, SharedRows};
use super::protobuf::{comparable, read};
use super::{BASE, InMemoryRows, PROTOBUF, TABLE, YAML, api, drain, get, request, send};
use crate::api::{Api, ApiConfig, ResponseBody, request_info};
use crate::memory::{MemoryBudget, MemoryClass, Reservation};
use crate::model::rows::Usage;

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sends_long_lists_in_chunks_and_short_lists_complete() {
    let long = api(InMemoryRows::many(20_000));
    for accept in ["application/json", YAML, PROTOBUF, TABLE] {
        let pods = get(&long, &format!("{BASE}/pods"), accept);
        assert!(!pods.length_known, "{accept}");
        assert!(pods.chunks.len() > 10);
        // Indentation makes a chunk longer than its compact JSON, but no chunk has more than one batch.
        assert!(pods.chunks.iter().all(|chunk| chunk.len() < 128 * 1024), "{accept}");
        let one = get(&long, &format!("{BASE}/nodes?limit=100"), accept);
        assert!(one.length_known, "{accept}");
    }
    let json = get(&long, &format!("{BASE}/pods"), "application/json").json();
    let names = names(&json);
    assert_eq!(names.len(), 20_000);
    let protobuf = read(&get(&long, &format!("{BASE}/pods"), PROTOBUF).bytes());
    assert!(protobuf == comparable(json.clone()));
    let pretty = get(&long, &format!("{BASE}/pods?pretty=1"), "application/json");
    assert!(pretty.text().starts_with("{\n  \"kind\": \"PodMetricsList\","));
    assert!(pretty.json() == json);
    let table = get(&long, &format!("{BASE}/pods?includeObject=None"), TABLE).json();
    let cells: Vec<&str> =
        table["rows"].as_array().unwrap().iter().map(|row| row["cells"][0].as_str().unwrap()).collect();
    assert_eq!(cells, names);
}

#[test]
fn yaml_lists_equal_json_lists() {
    let api = api(InMemoryRows::many(700));
    let yaml: Value = serde_saphyr::from_str(&get(&api, &format!("{BASE}/pods"), YAML).text()).unwrap();
    assert_eq!(yaml, get(&api, &format!("{BASE}/pods"), "application/json").json());
}

#[test]
fn applies_selectors_before_the_limit() {
    let api = api(InMemoryRows::many(10_000));
    let list = |query: &str| get(&api, &format!("{BASE}{query}"), "application/json").json();
    assert_eq!(names(&list("/pods?labelSelector=index%3D9999")), ["pod-009999"]);
    assert_eq!(names(&list("/nodes?labelSelector=index%20in%20(3,1,x)")), ["node-000001", "node-000003"]);
    assert_eq!(names(&list("/nodes?fieldSelector=metadata.name=node-000002")), ["node-000002"]);
    assert!(names(&list("/nodes?fieldSelector=metadata.name=node-000002,metadata.namespace=x")).is_empty());
    assert!(names(&list("/nodes?fieldSelector=metadata.name=node-000002&labelSelector=app=none")).is_empty());
    assert_eq!(names(&list("/pods?fieldSelector=metadata.name=pod-000002")), ["pod-000002"]);
    assert_eq!(names(&list("/namespaces/ns-2/pods?fieldSelector=metadata.name=pod-000002")), ["pod-000002"]);
    assert!(names(&list("/namespaces/ns-1/pods?fieldSelector=metadata.name=pod-000002")).is_empty());
    let one_namespace = names(&list("/namespaces/ns-1/pods"));
    assert_eq!(one_namespace.len(), 3333);
    assert_eq!(names(&list("/pods?fieldSelector=metadata.namespace=ns-1")), one_namespace);
    assert!(names(&list("/namespaces/ns-1/pods?fieldSelector=metadata.namespace=ns-2")).is_empty());
    assert_eq!(names(&list("/pods?fieldSelector=metadata.namespace!%3Dns-1")).len(), 6667);
    assert_eq!(names(&list("/pods?labelSelector=app%3Da0&limit=2")), ["pod-000000", "pod-000021"]);
}

#[test]
fn pages_together_are_the_whole_list() {
    let api = api(InMemoryRows::many(1000));
    for (path, limit) in [("/pods", 7), ("/pods", 1000), ("/nodes", 333), ("/namespaces/ns-0/pods", 50)] {
        for accept in ["application/json", PROTOBUF] {
            let decode = |response: super::TestResponse| match accept {
                PROTOBUF => read(&response.bytes()),
                _ => response.json(),
            };
            let whole = names(&decode(get(&api, &format!("{BASE}{path}"), accept)));
            let mut paged = Vec::new();
            let mut token = String::new();
            loop {
                let uri = format!("{BASE}{path}?limit={limit}&continue={token}");
                let page = decode(get(&api, &uri, accept));
                assert!(names(&page).len() <= limit);
                paged.extend(names(&page));
                match page["metadata"]["continue"].as_str() {
                    Some(next) => next.clone_into(&mut token),
                    None => break,
                }
                assert_eq!(names(&page).len(), limit);
            }
            assert_eq!(paged, whole, "{path} {limit} {accept}");
        }
    }
}

#[test]
fn protobuf_second_pass_encodes_the_measured_rows() {
    let rows = Arc::new(InMemoryRows::many(6_000));
    // With 0, even a single object takes two passes.
    for max_encoded_list_bytes in [1 << 16, 0] {
        let config = ApiConfig { swap: false, max_encoded_list_bytes, ..ApiConfig::default() };
        let api = Api::new(rows.clone(), config);
        for query in [
            "labelSelector=app!%3Da3",
            "labelSelector=app%3Da3",
            "limit=3000",
            "labelSelector=app!%3Da3&limit=3000",
            "fieldSelector=metadata.name!%3Dnode-005000",
            "fieldSelector=metadata.name%3Dnode-000005",
            "fieldSelector=metadata.name%3Dpod-000005,metadata.namespace%3Dns-2",
        ] {
            for path in ["/nodes", "/pods"] {
                let uri = format!("{BASE}{path}?{query}");
                let json = get(&api, &uri, "application/json").json();
                let protobuf = read(&get(&api, &uri, PROTOBUF).bytes());
                assert!(protobuf == comparable(json), "{uri} {max_encoded_list_bytes}");
            }
        }
    }
}

/// Returns the first chunk of a list, and the unread rest.
fn start(api: &Api, uri: &str) -> (Bytes, ResponseBody) {
    let request = request("GET", uri, &[("accept", PROTOBUF)]);
    let info = request_info(&request.method, &request.uri);
    let mut body = api.handle_at(&request, &info, super::NOW_NS).into_body();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut context) {
            return (Bytes::copy_from_slice(&frame.unwrap().unwrap().into_data().unwrap()), body);
        }
    }
}

/// Returns a budget of which lists that are encoded before they are sent may take `bytes`.
fn memory_for_encoded_lists(bytes: usize) -> (Arc<MemoryBudget>, Reservation) {
    let memory = MemoryBudget::new(64 << 20);
    let rest = memory.max(MemoryClass::EncodedLists) - bytes;
    let taken = memory.try_reserve(MemoryClass::EncodedLists, rest).unwrap();
    (memory, taken)
}

#[test]
fn unread_lists_stay_within_the_memory_budget() {
    const BUDGET: usize = 1 << 18;
    let rows = Arc::new(InMemoryRows::many(6_000));
    let (memory, taken) = memory_for_encoded_lists(BUDGET);
    let available = || BUDGET + taken.bytes() - memory.reserved_of(MemoryClass::EncodedLists);
    let api =
        Api::with_memory(rows.clone(), ApiConfig { swap: false, ..ApiConfig::default() }, memory.clone());
    let alone = Api::new(rows, ApiConfig { swap: false, ..ApiConfig::default() });
    for path in ["/pods", "/nodes", "/pods?labelSelector=app!%3Da3", "/nodes?limit=5000"] {
        let uri = format!("{BASE}{path}");
        let whole = get(&alone, &uri, PROTOBUF).bytes();
        assert!(whole.len() > 2 * BUDGET, "{path}");
        let slow: Vec<_> = (0..4).map(|_| start(&api, &uri)).collect();
        assert!(available() < 1 << 16, "{path}");
        assert!(get(&api, &uri, PROTOBUF).bytes() == whole, "{path}");
        for (at, (first, body)) in slow.into_iter().enumerate() {
            // One client disconnects.
            if at != 1 {
                assert!([vec![first], drain(body)].concat().concat() == whole, "{path} {at}");
            }
        }
        assert_eq!(available(), BUDGET, "{path}");
    }
}

#[test]
fn rows_keep_their_order_if_memory_is_released_while_a_list_records() {
    let rows = Arc::new(InMemoryRows::many(6_000));
    let (memory, _taken) = memory_for_encoded_lists(1 << 18);
    let api = Api::with_memory(rows, ApiConfig { swap: false, ..ApiConfig::default() }, memory);
    let uri = format!("{BASE}/pods");
    let whole = get(&api, &uri, PROTOBUF).bytes();
    let slow = start(&api, &uri);
    let request = request("GET", &uri, &[("accept", PROTOBUF)]);
    let info = request_info(&request.method, &request.uri);
    // Its first steps ran while the whole budget was reserved.
    let body = api.handle_at(&request, &info, super::NOW_NS).into_body();
    drop(slow);
    assert!(drain(body).concat() == whole);
}

#[test]
fn rejects_continue_tokens_of_other_lists() {
    let api = api(InMemoryRows::many(100));
    let token = |path: &str| {
        let list = get(&api, &format!("{BASE}{path}?limit=1"), "").json();
        list["metadata"]["continue"].as_str().unwrap().to_owned()
    };
    let code = |path: &str, token: &str| {
        send(&api, "GET", &format!("{BASE}{path}?continue={token}"), &[]).status.as_u16()
    };
    assert_eq!(code("/pods", &token("/namespaces/ns-1/pods")), 200);
    assert_eq!(code("/namespaces/ns-2/pods", &token("/namespaces/ns-1/pods")), 400);
    assert_eq!(code("/pods", &token("/nodes")), 400);
    assert_eq!(code("/nodes", &token("/pods")), 400);
    assert_eq!(code("/nodes", "abc"), 400);
}

#[test]
fn lists_are_well_formed_while_rows_change() {
    for accept in ["application/json", YAML, PROTOBUF] {
        let rows = SharedRows(Arc::new(RwLock::new(InMemoryRows::many(20_000))));
        let config = ApiConfig { max_encoded_list_bytes: 1 << 16, ..ApiConfig::default() };
        let api = Api::new(Arc::new(rows.clone()), config);
        let request = request("GET", &format!("{BASE}/nodes"), &[("accept", accept)]);
        let info = request_info(&request.method, &request.uri);
        let response = api.handle_at(&request, &info, super::NOW_NS);
        // All rows after the current position are removed, and one is added.
        rows.0.write().nodes.retain(|name, _| name.as_str() < "node-001000");
        rows.0.write().nodes.insert("zz".to_owned(), Object::default());
        let bytes = drain(response.into_body()).concat();
        let list: Value = match accept {
            PROTOBUF => read(&bytes),
            YAML => serde_saphyr::from_str(std::str::from_utf8(&bytes).unwrap()).unwrap(),
            _ => serde_json::from_slice(&bytes).unwrap(),
        };
        let names = names(&list);
        assert_eq!(names.last().unwrap(), "zz");
        assert!(names.is_sorted());
    }
}

fn objects() -> impl Strategy<Value = InMemoryRows> {
    let usage = (any::<u64>(), any::<u64>(), any::<Option<u64>>()).prop_map(
        |(cpu_nanocores, memory_bytes, swap_bytes)| Usage { cpu_nanocores, memory_bytes, swap_bytes },
    );
    let containers = prop::collection::btree_map("[a-z]{1,3}", usage, 1..4);
    let labels = prop::collection::btree_map("[a-z]{1,3}", "[a-z0-9]{0,3}|true|1e3", 0..4);
    let object = (labels, any::<u32>(), 0_i64..3_000_000_000_000, containers).prop_map(
        |(labels, at, window_ns, containers)| {
            Object {
                labels: labels.into_iter().collect(),
                timestamp_ns: i64::from(at) * 1_000_000_000 + 5,
                // At least a second, which `comparable` parses.
                window_ns: 1_000_000_000 + window_ns,
                containers: containers.into_iter().collect(),
                ..Object::default()
            }
        },
    );
    (
        prop::collection::btree_map("[a-z]{1,3}", object.clone(), 0..6),
        prop::collection::btree_map(("[ab]", "[a-z]{1,3}"), object, 0..6),
    )
        .prop_map(|(nodes, pods)| InMemoryRows { nodes, pods, ..InMemoryRows::default() })
}

proptest! {
    #[test]
    fn all_encodings_have_the_same_content(rows in objects(), swap in any::<bool>(), limit in 0_usize..4) {
        let api = Api::new(Arc::new(rows.clone()), ApiConfig { swap, max_encoded_list_bytes: 100, ..ApiConfig::default() });
        for (path, expected) in [("/nodes", rows.nodes.len()), ("/pods", rows.pods.len())] {
            let uri = format!("{BASE}{path}?limit={limit}");
            let json = get(&api, &uri, "application/json").json();
            let expected_items = if limit == 0 { expected } else { expected.min(limit) };
            prop_assert_eq!(names(&json).len(), expected_items);
            prop_assert_eq!(json["metadata"].get("continue").is_some(), expected_items < expected);
            prop_assert_eq!(read(&get(&api, &uri, PROTOBUF).bytes()), comparable(json.clone()));
            let yaml: Value = serde_saphyr::from_str(&get(&api, &uri, YAML).text()).unwrap();
            prop_assert_eq!(&yaml, &json);
            prop_assert_eq!(&get(&api, &format!("{uri}&pretty=1"), "").json(), &json);
            let table = get(&api, &format!("{uri}&includeObject=Object"), TABLE).json();
            for (row, item) in table["rows"].as_array().unwrap().iter().zip(json["items"].as_array().unwrap()) {
                prop_assert_eq!(&row["cells"][0], &item["metadata"]["name"]);
                prop_assert_eq!(row["cells"].as_array().unwrap().len(), table["columnDefinitions"].as_array().unwrap().len());
                prop_assert_eq!(&row["object"]["metadata"], &item["metadata"]);
                prop_assert_eq!(&row["cells"][3], &item["window"]);
            }
            let usage = if path == "/nodes" { &json["items"][0]["usage"] } else { &json["items"][0]["containers"][0]["usage"] };
            prop_assert!(swap || usage.get("swap").is_none());
        }
    }
}
