//! Lists that are compressed.

use std::sync::Arc;

use libdeflater::Decompressor;
use serde_json::json;

use super::{BASE, InMemoryRows, PROTOBUF, TABLE, TestResponse, YAML, api, send};
use crate::api::{Api, ApiConfig};

fn list(api: &Api, path: &str, accept: &str, encoding: &str) -> TestResponse {
    send(api, "GET", &format!("{BASE}{path}"), &[("accept", accept), ("accept-encoding", encoding)])
}

/// Returns the body without compression, and checks that it is one gzip member.
fn inflated(response: &TestResponse, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    assert_eq!(Decompressor::new().gzip_decompress(&response.bytes(), &mut out), Ok(length));
    out
}

#[test]
fn long_lists_are_gzipped_for_clients_that_accept_it() {
    let api = api(InMemoryRows::many(3600));
    for accept in ["application/json", PROTOBUF, YAML, TABLE, "application/json;pretty=1"] {
        for path in ["/pods", "/nodes", "/pods?limit=2000", "/namespaces/ns-1/pods"] {
            let plain = list(&api, path, accept, "identity");
            assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept-Encoding"));
            let gzip = list(&api, path, accept, "gzip");
            let headers = ["content-encoding", "vary", "content-type", "cache-control"];
            assert_eq!(
                headers.map(|name| gzip.header(name)),
                ["gzip", "Accept-Encoding", plain.header("content-type"), plain.header("cache-control")],
                "{path} {accept}"
            );
            assert!(!gzip.length_known);
            let (plain, compressed) = (plain.bytes(), gzip.bytes());
            assert!(plain.len() > 128 << 10 && compressed.len() * 4 < plain.len(), "{path} {accept}");
            assert!(inflated(&gzip, plain.len()) == plain, "{path} {accept}");
        }
    }
}

#[test]
fn lists_below_128_kib_are_not_compressed() {
    let (mut short, mut long) = (0, 0);
    for count in (400..1100).step_by(7) {
        let api = api(InMemoryRows::many(count));
        for accept in ["application/json", PROTOBUF] {
            let length = list(&api, "/pods", accept, "identity").bytes().len();
            let response = list(&api, "/pods", accept, "gzip");
            if length < 128 << 10 {
                short += 1;
                assert_eq!(
                    (response.header("content-encoding"), response.header("vary")),
                    ("", ""),
                    "{length}"
                );
                assert!(response.length_known && response.bytes().len() == length);
            } else {
                long += 1;
                assert_eq!(response.header("content-encoding"), "gzip", "{length}");
            }
        }
    }
    assert!(short > 20 && long > 20, "{short} {long}");
}

#[test]
fn other_responses_and_other_clients_get_no_gzip() {
    let api = Api::new(Arc::new(InMemoryRows::many(3600)), ApiConfig::default().with_watches(1));
    for (path, encoding) in [
        ("/pods", ""),
        ("/pods", "gzip;q=0"),
        ("/pods", "deflate, br"),
        ("/pods?watch=1", "gzip"),
        ("/namespaces/ns-1/pods/pod-000001", "gzip"),
        ("/nodes/none-such", "gzip"),
        ("", "gzip"),
    ] {
        let response = list(&api, path, "application/json", encoding);
        assert_eq!(response.header("content-encoding"), "", "{path} {encoding}");
        assert!(response.text().starts_with('{'), "{path}");
    }
    assert_eq!(list(&api, "/nodes/none-such", "", "gzip").json()["code"], json!(404));
}
