//! The conditions of a MetricsPipeline, one file for each condition type. Pure.
//!
//! [`evaluate`] takes [`Evidence`] (the observed state, the plan, failed writes) and returns one [`Condition`] for each type:
//! [`ready`], [`reconciling`] and [`stalled`], which describe the whole, then those of the pipeline. A message states the
//! cause, then the evidence, then the remedy.

mod access;
mod aggregation_layer;
mod api_service;
mod certificates;
mod deployment;
mod kubelets;
mod metrics_served;
mod nodes_covered;
mod pods;
mod ready;
mod reconciling;
mod rollout;
mod sized;
mod stalled;

use std::collections::BTreeMap;

use crds::{ConditionType, MetricsPipelineSpec, Reason};
use jiff::Timestamp;

use crate::assess::DiagnosisInput;
use crate::assess::diagnosis::{Cause, Severity, diagnose};
use crate::common::{ManagedObject, Problem};
use crate::observe::{FailingNodes, Observed, Pipeline};
use crate::plan::MaintainPlan;

pub(crate) use stalled::FaultTimer;

/// The `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConditionStatus {
    /// The condition is met.
    True,
    /// The condition is not met.
    False,
    /// The operator cannot determine the status, or has not determined it yet.
    Unknown,
}

impl ConditionStatus {
    /// Returns the value of the field `status`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The evaluated state of one condition type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The condition type.
    pub kind: ConditionType,
    /// The status.
    pub status: ConditionStatus,
    /// The machine-readable reason.
    pub reason: Reason,
    /// Cause, evidence and remedy, in full sentences.
    pub message: String,
    /// Whether `Ready` stays True when this condition is not True. `Ready` then reports this condition's reason.
    pub non_blocking: bool,
}

impl Condition {
    /// Returns a condition that blocks `Ready` unless its status is True.
    #[must_use]
    pub(crate) fn new(
        kind: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, status, reason, message: message.into(), non_blocking: false }
    }

    /// Whether the condition reports a cause that does not go away by itself: not progress, and not what only follows from
    /// another condition.
    fn needs_help(&self) -> bool {
        let is_harmless = matches!(
            self.reason,
            Reason::AsExpected
                | Reason::Progressing
                | Reason::Pending
                | Reason::WaitingForDependency
                | Reason::ClusterSizeUnknown
                | Reason::Deleting
        );
        self.status != ConditionStatus::True && !is_harmless
    }

    /// Marks the condition as non-blocking: `Ready` may be True without it.
    #[must_use]
    pub(crate) fn non_blocking(self) -> Self {
        Self { non_blocking: true, ..self }
    }

    fn cause(kind: ConditionType, cause: &Cause) -> Self {
        let status = match cause.severity {
            Severity::Fault => ConditionStatus::False,
            Severity::Warning => ConditionStatus::True,
        };
        Self::new(kind, status, cause.reason, cause.message())
    }

    fn problem(kind: ConditionType, problem: &Problem) -> Self {
        Self::new(kind, ConditionStatus::False, problem.reason, problem.message.clone())
    }
}

/// The input from which conditions are evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// The desired state.
    pub spec: &'a MetricsPipelineSpec,
    /// The observed state, after this round's writes.
    pub observed: &'a Observed,
    /// `metadata.generation` of the MetricsPipeline.
    pub generation: i64,
    /// The generation that was rolled out before.
    pub rolled_out_generation: Option<i64>,
    /// The plan of this round.
    pub plan: &'a MaintainPlan,
    /// Objects that could not be written, with the reason.
    pub failed: &'a BTreeMap<ManagedObject, Problem>,
    /// The time of the evaluation.
    pub now: Timestamp,
}

impl Evidence<'_> {
    /// Returns the first problem of the given objects. A problem with a cause of its own comes before
    /// `WaitingForDependency`, which only follows from another problem.
    fn problem(&self, objects: &[ManagedObject]) -> Option<&Problem> {
        let problems = || {
            objects
                .iter()
                .filter_map(|object| self.failed.get(object).or_else(|| self.plan.blocked.get(object)))
        };
        problems()
            .find(|problem| problem.reason != Reason::WaitingForDependency)
            .or_else(|| problems().next())
    }
}

/// The conditions of the active MetricsPipeline.
#[derive(Debug)]
pub(crate) struct Evaluated {
    /// All conditions, `Ready` first.
    pub conditions: Vec<Condition>,
    /// Whether the current generation is rolled out, now or before.
    pub is_rolled_out: bool,
}

