use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::maintain::maintain_plan;
use super::super::objects::tests::with_context;
use super::*;
use crate::common::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::observe::{KubeletCa, PreviousNamespace};
use crate::plan::MaintainPlan;

const HERE: &str = "metrics-system";
const OLD: &str = "old";

/// The state of a move from the namespace `old`.
struct Move {
    recorded: Option<&'static str>,
    replicas: i32,
    ready: usize,
    api_services_in: &'static str,
    announced_for: Duration,
    previous: BTreeMap<ManagedObject, Found>,
}

impl Move {
    /// Returns the state when the operator has just started in its new namespace.
    fn begin() -> Self {
        let moving = ManagedObject::ALL.into_iter().filter(|object| object.is_in_operator_namespace());
        Self {
            recorded: Some(OLD),
            replicas: 2,
            ready: 0,
            api_services_in: OLD,
            announced_for: Duration::from_secs(1000),
            previous: moving.map(|object| (object, ours(object, &json!({})))).collect(),
        }
    }

    /// Returns the plan and the namespaces of the subjects of the collector's binding.
    fn plan(&self) -> (MaintainPlan, Vec<Value>) {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let mut observed = Observed {
            objects: ManagedObject::ALL.map(|object| (object, Found::Absent)).into(),
            kubelet_ca: KubeletCa::Found(include_str!("../testdata/ca.pem").to_owned()),
            ready_endpoints: Some(self.ready),
            previous_namespace: Some(PreviousNamespace {
                namespace: OLD.to_owned(),
                objects: self.previous.clone(),
            }),
            ..Observed::default()
        };
        for object in ManagedObject::API_SERVICES {
            let service = json!({ "service": { "name": "metrics-core", "namespace": self.api_services_in } });
            observed.objects.insert(object, ours(object, &service));
            observed.announced_for.insert(object, self.announced_for);
        }
        with_context(
            |spec| spec.metrics_core.replicas = self.replicas,
            |context| {
                let mut pipeline = context.pipeline.clone();
                pipeline.status.namespace = self.recorded.map(str::to_owned);
                let serves_from = serves_from(&pipeline, &observed, context.settings);
                let context = Context { pipeline: &pipeline, serves_from: serves_from.as_deref(), ..context };
                let plan = maintain_plan(context, &observed, now).expect("a plan");
                let binding = plan.desired.iter().find(|one| one.object == ManagedObject::CollectorBinding);
                let subjects =
                    binding.expect("a binding").body["subjects"].as_array().expect("a list").clone();
                (plan, subjects.into_iter().map(|subject| subject["namespace"].clone()).collect())
            },
        )
    }

    fn removals(&self) -> Vec<ManagedObject> {
        let plan = self.plan().0;
        let migration = plan.migration.expect("a migration");
        migration.removals.into_iter().map(|removal| removal.object).collect()
    }

    fn absent(&mut self, objects: &[ManagedObject]) {
        for object in objects {
            self.previous.insert(*object, Found::Absent);
        }
    }
}

fn ours(object: ManagedObject, spec: &Value) -> Found {
    let found: DynamicObject = serde_json::from_value(json!({
        "metadata": { "name": object.name(), "uid": format!("uid-{object:?}"),
            "labels": { MANAGED_BY_LABEL: MANAGED_BY } },
        "spec": spec,
    }))
    .expect("an object");
    Found::Present(Box::new(found))
}

fn api_service(plan: &MaintainPlan) -> Option<&Value> {
    let desired = plan.desired.iter().find(|desired| desired.object == ManagedObject::ApiServiceV1);
    desired.map(|desired| &desired.body["spec"]["service"]["namespace"])
}

#[test]
fn previous_replicas_serve_until_all_new_ones_are_ready() {
    let mut state = Move::begin();
    for ready in [0, 1] {
        state.ready = ready;
        let (plan, subjects) = state.plan();
        assert_eq!(api_service(&plan), None, "{ready} of 2 replicas are ready");
        let problem = &plan.blocked[&ManagedObject::ApiServiceV1];
        assert_eq!(problem.reason, Reason::Progressing);
        assert!(problem.message.contains("from namespace old to metrics-system"), "{}", problem.message);
        assert_eq!(subjects, [HERE, OLD], "the previous replicas keep their permissions");
        assert_eq!(plan.namespace, OLD);
        assert!(state.removals().is_empty());
        // Everything else is created beside them.
        let created = |object| plan.desired.iter().any(|desired| desired.object == object);
        assert!(created(ManagedObject::Deployment) && created(ManagedObject::CaSecret));
    }
    state.ready = 2;
    let (plan, subjects) = state.plan();
    assert_eq!(api_service(&plan), Some(&json!(HERE)));
    assert_eq!(subjects, [HERE, OLD]);
    assert!(state.removals().is_empty(), "the APIServices have not moved yet");
}

