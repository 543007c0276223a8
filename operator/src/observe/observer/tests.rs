//! Observes a fake kube-apiserver, on tokio's paused clock.

use http::{Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::advance;
use tower::service_fn;

use super::*;

const SERVICE: &str = "/api/v1/namespaces/ns/services/metrics-core";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ns/deployments/metrics-core";
const PODS: &str = "/api/v1/namespaces/ns/pods";

/// What happens to requests for a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Status(u16),
    Hang,
    Reset,
}

/// A kube-apiserver that has two objects and no watch events.
#[derive(Clone, Default)]
struct FakeApi(Arc<Mutex<Vec<(&'static str, Fault)>>>);

impl FakeApi {
    fn fail(&self, path: &'static str, fault: Fault) {
        self.0.lock().push((path, fault));
    }

    fn recover(&self) {
        self.0.lock().clear();
    }

    fn observer(&self) -> Observer {
        let api = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let (path, query) =
                (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            let is_watch = query.contains("watch=true") || query.contains("metadata.name%3D");
            let fault = api.0.lock().iter().find(|(failing, _)| *failing == path).map(|(_, fault)| *fault);
            async move {
                match fault {
                    // The watches stay out of it.
                    _ if is_watch => std::future::pending().await,
                    Some(Fault::Hang) => std::future::pending().await,
                    Some(Fault::Reset) => Err(std::io::Error::other("connection reset")),
                    Some(Fault::Status(code)) => Ok(status(code)),
                    None => Ok(respond(&path)),
                }
            }
        });
        let client = Client::new(service, "ns");
        let settings = Settings { namespace: "ns".to_owned(), ..Settings::default() };
        Observer::start(client, &settings)
    }
}

fn status(code: u16) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Other",
    };
    let body =
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m" });
    response(code, &body)
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let code = StatusCode::from_u16(code).expect("a status");
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).expect("a response")
}

fn respond(path: &str) -> Response<Body> {
    match path {
        SERVICE | DEPLOYMENT => {
            response(200, &json!({ "metadata": { "name": "metrics-core", "resourceVersion": "1" } }))
        }
        path if path.ends_with('s') && !path.contains("metrics-core") => {
            response(200, &json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] }))
        }
        _ => status(404),
    }
}

fn found(observer: &Observer, object: ManagedObject) -> &'static str {
    match observer.observed().objects.get(&object) {
        None => "not read",
        Some(Found::Absent) => "absent",
        Some(Found::Unserved) => "unserved",
        Some(Found::Present(_)) => "present",
        Some(Found::Unreadable(_)) => "unreadable",
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_keeps_its_last_state_for_a_minute() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    observer.observe().await.expect("observed");
    assert_eq!(found(&observer, ManagedObject::Service), "present");
    assert_eq!(found(&observer, ManagedObject::CaSecret), "absent");
    for fault in [Fault::Status(429), Fault::Status(500), Fault::Hang] {
        api.fail(SERVICE, fault);
        observer.mark_outdated(Source::Object(ManagedObject::Service));
        observer.observe().await.expect("observed");
        assert_eq!(found(&observer, ManagedObject::Service), "present");
        advance(Duration::from_secs(61)).await;
        observer.observe().await.expect("observed");
        assert_eq!(found(&observer, ManagedObject::Service), "unreadable");
        assert_eq!(found(&observer, ManagedObject::Deployment), "present", "others are not affected");
        api.recover();
        advance(Duration::from_secs(31)).await;
        observer.observe().await.expect("observed");
        assert_eq!(found(&observer, ManagedObject::Service), "present", "read again without an event");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_delays_the_others_a_little_and_only_now_and_then() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    api.fail(SERVICE, Fault::Hang);
    let began = tokio::time::Instant::now();
    observer.observe().await.expect("observed");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(found(&observer, ManagedObject::Service), "unreadable", "it was never read");
    assert_eq!(found(&observer, ManagedObject::Deployment), "present");
    let began = tokio::time::Instant::now();
    observer.observe().await.expect("observed");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_read_are_reported_after_a_minute() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    observer.observe().await.expect("observed");
    api.fail(PODS, Fault::Status(500));
    observer.mark_outdated(Source::Pods);
    observer.observe().await.expect("observed");
    assert_eq!(observer.observed().pods_unreadable, None);
    advance(Duration::from_secs(61)).await;
    observer.observe().await.expect("observed");
    assert!(observer.observed().pods_unreadable.is_some());
    api.recover();
    observer.observe().await.expect("observed");
    assert_eq!(observer.observed().pods_unreadable, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_the_round() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    observer.observe().await.expect("observed");
    api.fail(SERVICE, Fault::Reset);
    observer.mark_outdated(Source::Object(ManagedObject::Service));
    let error = observer.observe().await.expect_err("unreachable").to_string();
    assert!(error.contains("connection reset"), "{error}");
    api.recover();
    observer.observe().await.expect("observed");
    assert_eq!(found(&observer, ManagedObject::Service), "present");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_before_the_pipelines_were_read() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    api.fail("/apis/metrics-pipeline.dev/v1alpha1/metricspipelines", Fault::Status(500));
    assert!(matches!(observer.observe().await, Err(ObserveError::Pipelines(_))));
    api.recover();
    observer.observe().await.expect("observed");
    api.fail("/apis/metrics-pipeline.dev/v1alpha1/metricspipelines", Fault::Status(500));
    observer.mark_outdated(Source::Pipelines);
    observer.observe().await.expect("the known ones stay in use");
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_not_reverted_by_an_old_list_of_pipelines() {
    let api = FakeApi::default();
    let mut observer = api.observer();
    observer.observe().await.expect("observed");
    // Its MetricsPipeline may be being deleted, and the watch may report that later.
    api.fail(SERVICE, Fault::Status(404));
    api.fail("/apis/metrics-pipeline.dev/v1alpha1/metricspipelines", Fault::Status(500));
    observer.mark_outdated(Source::Object(ManagedObject::Service));
    assert!(matches!(observer.observe().await, Err(ObserveError::Pipelines(_))));
    api.recover();
    api.fail(SERVICE, Fault::Status(404));
    observer.observe().await.expect("observed");
    assert_eq!(found(&observer, ManagedObject::Service), "absent");
}

#[tokio::test(start_paused = true)]
async fn objects_in_the_previous_namespace_are_read_up_to_the_first_that_is_forbidden() {
    let api = FakeApi::default();
    let observer = api.observer();
    let objects = vec![ManagedObject::Deployment, ManagedObject::Service, ManagedObject::CaSecret];
    let place = || polled::PreviousPlace { namespace: "old".to_owned(), objects: objects.clone() };
    let read = place().read(&observer.reader).await;
    assert_eq!((read.namespace.as_str(), read.objects.len()), ("old", 3));
    assert!(read.objects.values().all(|found| matches!(found, Found::Absent)), "it is not namespace ns");
    api.fail("/api/v1/namespaces/old/services/metrics-core", Fault::Status(403));
    let read = place().read(&observer.reader).await;
    assert!(matches!(read.objects.get(&ManagedObject::Service), Some(Found::Unreadable(_))));
    assert_eq!(read.objects.len(), 2);
}
