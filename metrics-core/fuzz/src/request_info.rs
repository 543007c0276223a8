//! The attributes of a request, by the normalization that production uses: what is served must be what was authorized.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Body;
use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;
use metrics_core::api::request_info as attributes;
use metrics_core::server::authorization::{AccessReviewer, AlwaysAllow, Authorizer, Decision};
use metrics_core::server::request_info::RequestInfo;
use metrics_core::server::reviews::ReviewError;
use metrics_core::server::reviews::cache::Hasher;
use serde_json::Value;

use super::{API, TIME, outcome, size};

const GROUP: &str = "metrics.k8s.io";

/// Whom nobody asks here.
struct NoReviews;

impl AccessReviewer for NoReviews {
    fn review(&self, _: SubjectAccessReviewSpec) -> BoxFuture<'static, Result<Decision, ReviewError>> {
        Box::pin(std::future::pending())
    }
}

static AUTHORIZER: LazyLock<Option<Authorizer>> = LazyLock::new(|| {
    let paths = ["/healthz", "/readyz", "/livez", "/apis/*"].map(str::to_owned);
    let always = AlwaysAllow::new(&paths).ok()?;
    let minute = Duration::from_secs(60);
    Some(Authorizer::new(always, Arc::new(NoReviews), Hasher::new().ok()?, minute, minute))
});

/// A request: method, target and Accept, each in a line.
pub fn request_info(input: &[u8]) -> u64 {
    let Ok(input) = std::str::from_utf8(input) else { return 0 };
    let mut lines = input.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, accept) = (line(), line(), line());
    let request = http::Request::builder().method(method).uri(target).header("accept", accept);
    let Ok(request) = request.body(()) else { return 1 };
    let (parts, ()) = request.into_parts();
    let info = attributes(&parts.method, &parts.uri);
    assert_eq!(info, attributes(&parts.method, &parts.uri));
    assert!(
        info.is_resource_request
            || (info.resource.is_empty() && info.name.is_empty() && info.namespace.is_empty())
    );
    let Some(authorizer) = &*AUTHORIZER else { panic!("the authorizer can be created") };
    // A prefix of paths that are always allowed allows no resource below it.
    assert!(!(info.is_resource_request && authorizer.always_allows(&info)), "{info:?}");
    let (status, body) = respond(&parts, &info);
    assert!(status < 500, "{status}");
    let served = served(&body);
    if status == 200 && !served.is_empty() {
        assert!(info.is_resource_request && info.api_group == GROUP, "{info:?}");
        assert!(["get", "list", "watch"].contains(&info.verb), "{info:?}");
        for (kind, namespace, name) in &served {
            let resource = if kind.starts_with("Pod") { "pods" } else { "nodes" };
            assert_eq!(resource, info.resource, "{info:?}");
            assert!(info.namespace.is_empty() || info.namespace == *namespace, "{info:?} {namespace}");
            assert!(info.name.is_empty() || info.name == *name, "{info:?} {name}");
            assert!(info.subresource.is_empty(), "{info:?}");
        }
        if info.verb != "watch" {
            canonical_is_the_same(&parts, &info, status);
        }
    }
    outcome((status, info.verb, info.is_resource_request, info.subresource.is_empty(), size(served.len())))
}

/// The request that kube-apiserver would send for these attributes must have the same attributes.
fn canonical_is_the_same(parts: &http::request::Parts, info: &RequestInfo, status: u16) {
    let namespace =
        if info.namespace.is_empty() { String::new() } else { format!("namespaces/{}/", info.namespace) };
    let (path, name) = match info.verb {
        "get" => (format!("{namespace}{}/{}", info.resource, info.name), ""),
        _ => (format!("{namespace}{}", info.resource), info.name.as_str()),
    };
    let mut uri = format!("/apis/{GROUP}/{}/{path}", info.api_version);
    if !name.is_empty() {
        uri.push_str("?fieldSelector=metadata.name%3D");
        uri.push_str(name);
    }
    let Ok(uri) = uri.parse::<http::Uri>() else { panic!("{info:?} has a canonical path") };
    let canonical = attributes(&parts.method, &uri);
    assert_eq!(RequestInfo { path: info.path.clone(), ..canonical }, *info);
    let mut parts = parts.clone();
    parts.uri = uri;
    assert_eq!(respond(&parts, info).0, status);
}

fn respond(parts: &http::request::Parts, info: &RequestInfo) -> (u16, Vec<u8>) {
    let _time = TIME.as_ref().map(tokio::runtime::Runtime::enter);
    let response = API.handle(parts, info);
    let status = response.status().as_u16();
    let (mut body, mut bytes) = (pin!(response.into_body()), Vec::new());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
        if let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) {
            bytes.extend_from_slice(&data);
        }
        assert!(bytes.len() < 1 << 20);
    }
    (status, bytes)
}

/// Returns kind, namespace and name of each object with usage in a JSON response.
fn served(body: &[u8]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>().map_while(Result::ok) {
        objects(&value, &mut found);
    }
    found
}

fn objects(value: &Value, found: &mut Vec<(String, String, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| objects(value, found)),
        Value::Object(fields) => {
            let text = |name: &str| value["metadata"][name].as_str().unwrap_or_default().to_owned();
            let kind = match (fields.contains_key("containers"), fields.contains_key("usage")) {
                (true, _) => Some("PodMetrics"),
                (_, true) if fields.contains_key("metadata") => Some("NodeMetrics"),
                _ => None,
            };
            match kind {
                Some(kind) => found.push((kind.to_owned(), text("namespace"), text("name"))),
                None => fields.values().for_each(|value| objects(value, found)),
            }
        }
        _ => {}
    }
}
