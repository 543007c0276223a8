use crds::MetricsPipelineSpec;
use kube::core::Status;

use super::*;
use crate::common::ManagedObject;
use crate::common::request::RequestError;
use crate::plan::PlanError;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn plan(action: Action) -> Plan {
    let pipeline = Pipeline {
        finalizers: vec![crds::FINALIZER.to_owned()],
        ..Pipeline::for_test("cluster", MetricsPipelineSpec::default())
    };
    Plan { pipelines: vec![pipeline], action, nanny_due: None }
}

/// Returns status and reason of the first three conditions; `None` if nothing was evaluated.
fn three(applied: &Applied, plan: &Plan, is_last: bool) -> Option<Vec<(ConditionStatus, Reason)>> {
    let observed = Observed::default();
    let input = AssessmentInput { namespace: "ns", observed: &observed, applied, is_last, now: now() };
    let active = Assessor::default().assess(input, plan).active?;
    Some(active.conditions[..3].iter().map(|condition| (condition.status, condition.reason)).collect())
}

fn interrupted(interruption: Interruption) -> Applied {
    Applied { interrupted: Some(interruption), ..Applied::default() }
}

#[test]
fn a_finalizer_that_cannot_be_written_is_reported() {
    let denied = Status::failure("denied by a webhook", "Forbidden").with_code(403);
    let error = RequestError::from(kube::Error::Api(denied.boxed()));
    let applied =
        interrupted(Interruption::Failed(ApplyError::Finalizer { name: "cluster".to_owned(), error }));
    let plan = plan(Action::AddFinalizer);
    let observed = Observed::default();
    let input = AssessmentInput {
        namespace: "ns",
        observed: &observed,
        applied: &applied,
        is_last: false,
        now: now(),
    };
    let active = Assessor::default().assess(input, &plan).active.expect("an assessment");
    let ready = &active.conditions[0];
    assert_eq!((ready.status, ready.reason), (ConditionStatus::False, Reason::ApplyFailed));
    assert!(
        ready.message.contains("MetricsPipeline cluster") && ready.message.contains("denied by a webhook")
    );
    assert_eq!(active.is_rolled_out, None);
    // With the finalizer the next round follows at once.
    assert_eq!(three(&Applied::default(), &plan, false), None);
}

#[test]
fn conditions_are_evaluated_when_kube_apiserver_is_lost_while_writing() {
    let applied = interrupted(Interruption::Failed(ApplyError::Unreachable("reset".to_owned())));
    let plan = plan(Action::Maintain(Box::default()));
    let found = three(&applied, &plan, false).expect("conditions");
    assert_eq!(found[0].0, ConditionStatus::False);
    assert_eq!(found[1], (ConditionStatus::True, Reason::Progressing));
}

#[test]
fn conditions_are_evaluated_in_the_last_round_although_the_plan_is_always_outdated() {
    let applied = interrupted(Interruption::Outdated);
    let plan = plan(Action::Maintain(Box::default()));
    assert_eq!(three(&applied, &plan, false), None);
    assert!(three(&applied, &plan, true).is_some());
    // The same while objects are deleted.
    let teardown = TeardownPlan {
        removals: Vec::new(),
        waiting: vec![ManagedObject::Service],
        blocked: std::collections::BTreeMap::new(),
    };
    let plan = self::plan(Action::TearDown(teardown));
    let mut applied = Applied::default();
    applied.outcome.deleted.push(ManagedObject::Service);
    assert_eq!(three(&applied, &plan, false), None);
    let deleting = three(&applied, &plan, true).expect("conditions");
    assert_eq!(deleting[0], (ConditionStatus::False, Reason::Deleting));
    assert_eq!(deleting[1], (ConditionStatus::True, Reason::Deleting));
    assert_eq!(deleting[2], (ConditionStatus::False, Reason::AsExpected));
}

#[test]
fn a_plan_that_cannot_be_made_is_reported() {
    let pipeline = Pipeline::for_test("cluster", MetricsPipelineSpec::default());
    let active = Assessor::default().without_plan(&pipeline, &PlanError::Stopped, now());
    let ready = &active.conditions[0];
    assert_eq!((ready.status, ready.reason), (ConditionStatus::False, Reason::ApplyFailed));
    assert!(ready.message.contains("the planner thread stopped"), "{}", ready.message);
}
