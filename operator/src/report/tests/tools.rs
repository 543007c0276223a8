//! Writes statuses that tools judge: `e2e/tests/kstatus.rs` runs kstatus and Argo CD's health script on them.

use std::path::Path;

use jiff::SignedDuration;
use kube::core::ObjectMeta;

use super::*;
use crate::assess::{AssessmentInput, Assessor};
use crate::common::{ManagedObject, Problem};
use crate::observe::{Found, Observed, ReplicaReport, Served};
use crate::plan::{MaintainPlan, TeardownPlan};
use crate::settings::Settings;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn put(observed: &mut Observed, object: ManagedObject, status: &Value) {
    let found = json!({
        "metadata": { "name": object.name(), "generation": 2, "labels": { "app.kubernetes.io/managed-by": "metrics-pipeline-operator" } },
        "spec": { "selector": {}, "template": {}, "groupPriorityMinimum": 1, "versionPriority": 1 },
        "status": status,
    });
    let found = serde_json::from_value(found).expect("an object");
    observed.objects.insert(object, Found::Present(Box::new(found)));
}

/// Returns a pipeline that works, with a Deployment of this status.
fn working(deployment: &Value) -> Observed {
    let mut observed =
        Observed { nodes: Some(3), served: Served::Succeeded { nodes: 3 }, ..Observed::default() };
    put(&mut observed, ManagedObject::Deployment, deployment);
    for object in ManagedObject::API_SERVICES {
        let available = json!([{ "type": "Available", "status": "True", "reason": "Passed", "message": "" }]);
        put(&mut observed, object, &json!({ "conditions": available }));
    }
    let report = json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:10:00Z",
        "nodes": { "known": 3, "covered": 3, "failing": 0 }, "lastFrontProxyRequest": "2026-01-01T00:09:58Z" });
    observed.replicas = vec![ReplicaReport {
        pod: "metrics-core-1".to_owned(),
        uid: "u".to_owned(),
        ready: true,
        report: Ok(Arc::new(serde_json::from_value(report).expect("a report"))),
        failures: 0,
    }];
    observed
}

fn complete() -> Value {
    json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 })
}

/// The status of a Deployment with a new pod beside the previous one.
fn surging() -> Value {
    json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1 })
}

/// A MetricsPipeline, as the operator reports it round by round.
struct Reported {
    pipeline: Pipeline,
    assessor: Assessor,
    now: Timestamp,
}

impl Reported {
    /// A new one, with the default of the schema as its status.
    fn new() -> Self {
        let mut pipeline = Pipeline::for_test("cluster", MetricsPipelineSpec::default());
        let crd = <MetricsPipeline as kube::CustomResourceExt>::crd();
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("JSON");
        let default = &schema["openAPIV3Schema"]["properties"]["status"]["default"];
        pipeline.status = serde_json::from_value(default.clone()).expect("a status");
        Self { pipeline, assessor: Assessor::default(), now: now() }
    }

    /// Changes the spec.
    fn change(mut self) -> Self {
        self.pipeline.generation += 1;
        self
    }

    /// One round with what was observed.
    fn round(self, observed: Observed, problems: &[(ManagedObject, Problem)]) -> Self {
        let spec = MetricsPipelineSpec::default();
        let certificates =
            crate::plan::certificates::plan(&spec, &Settings::default(), &Observed::default(), now());
        let plan =
            MaintainPlan { certificates: Some(certificates.expect("a plan")), ..MaintainPlan::default() };
        self.act(Action::Maintain(Box::new(plan)), observed, problems)
    }

    fn act(mut self, action: Action, mut observed: Observed, problems: &[(ManagedObject, Problem)]) -> Self {
        observed.derive_facts();
        let plan = Plan { pipelines: vec![self.pipeline.clone()], action, nanny_due: None };
        let mut applied = Applied::default();
        applied.outcome.problems.extend(problems.iter().cloned());
        let input = AssessmentInput {
            namespace: "ns",
            observed: &observed,
            applied: &applied,
            is_last: true,
            now: self.now,
        };
        let active = self.assessor.assess(input, &plan).active.expect("an assessment");
        let details = active.is_rolled_out.map(|is_rolled_out| Details {
            nodes: observed.facts.nodes,
            is_rolled_out,
            ..Details::default()
        });
        self.pipeline.status = status(active.pipeline, &active.conditions, details, self.now);
        self
    }

