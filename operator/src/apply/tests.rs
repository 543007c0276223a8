//! What the apply step sends: a fake kube-apiserver records the requests.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, ManagedObject, NANNY_FIELD_MANAGER};
use crate::observe::{Found, Unreadable};
use crate::plan::{Desired, Removal};

fn applier(client: Client) -> Applier {
    let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
    Applier::new(client, "ns", Known::default(), ApiServers::of(&config))
}

/// A request to the fake kube-apiserver.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    query: String,
    content_type: String,
    body: Value,
}

/// Returns a client whose requests are recorded and answered by `respond`.
fn fake(
    respond: impl Fn(&Request) -> (u16, Value) + Clone + Send + 'static,
) -> (Client, Arc<Mutex<Vec<Request>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let recorded = requests.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (recorded, respond) = (recorded.clone(), respond.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let content_type = parts.headers.get(http::header::CONTENT_TYPE);
            let request = Request {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                content_type: content_type
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (code, response) = respond(&request);
            recorded.lock().push(request);
            let body = Body::from(response.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(code).body(body).expect("a response"))
        }
    });
    (Client::new(service, "ns"), requests)
}

/// Answers each write with the object of its body, and a deletion with success.
fn accept(request: &Request) -> (u16, Value) {
    let mut object = request.body.clone();
    if request.method == "DELETE" {
        object = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" });
    } else if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.entry("resourceVersion").or_insert(json!("8"));
    }
    (200, object)
}

/// Answers each request with an error.
fn refuse(code: u16, reason: &'static str) -> impl Fn(&Request) -> (u16, Value) + Clone + Send + 'static {
    move |_: &Request| {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
            "message": "no" });
        (code, status)
    }
}

fn pipeline(finalizers: &[&str]) -> Pipeline {
    Pipeline {
        finalizers: finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect(),
        resource_version: "42".to_owned(),
        ..Pipeline::for_test("main", crds::MetricsPipelineSpec::default())
    }
}

fn removal(object: ManagedObject) -> Removal {
    Removal { object, uid: format!("uid-{object:?}"), replaced: None }
}

#[tokio::test]
async fn writes_as_its_field_manager_and_by_force() {
    let (client, requests) = fake(accept);
    let mut step = applier(client);
    let body = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "metrics-core" } });
    let desired = Desired::new(ManagedObject::Service, &body).expect("an object");
    let on_version = Desired { resource_version: Some("7".to_owned()), ..desired.clone() };
    let of_nanny = Desired { manager: NANNY_FIELD_MANAGER, ..desired.clone() };
    for desired in [desired, on_version, of_nanny] {
        let plan = MaintainPlan { desired: vec![desired], ..MaintainPlan::default() };
        let mut applied = Applied::default();
        step.writer.write(&plan, &Observed::default(), &mut applied).await;
        assert_eq!(applied.outcome.applied, [ManagedObject::Service]);
    }
    let requests = requests.lock();
    let managers = [FIELD_MANAGER, FIELD_MANAGER, NANNY_FIELD_MANAGER];
    assert_eq!(requests.len(), managers.len());
    for (request, manager) in requests.iter().zip(managers) {
        assert_eq!(
            (request.method.as_str(), request.content_type.as_str()),
            ("PATCH", "application/apply-patch+yaml")
        );
        assert_eq!(request.path, "/api/v1/namespaces/ns/services/metrics-core");
        let query: Vec<_> = request.query.split('&').collect();
        assert!(query.contains(&"force=true"), "drift is reverted: {query:?}");
        assert!(query.contains(&format!("fieldManager={manager}").as_str()), "{query:?}");
    }
    assert_eq!(requests[0].body["metadata"].get("resourceVersion"), None);
    assert_eq!(requests[1].body["metadata"]["resourceVersion"], "7");
}

#[tokio::test]
async fn deletes_only_the_object_that_was_observed() {
    let (client, requests) = fake(accept);
    let mut step = applier(client);
    let mut applied = Applied::default();
    let removals = [removal(ManagedObject::Service), removal(ManagedObject::Deployment)];
    step.writer.remove(&removals, &mut applied).await;
    step.writer.remove_previous("old", &removals, &mut applied).await;
    let requests = requests.lock();
    let paths: Vec<_> =
        requests.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect();
    assert_eq!(
        paths,
        [
            ("DELETE", "/api/v1/namespaces/ns/services/metrics-core"),
            ("DELETE", "/apis/apps/v1/namespaces/ns/deployments/metrics-core"),
            ("DELETE", "/api/v1/namespaces/old/services/metrics-core"),
            ("DELETE", "/apis/apps/v1/namespaces/old/deployments/metrics-core"),
        ]
    );
    for (request, object) in requests.iter().zip(["Service", "Deployment", "Service", "Deployment"]) {
        assert_eq!(request.body["preconditions"]["uid"], format!("uid-{object}"), "{request:?}");
        // The pods are gone before the Deployment is.
        let policy = if object == "Deployment" { "Foreground" } else { "Background" };
        assert_eq!(request.body["propagationPolicy"], policy, "{request:?}");
    }
}