#[test]
fn previous_objects_are_deleted_once_every_kube_apiserver_knows_the_move() {
    let mut state = Move { ready: 2, api_services_in: HERE, ..Move::begin() };
    state.announced_for = Duration::from_secs(59);
    assert!(state.removals().is_empty());
    state.announced_for = Duration::from_secs(60);
    let workload = [ManagedObject::DisruptionBudget, ManagedObject::Deployment, ManagedObject::Service];
    assert_eq!(state.removals(), workload);
    assert_eq!(state.plan().1, [HERE, OLD], "its pods terminate");

    // Its pods still terminate: nothing that they need is deleted.
    state.absent(&[ManagedObject::DisruptionBudget, ManagedObject::Service]);
    let Some(Found::Present(deployment)) = state.previous.get_mut(&ManagedObject::Deployment) else {
        panic!("no Deployment")
    };
    deployment.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    assert!(state.removals().is_empty());
    assert_eq!(state.plan().1, [HERE, OLD]);

    state.absent(&[ManagedObject::Deployment]);
    assert_eq!(state.plan().1, [HERE]);
    let rest = state.removals();
    assert!(
        rest.contains(&ManagedObject::CaSecret) && rest.contains(&ManagedObject::ServiceAccount),
        "{rest:?}"
    );
    let kept = [ManagedObject::FrontProxySecret, ManagedObject::FrontProxyCaSecret];
    assert!(!rest.iter().any(|object| kept.contains(object)), "a kube-apiserver may depend on them");

    let rest: Vec<_> = rest.into_iter().collect();
    state.absent(&rest);
    let plan = state.plan().0;
    assert!(plan.migration.is_none());
    assert_eq!(plan.namespace, HERE, "recorded: the move is complete");
}

#[test]
fn version_that_recorded_no_namespace_is_recognized_by_its_api_services() {
    let unrecorded = Move { recorded: None, ready: 1, ..Move::begin() };
    let plan = unrecorded.plan().0;
    assert_eq!((api_service(&plan), plan.namespace.as_str()), (None, OLD));
    let settled = Move { recorded: None, api_services_in: HERE, ..Move::begin() };
    let plan = settled.plan().0;
    assert!(plan.migration.is_none() && plan.namespace == HERE);
}

#[test]
fn without_previous_replicas_the_first_new_one_suffices() {
    let mut state = Move { ready: 1, ..Move::begin() };
    state.absent(&[ManagedObject::Deployment]);
    assert_eq!(api_service(&state.plan().0), Some(&json!(HERE)));
}

/// A move from `old` to `third` was interrupted by one from `third` to here, or somebody edited the APIServices.
#[test]
fn api_services_of_any_other_namespace_wait_for_a_ready_replica() {
    for recorded in [OLD, HERE] {
        let mut state = Move { recorded: Some(recorded), api_services_in: "third", ..Move::begin() };
        assert_eq!(api_service(&state.plan().0), None, "replicas in third may serve");
        state.ready = 1;
        assert_eq!(api_service(&state.plan().0), Some(&json!(HERE)));
    }
}

#[test]
fn missing_permission_is_reported_and_no_binding_outlives_the_move() {
    let why = Unreadable { forbidden: true, message: "secrets is forbidden".to_owned() };
    let mut state = Move::begin();
    state.previous = BTreeMap::from([(ManagedObject::ServiceAccount, Found::Unreadable(why))]);
    let (plan, subjects) = state.plan();
    assert_eq!(subjects, [HERE, OLD]);
    let problem = plan.migration.expect("a migration").problem.expect("a problem");
    assert_eq!(problem.reason, Reason::PermissionMissing);
    for part in [
        "--set previousNamespace=old",
        "kubectl patch metricspipeline main",
        "\"namespace\":\"metrics-system\"",
    ] {
        assert!(problem.message.contains(part), "{}", problem.message);
    }
    state = Move { ready: 2, api_services_in: HERE, ..state };
    let (plan, subjects) = state.plan();
    assert_eq!(subjects, [HERE]);
    assert_eq!(plan.namespace, OLD, "until someone has looked");
}

#[test]
fn foreign_object_in_the_previous_namespace_is_left_alone() {
    let mut state = Move { ready: 2, api_services_in: HERE, ..Move::begin() };
    let foreign: DynamicObject =
        serde_json::from_value(json!({ "metadata": { "name": "metrics-core", "uid": "u" } }))
            .expect("an object");
    state.previous.insert(ManagedObject::Service, Found::Present(Box::new(foreign)));
    assert!(!state.removals().contains(&ManagedObject::Service));
}
