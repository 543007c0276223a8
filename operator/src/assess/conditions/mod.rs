//! The conditions of a MetricsPipeline, one file for each condition type. Pure.
//!
//! [`evaluate`] takes [`Evidence`] (the observed state, the plan, failed writes) and returns one [`Condition`] for each type,
//! `Ready` first. A message states the cause, then the evidence, then the remedy.

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
mod sized;

use std::collections::BTreeMap;

use crds::{ConditionType, MetricsPipelineSpec, Reason};
use jiff::Timestamp;

use crate::assess::DiagnosisInput;
use crate::assess::diagnosis::{Cause, Severity, diagnose};
use crate::common::{ManagedObject, Problem};
use crate::observe::{FailingNodes, Observed, Pipeline};
use crate::plan::MaintainPlan;

pub(crate) use ready::sum_up;

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

/// Evaluates all conditions of the active MetricsPipeline, `Ready` first.
#[must_use]
pub(crate) fn evaluate(evidence: Evidence<'_>) -> Vec<Condition> {
    let symptoms = &evidence.observed.facts.symptoms;
    let diagnosis = diagnose(DiagnosisInput {
        namespace: evidence.namespace,
        spec: evidence.spec,
        observed: evidence.observed,
        now: evidence.now,
    });
    let conditions = vec![
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
    sum_up(conditions)
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

/// Returns the condition `Ready` of a MetricsPipeline that is being deleted. The other conditions keep their last status.
#[must_use]
pub(crate) fn deleting(
    waiting: &[ManagedObject],
    problems: &BTreeMap<ManagedObject, Problem>,
    namespace: &str,
) -> Condition {
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
    Condition::new(ConditionType::Ready, ConditionStatus::False, Reason::Deleting, message)
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
            let status =
                if kind == ConditionType::Ready { ConditionStatus::False } else { ConditionStatus::Unknown };
            Condition::new(kind, status, reason, message)
        })
        .into()
}

#[cfg(test)]
mod tests;