#[tokio::test]
async fn another_object_of_the_same_name_is_no_failure() {
    let (client, _) = fake(refuse(409, "Conflict"));
    let mut step = applier(client);
    let mut applied = Applied::default();
    step.writer.remove(&[removal(ManagedObject::Service)], &mut applied).await;
    assert!(applied.outcome.problems.is_empty() && applied.outcome.deleted.is_empty());
    assert!(matches!(applied.learned[..], [Learned::Outdated(Source::Object(ManagedObject::Service))]));
}

#[tokio::test]
async fn finalizers_of_others_are_kept() {
    const OTHER: &str = "example.com/hold";
    for (wanted, before, after) in [
        (true, &[OTHER][..], vec![OTHER, crds::FINALIZER]),
        (false, &[OTHER, crds::FINALIZER, "foregroundDeletion"], vec![OTHER, "foregroundDeletion"]),
    ] {
        let (client, requests) = fake(|_| {
            let object = json!({ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
                "metadata": { "name": "main" } });
            (200, object)
        });
        finalizer::set(&client, &pipeline(before), wanted).await.expect("set");
        let requests = requests.lock();
        let metadata = &requests[0].body["metadata"];
        assert_eq!(metadata["finalizers"], json!(after));
        // Only on the version that was observed: the list of another one may be longer.
        assert_eq!((&metadata["resourceVersion"], &metadata["uid"]), (&json!("42"), &json!("uid-main")));
        assert_eq!(requests[0].content_type, "application/merge-patch+json");
    }
    let (client, _) = fake(refuse(409, "Conflict"));
    assert!(finalizer::set(&client, &pipeline(&[]), true).await.is_ok(), "it is read again");
    let (client, _) = fake(refuse(500, "InternalError"));
    assert!(finalizer::set(&client, &pipeline(&[]), true).await.is_err());
}

fn release() -> Release {
    Release {
        object: ManagedObject::Service,
        uid: "u".to_owned(),
        resource_version: Some("7".to_owned()),
        owner_references: Vec::new(),
    }
}

/// Carries out the release of one object, and returns what was sent and done.
async fn orphan(
    respond: impl Fn(&Request) -> (u16, Value) + Clone + Send + 'static,
) -> (Vec<Request>, Applied) {
    let (client, requests) = fake(respond);
    let mut step = applier(client);
    let mut applied = Applied::default();
    step.orphan(&pipeline(&[crds::FINALIZER, "orphan"]), &[release()], &mut applied).await;
    let requests = requests.lock().clone();
    (requests, applied)
}

#[tokio::test]
async fn orphaned_objects_lose_their_owner_before_the_finalizer_is_removed() {
    let (requests, _) = orphan(accept).await;
    let methods: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["PATCH", "PATCH"], "nothing is deleted");
    let released = &requests[0].body["metadata"];
    assert_eq!(released["ownerReferences"], json!([]));
    assert_eq!((&released["uid"], &released["resourceVersion"]), (&json!("u"), &json!("7")));
    assert_eq!(requests[1].body["metadata"]["finalizers"], json!(["orphan"]));

    // The object changed meanwhile: it is read again, and the finalizer stays.
    let (requests, applied) = orphan(refuse(409, "Conflict")).await;
    assert_eq!(requests.len(), 1);
    assert!(matches!(applied.interrupted, Some(Interruption::Outdated)));
    // The garbage collector does it.
    let forbidden = |request: &Request| {
        if request.path.contains("services") { refuse(403, "Forbidden")(request) } else { accept(request) }
    };
    assert_eq!(orphan(forbidden).await.0.len(), 2);
}

#[tokio::test]
async fn error_in_the_previous_namespace_blocks_nothing_here() {
    let (client, _) = fake(refuse(403, "Forbidden"));
    let step = applier(client);
    let mut applied = Applied::default();
    step.writer.remove_previous("old", &[removal(ManagedObject::Service)], &mut applied).await;
    assert!(applied.interrupted.is_none() && applied.outcome.problems.is_empty());
    let Some(Learned::DeletedFromPreviousNamespace(ManagedObject::Service, Some(why))) =
        applied.learned.first()
    else {
        panic!("nothing learned")
    };
    assert_eq!(*why, Unreadable { forbidden: true, message: "no".to_owned() });
}

#[tokio::test]
async fn settled_object_is_not_written() {
    let (client, requests) = fake(accept);
    let mut step = applier(client);
    let body = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "metrics-core", "labels": { MANAGED_BY_LABEL: MANAGED_BY } } });
    let mut found = body.clone();
    found["metadata"]["managedFields"] = json!([{ "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1",
        "fieldsV1": { "f:metadata": { "f:labels": { format!("f:{MANAGED_BY_LABEL}"): {} } } } }]);
    let found = serde_json::from_value(found).expect("an object");
    let observed = Observed {
        objects: [(ManagedObject::Service, Found::Present(Box::new(found)))].into(),
        ..Observed::default()
    };
    let desired = Desired::new(ManagedObject::Service, &body).expect("an object");
    let plan = MaintainPlan { desired: vec![desired], ..MaintainPlan::default() };
    step.writer.write(&plan, &observed, &mut Applied::default()).await;
    assert!(requests.lock().is_empty());
}
