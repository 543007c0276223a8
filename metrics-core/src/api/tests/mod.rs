//! Tests of the whole API: from request to response bytes.

mod compression;
mod lists;
mod memory;
mod memory_budget;
mod metrics_server;
mod over_http;
mod protobuf;
mod responses;
mod watch;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hyper::body::Body as _;
use serde_json::Value;

use self::memory::InMemoryRows;
use super::{Api, ApiConfig, ResponseBody, request_info};

/// 2026-07-01T12:34:56.789Z.
const NOW_NS: i64 = 1_782_909_296_789_000_000;

const BASE: &str = "/apis/metrics.k8s.io/v1beta1";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const YAML: &str = "application/yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    chunks: Vec<Bytes>,
    length_known: bool,
}

impl TestResponse {
    fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// Returns all chunks of a list, or the currently available ones of a watch. Panics if a list does not end.
fn drain(mut body: ResponseBody) -> Vec<Bytes> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut chunks = Vec::new();
    if let Some(watch) = body.as_watch() {
        return watch::read(watch);
    }
    for _ in 0..1_000_000 {
        match std::pin::Pin::new(&mut body).poll_frame(&mut context) {
            // Copied, because a list ends once its parts are dropped.
            std::task::Poll::Ready(Some(Ok(frame))) => {
                chunks.push(Bytes::copy_from_slice(&frame.into_data().unwrap()));
            }
            std::task::Poll::Ready(Some(Err(never))) => match never {},
            std::task::Poll::Ready(None) => return chunks,
            std::task::Poll::Pending => {}
        }
    }
    panic!("the body does not end");
}

fn send(api: &Api, method: &str, uri: &str, headers: &[(&str, &str)]) -> TestResponse {
    let request = request(method, uri, headers);
    let info = request_info(&request.method, &request.uri);
    let (parts, body) = api.handle_at(&request, &info, NOW_NS).into_parts();
    let length_known = body.size_hint().exact().is_some();
    TestResponse { status: parts.status, headers: parts.headers, chunks: drain(body), length_known }
}

fn get(api: &Api, uri: &str, accept: &str) -> TestResponse {
    send(api, "GET", uri, &[("accept", accept)])
}

/// Returns an API without swap, like metrics-server.
fn api(rows: InMemoryRows) -> Api {
    // Small enough that lists in tests exceed it.
    let config = ApiConfig { swap: false, max_encoded_list_bytes: 1 << 16, ..ApiConfig::default() };
    Api::new(std::sync::Arc::new(rows), config)
}
