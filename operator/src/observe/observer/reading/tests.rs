use std::sync::Arc;

use http::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

#[test]
fn distinguishes_an_unserved_kind_from_an_absent_object() {
    let absence_of = |message: &str, reason: &str, code: u16| {
        let status = kube::core::Status::failure(message, reason).with_code(code);
        absence(&kube::Error::Api(status.boxed()).into())
    };
    assert!(matches!(absence_of("certificates \"a\" not found", "NotFound", 404), Some(Found::Absent)));
    let text = absence_of("404 page not found", "Failed to parse error data", 404);
    assert!(matches!(text, Some(Found::Unserved)), "{text:?}");
    assert!(absence_of("forbidden", "Forbidden", 403).is_none());
}

#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
fn slice(endpoints: Value) -> EndpointSlice {
    let slice = json!({ "metadata": { "name": "a" }, "addressType": "IPv4", "endpoints": endpoints });
    serde_json::from_value(slice).expect("a slice")
}

#[test]
fn counts_pods_with_a_ready_endpoint() {
    let endpoint = |pod: &str, address: &str, conditions: Value| json!({ "addresses": [address], "conditions": conditions, "targetRef": { "kind": "Pod", "name": pod } });
    let slices = [
        slice(json!([
            endpoint("a", "10.0.0.1", json!({ "ready": true })),
            endpoint("b", "10.0.0.2", json!({ "ready": false })),
            endpoint("c", "10.0.0.3", json!({ "ready": false, "serving": true, "terminating": true })),
            endpoint("d", "10.0.0.4", json!({})),
        ])),
        // The other family of the same pods.
        slice(json!([
            endpoint("a", "fd00::1", json!({ "ready": true })),
            endpoint("b", "fd00::2", json!({ "ready": false })),
        ])),
    ];
    assert_eq!(ready_endpoints(&slices), 2, "a is ready, and so is d, which does not say");
    assert_eq!(ready_endpoints(&[slice(json!([endpoint("b", "10.0.0.2", json!({ "ready": false }))]))]), 0);
    assert_eq!(ready_endpoints(&[]), 0);
}

/// Returns a reader whose requests get these responses, the last one again and again, and the URIs of the requests.
fn reader(responses: Vec<(u16, Value)>) -> (Reader, Arc<Mutex<Vec<String>>>) {
    let uris = Arc::<Mutex<Vec<String>>>::default();
    let sent = uris.clone();
    let service = service_fn(move |request: Request<Body>| {
        let mut sent = sent.lock();
        let (code, body) = responses.get(sent.len()).or(responses.last()).cloned().expect("a response");
        sent.push(request.uri().to_string());
        let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
        async { response }
    });
    (Reader { client: Client::new(service, "ns"), namespace: "ns".to_owned() }, uris)
}

fn page(names: std::ops::Range<usize>, token: &str) -> Value {
    let pods: Vec<_> = names.map(|index| json!({ "metadata": { "name": format!("pod-{index}") } })).collect();
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "continue": token }, "items": pods })
}

#[tokio::test(start_paused = true)]
async fn reads_all_pages_of_pods_that_have_not_finished() {
    let pages = vec![(200, page(0..100, "t1")), (200, page(100..200, "t2")), (200, page(200..230, ""))];
    let (reader, uris) = reader(pages);
    let Ok(Reading::Pods(pods)) = reader.read(Source::Pods).await else { panic!("no pods") };
    assert_eq!(pods.len(), 230);
    let uris = uris.lock();
    assert!(
        uris.iter().all(|uri| uri.contains("status.phase%21%3DFailed%2Cstatus.phase%21%3DSucceeded")),
        "{uris:?}"
    );
    assert!(uris[1].contains("continue=t1") && uris[2].contains("continue=t2"), "{uris:?}");
}

#[tokio::test(start_paused = true)]
async fn stops_at_the_maximum_count() {
    let (reader, uris) = reader(vec![(200, page(0..100, "more"))]);
    let Ok(Reading::Pods(pods)) = reader.read(Source::Pods).await else { panic!("no pods") };
    assert_eq!((pods.len(), uris.lock().len()), (MAX_PODS, MAX_PODS / 100));
}

#[tokio::test(start_paused = true)]
async fn one_transient_error_is_not_seen() {
    for code in [429, 500] {
        let failure =
            json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "R", "message": "m" });
        let found = json!({ "metadata": { "name": "metrics-core" } });
        let (reader, uris) = reader(vec![(code, failure), (200, found)]);
        let result = reader.read(Source::Object(ManagedObject::Service)).await;
        assert!(matches!(result, Ok(Reading::Object(_, Found::Present(_)))), "{result:?}");
        assert_eq!(uris.lock().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_ends_at_its_deadline() {
    let service =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
    let reader = Reader { client: Client::new(service, "ns"), namespace: "ns".to_owned() };
    let began = tokio::time::Instant::now();
    let error = reader.read(Source::FrontProxy).await.expect_err("a timeout");
    assert!(error.is_timeout());
    assert!(began.elapsed() < REQUEST * 3, "{:?}", began.elapsed());
}