/// Evaluates all conditions of the active MetricsPipeline. `is_applied` is whether the plan was carried out to its end.
/// `is_lasting` returns whether the cause that makes the pipeline not Ready has lasted; it is called with whether there is
/// one.
#[must_use]
pub(crate) fn evaluate(
    evidence: Evidence<'_>,
    is_applied: bool,
    is_lasting: impl FnOnce(bool) -> bool,
) -> Evaluated {
    let symptoms = &evidence.observed.facts.symptoms;
    let diagnosis = diagnose(DiagnosisInput {
        namespace: evidence.namespace,
        spec: evidence.spec,
        observed: evidence.observed,
        now: evidence.now,
    });
    let of_pipeline = vec![
        certificates::evaluate(evidence),
        access::evaluate(evidence),
        deployment::evaluate(evidence, &diagnosis),
        sized::evaluate(evidence),
        aggregation_layer::evaluate(evidence, &diagnosis, symptoms),
        api_service::evaluate(evidence, &diagnosis, symptoms),
        kubelets::evaluate(evidence, &diagnosis),
        nodes_covered::evaluate(evidence, &diagnosis),
        metrics_served::evaluate(evidence, &diagnosis),
    ];
    let is_rolled_out = rollout::was_complete(evidence) || (is_applied && rollout::is_complete(evidence));
    let rollout = (!is_rolled_out).then_some(evidence.generation);
    let ready = ready::evaluate(&of_pipeline, rollout);
    let is_stalled = is_lasting(ready.needs_help());
    let mut conditions =
        vec![ready.clone(), reconciling::evaluate(&ready, evidence.generation, rollout, is_stalled)];
    conditions.push(stalled::evaluate(&ready, is_stalled));
    conditions.extend(of_pipeline);
    Evaluated { conditions, is_rolled_out }
}

/// Returns the conditions of a MetricsPipeline that is not active because an older one exists.
#[must_use]
pub(crate) fn conflict(served: &Pipeline) -> Vec<Condition> {
    all_alike(
        Reason::Conflict,
        &format!(
            "A cluster has one metrics API, and the older MetricsPipeline {0} already serves it. Edit MetricsPipeline {0} \
             instead, or run `kubectl delete metricspipeline {0}`: this MetricsPipeline then takes over.",
            served.name
        ),
    )
}

/// Returns the conditions of a MetricsPipeline whose spec cannot be parsed.
#[must_use]
pub(crate) fn malformed(error: &str) -> Vec<Condition> {
    all_alike(
        Reason::InvalidSpec,
        &format!(
            "The spec cannot be parsed: spec.{error}. The operator changed nothing. The object was probably stored \
             under another version of the CustomResourceDefinition. Correct the field and run `kubectl apply`, which \
             validates the spec."
        ),
    )
}

/// Returns the conditions of a MetricsPipeline that is being deleted. The conditions of the pipeline keep their last status.
#[must_use]
pub(crate) fn deleting(
    waiting: &[ManagedObject],
    problems: &BTreeMap<ManagedObject, Problem>,
    namespace: &str,
    is_lasting: impl FnOnce(bool) -> bool,
) -> Vec<Condition> {
    let names: Vec<_> = waiting.iter().map(|object| object.describe(namespace)).collect();
    let message = match problems.values().next() {
        Some(problem) => problem.message.clone(),
        // A foreground deletion waits for the pods, and a pod on a node that is down never terminates by itself.
        None if waiting.contains(&ManagedObject::Deployment) => format!(
            "Waiting for deletion of {}. A pod on a node that is down terminates only when the node returns or its \
             Node object is deleted. Run `kubectl get pods --selector app.kubernetes.io/name=metrics-core --namespace \
             {namespace} -o wide`.",
            names.join(", ")
        ),
        None => format!("Waiting for deletion of {}.", names.join(", ")),
    };
    let ready =
        Condition::new(ConditionType::Ready, ConditionStatus::False, Reason::Deleting, message.clone());
    let is_stalled = is_lasting(!problems.is_empty());
    let reconciling = if is_stalled { ConditionStatus::False } else { ConditionStatus::True };
    let reconciling = Condition::new(ConditionType::Reconciling, reconciling, Reason::Deleting, message);
    let stalled = stalled::evaluate(&ready, is_stalled);
    vec![ready, reconciling, stalled]
}

/// Returns the conditions of a MetricsPipeline for which the operator can do nothing: its finalizer can't be written, or no
/// plan can be made. The conditions of the pipeline keep their last status.
#[must_use]
pub(crate) fn blocked(
    problem: &Problem,
    generation: i64,
    is_lasting: impl FnOnce(bool) -> bool,
) -> Vec<Condition> {
    let ready =
        Condition::new(ConditionType::Ready, ConditionStatus::False, problem.reason, problem.message.clone());
    let is_stalled = is_lasting(true);
    let reconciling = reconciling::evaluate(&ready, generation, Some(generation), is_stalled);
    let stalled = stalled::evaluate(&ready, is_stalled);
    vec![ready, reconciling, stalled]
}

/// Formats a cause and its nodes: `connection_refused: a, b`.
fn named(failing: &FailingNodes) -> String {
    let status = failing.status();
    let more = if status.nodes.len() < failing.count {
        format!(" and {} more", failing.count - status.nodes.len())
    } else {
        String::new()
    };
    format!("{}: {}{more}", failing.cause, status.nodes.join(", "))
}

fn all_alike(reason: Reason, message: &str) -> Vec<Condition> {
    ConditionType::ALL
        .map(|kind| {
            let status = match kind {
                ConditionType::Ready | ConditionType::Reconciling => ConditionStatus::False,
                ConditionType::Stalled => ConditionStatus::True,
                _ => ConditionStatus::Unknown,
            };
            Condition::new(kind, status, reason, message)
        })
        .into()
}

#[cfg(test)]
mod tests;