    fn later(mut self, seconds: i64) -> Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    /// Returns the object as kube-apiserver returns it.
    fn object(&self) -> Value {
        let metadata = ObjectMeta {
            name: Some(self.pipeline.name.clone()),
            generation: Some(self.pipeline.generation),
            deletion_timestamp: self
                .pipeline
                .deleting
                .then(|| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now())),
            ..ObjectMeta::default()
        };
        let mut status = serde_json::to_value(&self.pipeline.status).expect("JSON");
        // The time of a renewal depends on the key, which is random.
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "CertificatesReady" {
                condition["message"] = json!("The certificates are valid.");
            }
        }
        json!({ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline", "metadata": metadata,
            "spec": {}, "status": status })
    }
}

fn rolled_out() -> Reported {
    Reported::new().round(working(&complete()), &[])
}

/// A new pod that can't pull its image, beside a previous one.
fn failing() -> Observed {
    let mut observed = working(&surging());
    let pod = json!({ "metadata": { "name": "new" }, "status": { "phase": "Pending", "containerStatuses": [{
        "name": "metrics-core", "image": "x:2", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } }] } });
    observed.pods = vec![serde_json::from_value(pod).expect("a pod")];
    observed
}

fn conflict() -> Reported {
    let mut reported = Reported::new();
    let other = Pipeline::for_test("older", MetricsPipelineSpec::default());
    let conditions = crate::assess::conditions::conflict(&other);
    reported.pipeline.status = status(&reported.pipeline, &conditions, Some(Details::default()), now());
    reported
}

fn deleting() -> Reported {
    let mut reported = rolled_out();
    reported.pipeline.deleting = true;
    reported.pipeline.finalizers = vec![crds::FINALIZER.to_owned()];
    let plan = TeardownPlan {
        removals: Vec::new(),
        waiting: vec![ManagedObject::Deployment],
        blocked: std::collections::BTreeMap::new(),
    };
    reported.act(Action::TearDown(plan), Observed::default(), &[])
}

fn statuses() -> Vec<(&'static str, Reported)> {
    let waiting =
        Problem::new(Reason::WaitingForDependency, "The APIServices are created once a pod is ready.");
    let waiting = ManagedObject::API_SERVICES.map(|object| (object, waiting.clone()));
    let mut empty = Observed { nodes: Some(3), ..Observed::default() };
    put(&mut empty, ManagedObject::Deployment, &json!({ "observedGeneration": 2, "replicas": 1 }));
    let mut fault = working(&complete());
    fault.served = Served::ErrorResponse { code: 500, message: "broken".to_owned() };
    vec![
        ("new", Reported::new()),
        ("installing", Reported::new().round(empty, &waiting)),
        ("rolled-out", rolled_out()),
        ("not-observed", rolled_out().change()),
        ("rolling-out", rolled_out().change().round(working(&surging()), &[])),
        ("rollout-failed", rolled_out().change().round(failing(), &[]).later(30).round(failing(), &[])),
        ("resizing", rolled_out().round(working(&surging()), &[])),
        ("fault", rolled_out().round(fault.clone(), &[]).later(30).round(fault, &[])),
        ("conflict", conflict()),
        ("deleting", deleting()),
    ]
}

/// With `UPDATE_TESTDATA=1` the files are written.
#[test]
fn the_statuses_that_tools_judge_are_what_is_reported() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/kstatus/testdata");
    for (name, reported) in statuses() {
        let path = directory.join(name).with_extension("json");
        let text = format!("{}\n", serde_json::to_string_pretty(&reported.object()).expect("JSON"));
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == text,
            "{} is outdated: run `UPDATE_TESTDATA=1 cargo test -p operator --lib tools_judge`",
            path.display()
        );
    }
}
