mod tools;

use std::sync::Arc;

use crds::{MetricsPipelineSpec, Reason};
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use tower::service_fn;

use super::*;
use crate::assess::conditions::malformed;
use crate::observe::Pipeline;

#[test]
fn removes_missing_fields_by_name() {
    let stored = json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": [1] });
    let mut patch = json!({ "a": { "b": 1 }, "e": [] });
    name_removed(&stored, &mut patch);
    assert_eq!(patch, json!({ "a": { "b": 1, "c": null }, "d": null, "e": [] }));
}

/// The requests that were sent: method, path and body.
type Sent = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Returns a reporter and the requests that it sends.
fn reporter(code: u16) -> (Reporter, Sent) {
    let requests = Sent::default();
    let sent = requests.clone();
    let service = service_fn(move |request: Request<Body>| {
        let sent = sent.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            sent.lock().push((parts.method.to_string(), parts.uri.path().to_owned(), body));
            let reason = if code == 409 { "Conflict" } else { "InternalError" };
            let response = if code == 200 {
                json!({ "metadata": { "name": "a" } })
            } else {
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m" })
            };
            Response::builder().status(code).body(Body::from(response.to_string().into_bytes()))
        }
    });
    let client = Client::new(service, "ns");
    (Reporter::new(client, "ns".to_owned(), "me".to_owned(), Telemetry::default()), requests)
}

async fn report(by: &mut Reporter, pipeline: &Pipeline) -> (Result<(), StatusError>, Reported) {
    let status = status(pipeline, &malformed("x"), None, Timestamp::UNIX_EPOCH);
    let mut outcome = Reported::default();
    let result = by.report_status(pipeline, &status, None, &mut outcome).await;
    (result, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_to_the_version_it_was_made_from() {
    let (mut reporter, requests) = reporter(200);
    let mut pipeline = Pipeline::for_test("a", MetricsPipelineSpec::default());
    pipeline.resource_version = "17".to_owned();
    let (result, outcome) = report(&mut reporter, &pipeline).await;
    assert!(result.is_ok() && outcome.wrote_status);
    let (method, path, body) = requests.lock()[0].clone();
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("PATCH", "/apis/metrics-pipeline.dev/v1alpha1/metricspipelines/a/status")
    );
    assert_eq!(body["metadata"], json!({ "uid": "uid-a", "resourceVersion": "17" }));
    assert_eq!(body["status"]["observedGeneration"], 1);
    assert_eq!(body["status"]["conditions"][0]["reason"], Reason::InvalidSpec.as_str());
    // What is stored is not written again.
    pipeline.status = status(&pipeline, &malformed("x"), None, Timestamp::UNIX_EPOCH);
    let before = requests.lock().iter().filter(|(method, ..)| method == "PATCH").count();
    let (_, outcome) = report(&mut reporter, &pipeline).await;
    assert!(!outcome.wrote_status);
    let after = requests.lock().iter().filter(|(method, ..)| method == "PATCH").count();
    assert_eq!((before, after), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_changed_object_is_read_again_and_another_error_is_returned() {
    let pipeline = Pipeline::for_test("a", MetricsPipelineSpec::default());
    let (mut conflicting, _) = reporter(409);
    let (result, reported) = report(&mut conflicting, &pipeline).await;
    assert!(result.is_ok() && reported.outdated && !reported.wrote_status);
    let (mut failing, requests) = reporter(500);
    let (result, reported) = report(&mut failing, &pipeline).await;
    assert!(result.is_err() && reported.outdated && !reported.wrote_status);
    assert_eq!(requests.lock().len(), 2, "retried once");
}

#[tokio::test(start_paused = true)]
async fn events_that_hang_do_not_delay_a_round() {
    let service =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>());
    let client = Client::new(service, "ns");
    let events = Events::new(client, "ns".to_owned(), "me".to_owned());
    let pipeline = Pipeline::for_test("a", MetricsPipelineSpec::default());
    let began = tokio::time::Instant::now();
    for _ in 0..1000 {
        events.resized(&pipeline, "Resize", "note");
        tokio::task::yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}
