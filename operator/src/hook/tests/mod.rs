mod cluster;

use kube::Client;
use serde_json::{Value, json};

use self::cluster::{Happening, State, api_service, client, pipeline};
use super::install::{self, InstallFlags};
use super::uninstall::{self, UninstallFlags};
use super::{HookError, RELEASE_ANNOTATION};

async fn install(client: &Client, spec: &str) -> Result<(), HookError> {
    install::run(client, &InstallFlags { spec: spec.to_owned(), release: "ns/release".to_owned() }).await
}

async fn uninstall(client: &Client) -> Result<(), HookError> {
    let [namespace, job, install_job] = ["ns", "uninstall", "install"].map(str::to_owned);
    uninstall::run(client, &UninstallFlags { namespace, job, install_job }).await
}

fn marked() -> Value {
    pipeline("cluster", json!({ RELEASE_ANNOTATION: "old/release" }))
}

fn both_api_services() -> Vec<Value> {
    vec![api_service("v1beta1.metrics.k8s.io", true), api_service("v1.metrics.k8s.io", true)]
}

#[tokio::test(start_paused = true)]
async fn creates_the_pipeline_with_the_mark_and_without_force() {
    let (client, state) = client(State::installed());
    install(&client, r#"{"metricsCore":{"replicas":2}}"#).await.expect("success");
    let state = state.lock();
    assert_eq!(state.writes(), ["PATCH cluster"]);
    let write = state.requests.iter().find(|request| request.method == "PATCH").expect("a write");
    assert_eq!(write.body["spec"]["metricsCore"]["replicas"], 2);
    assert_eq!(write.body["metadata"]["annotations"][RELEASE_ANNOTATION], "ns/release");
    assert!(write.query.contains("fieldManager=metrics-pipeline-chart"), "{}", write.query);
    assert!(write.query.contains("fieldValidation=Strict"), "{}", write.query);
    assert!(!write.query.contains("force=true"), "{}", write.query);
}

#[tokio::test(start_paused = true)]
async fn updates_only_the_pipeline_with_the_mark_and_by_its_uid() {
    let own = pipeline("own", json!({}));
    let (client, state) = client(State { pipelines: vec![own.clone(), marked()], ..State::installed() });
    install(&client, "{}").await.expect("success");
    let state = state.lock();
    assert_eq!(state.writes(), ["PATCH cluster"]);
    assert_eq!(state.requests.last().expect("a request").body["metadata"]["uid"], "uid-cluster");
    assert_eq!(state.pipelines[0], own);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_pipeline_without_the_mark_alone() {
    for name in ["cluster", "mine"] {
        let (client, state) =
            client(State { pipelines: vec![pipeline(name, json!({}))], ..State::installed() });
        install(&client, "{}").await.expect("success");
        assert!(state.lock().writes().is_empty(), "{:?}", state.lock().writes());
    }
}

#[tokio::test(start_paused = true)]
async fn takes_back_what_it_applied_to_a_pipeline_that_was_created_meanwhile() {
    let race: Happening = |state| state.pipelines.push(pipeline("cluster", json!({})));
    let (client, state) = client(State { races: vec![("PATCH ", race)], ..State::installed() });
    install(&client, "{}").await.expect("success");
    let state = state.lock();
    assert_eq!(state.writes(), ["PATCH cluster", "PATCH cluster"]);
    let last = state.requests.last().expect("a request");
    assert_eq!((last.body.get("spec"), last.body["metadata"].get("annotations")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn waits_until_the_definition_is_established_and_names_what_prevents_it() {
    let establish: Happening = |state| state.established = true;
    let wait: Happening = |_| ();
    let races = vec![("GET /apis/apiext", wait), ("GET /apis/apiext", wait), ("GET /apis/apiext", establish)];
    let (patient, state) = client(State { established: false, races, ..State::installed() });
    install(&patient, "{}").await.expect("success");
    assert_eq!(state.lock().writes(), ["PATCH cluster"]);

    let (client, _) = client(State { established: false, ..State::installed() });
    let error = install(&client, "{}").await.expect_err("never established").to_string();
    assert!(error.contains("90 s") && error.contains("Established is False: names conflict"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn creates_the_pipeline_after_the_deletion_of_the_previous_one() {
    let mut deleted = marked();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let with =
        |operator_works| State { pipelines: vec![deleted.clone()], operator_works, ..State::installed() };
    let start: Happening = |state| state.operator_works = true;
    let wait: Happening = |_| ();
    let races = vec![("GET /apis/metrics-pipeline.dev", wait), ("GET /apis/metrics-pipeline.dev", start)];
    let (patient, state) = client(State { races, ..with(false) });
    install(&patient, "{}").await.expect("success");
    assert_eq!(state.lock().writes(), ["PATCH cluster"]);

    let (client, state) = client(with(false));
    let error = install(&client, "{}").await.expect_err("it stays").to_string();
    assert!(error.contains("MetricsPipeline cluster is still being deleted"), "{error}");
    assert!(state.lock().writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn reports_the_message_of_kube_apiserver_for_an_invalid_spec() {
    // kube-apiserver returns 500 for an unknown field of a server-side apply.
    for (code, attempts) in [(422, 1), (500, 11)] {
        let (client, state) = client(State { errors: vec![("PATCH ", code); 20], ..State::installed() });
        let error = install(&client, "{}").await.expect_err("rejected").to_string();
        assert!(error.contains(&format!("kube-apiserver returned {code}: injected")), "{error}");
        assert!(error.contains("pipeline.spec"), "{error}");
        assert_eq!(state.lock().writes().len(), attempts);
    }
    let (client, _) = client(State::installed());
    assert!(matches!(install(&client, "[]").await, Err(HookError::Spec(_))));
}

#[tokio::test(start_paused = true)]
async fn reports_a_field_that_another_manager_changed() {
    let errors = vec![("PATCH ", 409)];
    let (client, _) = client(State { pipelines: vec![marked()], errors, ..State::installed() });
    let error = install(&client, "{}").await.expect_err("a conflict").to_string();
    assert!(error.contains("injected") && error.contains("pipeline.spec"), "{error}");
    assert!(
        error.contains("kubectl annotate metricspipeline cluster metrics-pipeline.dev/helm-release-"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn retries_while_kube_apiserver_is_overloaded_or_does_not_know_the_permissions_yet() {
    let errors = vec![("PATCH ", 403), ("PATCH ", 429), ("GET ", 403), ("GET ", 503), ("PATCH ", 504)];
    let (installing, state) = client(State { errors, ..State::installed() });
    install(&installing, "{}").await.expect("success");
    assert_eq!(state.lock().pipelines.len(), 1);
    let errors = vec![("DELETE /apis/met", 403), ("GET ", 429), ("DELETE /apis/met", 503)];
    let (client, state) = client(State { pipelines: vec![marked()], errors, ..State::installed() });
    uninstall(&client).await.expect("success");
    assert!(state.lock().pipelines.is_empty());
}

#[tokio::test(start_paused = true)]
async fn uninstall_deletes_the_pipelines_and_leaves_the_rest_to_the_operator() {
    let pipelines = vec![marked(), pipeline("own", json!({}))];
    let (client, state) =
        client(State { pipelines, api_services: both_api_services(), ..State::installed() });
    uninstall(&client).await.expect("success");
    let state = state.lock();
    assert!(state.pipelines.is_empty() && state.api_services.is_empty(), "{state:?}");
    assert_eq!(state.writes(), ["DELETE install", "DELETE cluster", "DELETE own"]);
    let delete =
        state.requests.iter().filter(|request| request.method == "DELETE").nth(1).expect("a deletion");
    assert_eq!(delete.body["preconditions"]["uid"], "uid-cluster");
}

#[tokio::test(start_paused = true)]
async fn uninstall_removes_our_api_services_and_then_the_finalizer_without_an_operator() {
    // Not Ready, or Ready and stuck.
    for (operator_ready, limit) in [(false, 30), (true, 130)] {
        let state = State { operator_ready, operator_works: false, ..State::installed() };
        let mut held = marked();
        held["metadata"]["finalizers"] = json!(["example.com/hold", crds::FINALIZER]);
        let (client, state) =
            client(State { pipelines: vec![held], api_services: both_api_services(), ..state });
        let started = tokio::time::Instant::now();
        uninstall(&client).await.expect("success");
        let seconds = started.elapsed().as_secs();
        assert!((limit - 15..limit).contains(&seconds), "{seconds} s");
        let state = state.lock();
        assert!(state.api_services.is_empty());
        assert_eq!(
            state.writes(),
            [
                "DELETE install",
                "DELETE cluster",
                "DELETE v1beta1.metrics.k8s.io",
                "DELETE v1.metrics.k8s.io",
                "PATCH cluster"
            ]
        );
        // Others' finalizers stay, and another version is not written.
        assert_eq!(state.pipelines[0]["metadata"]["finalizers"], json!(["example.com/hold"]));
        let patch = state.requests.iter().find(|request| request.method == "PATCH").expect("a patch");
        assert_eq!(patch.body["metadata"]["resourceVersion"], "5");
        let delete = state.requests.iter().filter(|request| request.method == "DELETE").nth(2);
        assert_eq!(delete.expect("one").body["preconditions"]["uid"], "uid-v1beta1.metrics.k8s.io");
    }
}

#[tokio::test(start_paused = true)]
async fn uninstall_leaves_a_foreign_api_service_alone() {
    let api_services =
        vec![api_service("v1beta1.metrics.k8s.io", false), api_service("v1.metrics.k8s.io", true)];
    let (client, state) = client(State {
        pipelines: vec![marked()],
        api_services: api_services.clone(),
        operator_ready: false,
        operator_works: false,
        ..State::installed()
    });
    uninstall(&client).await.expect("success");
    let state = state.lock();
    assert_eq!(state.api_services, api_services[..1]);
    assert!(state.pipelines.is_empty());
}

#[tokio::test(start_paused = true)]
async fn uninstall_keeps_the_finalizer_while_an_api_service_is_left_and_reports_it() {
    let mut held = api_service("v1.metrics.k8s.io", true);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let (client, state) = client(State {
        pipelines: vec![marked()],
        api_services: vec![held],
        operator_ready: false,
        operator_works: false,
        ..State::installed()
    });
    let error = uninstall(&client).await.expect_err("it is left").to_string();
    assert!(error.contains("APIService v1.metrics.k8s.io still exists"), "{error}");
    assert_eq!(state.lock().pipelines[0]["metadata"]["finalizers"], json!([crds::FINALIZER]));
}

#[tokio::test(start_paused = true)]
async fn uninstall_does_not_touch_a_pipeline_that_is_being_orphaned() {
    let mut orphaned = marked();
    orphaned["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    orphaned["metadata"]["finalizers"] = json!(["orphan", crds::FINALIZER]);
    let (client, state) = client(State {
        pipelines: vec![orphaned],
        operator_ready: false,
        operator_works: false,
        ..State::installed()
    });
    let error = uninstall(&client).await.expect_err("it is left").to_string();
    assert!(error.contains("MetricsPipeline cluster is being orphaned"), "{error}");
    assert_eq!(state.lock().writes(), ["DELETE install"]);
}

#[tokio::test(start_paused = true)]
async fn uninstall_refuses_to_run_when_kubectl_applied_the_chart() {
    let (client, state) = client(State {
        pipelines: vec![marked()],
        job_manager: "kubectl-client-side-apply",
        ..State::installed()
    });
    let error = uninstall(&client).await.expect_err("refused").to_string();
    assert!(error.contains("--no-hooks"), "{error}");
    assert!(state.lock().writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn uninstall_succeeds_without_the_definition() {
    let (client, state) = client(State { established: false, ..State::installed() });
    uninstall(&client).await.expect("success");
    assert_eq!(state.lock().writes(), ["DELETE install"]);
}
