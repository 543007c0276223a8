//! A fake kube-apiserver with the objects that the hooks read and write, and an operator that tears down or does not.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::common::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use crate::hook::CHART_FIELD_MANAGER;

const PIPELINES: &str = "/apis/metrics-pipeline.dev/v1alpha1/metricspipelines";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const CRD: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metricspipelines.metrics-pipeline.dev";

/// A request, as far as the tests read it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

/// A change of the cluster by another client.
pub(super) type Happening = fn(&mut State);

/// The cluster's state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) established: bool,
    pub(super) pipelines: Vec<Value>,
    pub(super) api_services: Vec<Value>,
    /// Whether the operator's Deployment has a ready replica.
    pub(super) operator_ready: bool,
    /// Whether the operator tears down what is deleted.
    pub(super) operator_works: bool,
    /// The field manager of the hook's Job.
    pub(super) job_manager: &'static str,
    /// Responses to the next requests whose method and path start with the text, before they have an effect.
    pub(super) errors: Vec<(&'static str, u16)>,
    /// Changes that happen before the next request whose method and path start with the text.
    pub(super) races: Vec<(&'static str, Happening)>,
    pub(super) requests: Vec<Request>,
}

impl State {
    /// Returns a cluster in which the chart is installed and its operator works.
    pub(super) fn installed() -> Self {
        Self {
            established: true,
            operator_ready: true,
            operator_works: true,
            job_manager: "helm",
            ..Self::default()
        }
    }

    /// Returns the requests that write, as method and path.
    pub(super) fn writes(&self) -> Vec<String> {
        let writes = self.requests.iter().filter(|request| request.method != "GET");
        writes
            .map(|request| {
                format!("{} {}", request.method, request.path.rsplit('/').next().unwrap_or_default())
            })
            .collect()
    }

    fn respond(&mut self, request: &Request) -> (u16, Value) {
        let line = format!("{} {}", request.method, request.path);
        if let Some(index) = self.races.iter().position(|(start, _)| line.starts_with(start)) {
            let (_, happen) = self.races.remove(index);
            happen(self);
        }
        if let Some(index) = self.errors.iter().position(|(start, _)| line.starts_with(start)) {
            let (_, code) = self.errors.remove(index);
            return failure(code, "injected");
        }
        if self.operator_works {
            self.tear_down();
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", CRD) => {
                let status = if self.established { "True" } else { "False" };
                let condition = json!({ "type": "Established", "status": status,
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "r", "message": "names conflict" });
                (
                    200,
                    json!({ "metadata": { "name": "c" }, "spec": { "group": "g", "names": { "kind": "k", "plural": "p" },
                    "scope": "Cluster", "versions": [] }, "status": { "conditions": [condition] } }),
                )
            }
            ("GET", PIPELINES) if self.established => (
                200,
                json!({ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipelineList", "metadata": {},
                "items": self.pipelines }),
            ),
            ("GET", path) if path.ends_with("/deployments/metrics-pipeline-operator") => {
                let ready = i32::from(self.operator_ready);
                (200, json!({ "metadata": { "name": "o" }, "status": { "readyReplicas": ready } }))
            }
            ("GET", path) if path.contains("/jobs/") => {
                let fields = json!([{ "manager": self.job_manager, "operation": "Update" }]);
                (
                    200,
                    json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": { "name": "j", "managedFields": fields } }),
                )
            }
            (method, path) => {
                let of =
                    |collection: &str| path.strip_prefix(collection)?.strip_prefix('/').map(str::to_owned);
                match (of(PIPELINES), of(API_SERVICES)) {
                    (Some(name), _) => {
                        let is_new = apply_new(method, &name, &mut self.pipelines);
                        let (code, response) = change(method, &name, &request.body, &mut self.pipelines);
                        (if is_new { 201 } else { code }, response)
                    }
                    (_, Some(name)) => change(method, &name, &request.body, &mut self.api_services),
                    _ => failure(404, "not found"),
                }
            }
        }
    }

    fn tear_down(&mut self) {
        if self.pipelines.iter().any(is_deleting) {
            self.api_services.retain(|found| found["metadata"]["labels"].get(MANAGED_BY_LABEL).is_none());
            self.pipelines.retain(|pipeline| !is_deleting(pipeline));
        }
    }
}

fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Adds an empty object that a server-side apply creates.
fn apply_new(method: &str, name: &str, objects: &mut Vec<Value>) -> bool {
    let is_new = method == "PATCH" && !objects.iter().any(|found| found["metadata"]["name"] == name);
    if is_new {
        objects.push(json!({ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": name, "uid": "new", "generation": 0, "managedFields": [] } }));
    }
    is_new
}

fn change(method: &str, name: &str, body: &Value, objects: &mut Vec<Value>) -> (u16, Value) {
    let Some(index) = objects.iter().position(|found| found["metadata"]["name"] == name) else {
        return failure(404, "not found");
    };
    let object = &mut objects[index];
    let uid = if method == "DELETE" { &body["preconditions"]["uid"] } else { &body["metadata"]["uid"] };
    if !uid.is_null() && *uid != object["metadata"]["uid"] {
        return failure(409, "another UID");
    }
    match method {
        "GET" => {}
        "DELETE" => {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        // Server-side apply has a kind; the merge patch of the finalizers does not.
        _ if body.get("kind").is_some() => {
            object["metadata"]["annotations"] = body["metadata"]["annotations"].clone();
            object["spec"] = body["spec"].clone();
            let managers = object["metadata"]["managedFields"].as_array_mut().expect("a list");
            if managers.iter().all(|entry| entry["manager"] != CHART_FIELD_MANAGER) {
                managers.push(json!({ "manager": CHART_FIELD_MANAGER, "operation": "Apply" }));
            }
        }
        _ => {
            if body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                return failure(409, "another version");
            }
            object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
        }
    }
    let object = object.clone();
    if is_deleting(&object) && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
        objects.remove(index);
    }
    (200, object)
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    (
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": message }),
    )
}

/// Returns a MetricsPipeline with the operator's finalizer.
#[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
pub(super) fn pipeline(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "resourceVersion": "5", "generation": 1,
            "annotations": annotations, "finalizers": [crds::FINALIZER],
            "managedFields": [{ "manager": "kubectl-create", "operation": "Update" }] },
        "spec": { "metricsCore": { "replicas": 3 } },
    })
}

/// Returns an APIService that the operator manages, or Helm.
pub(super) fn api_service(name: &str, ours: bool) -> Value {
    let (label, manager) = if ours { (MANAGED_BY, FIELD_MANAGER) } else { ("Helm", "helm") };
    let mut labels = serde_json::Map::new();
    labels
        .insert(if ours { MANAGED_BY_LABEL } else { "app.kubernetes.io/instance" }.to_owned(), json!(label));
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "labels": labels,
            "managedFields": [{ "manager": manager, "operation": "Apply" }] },
        "spec": { "service": { "name": "metrics-core", "namespace": "ns" } },
    })
}

/// Returns a client of a cluster with this state.
pub(super) fn client(state: State) -> (Client, Arc<Mutex<State>>) {
    let state = Arc::new(Mutex::new(state));
    let shared = state.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let state = shared.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let request = Request {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let mut state = state.lock();
            let (code, response) = state.respond(&request);
            state.requests.push(request);
            let body = Body::from(response.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(code).body(body).expect("a response"))
        }
    });
    (Client::new(service, "ns"), state)
}
