//! What the conditions say, from what was observed and what could not be done.
//!
//! A message names the cause, then the evidence, then what to do about it.

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

use super::{Maintain, Problem};
use crate::diagnosis::kubelets::Failing;
use crate::diagnosis::{Cause, Facts, Symptoms, Weight, diagnose};
use crate::observe::{Observed, Pipeline};
use crate::owned::Owned;

pub use ready::sum_up;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// It can't be known, or was not looked at yet.
    Unknown,
}

impl Holds {
    /// The value of `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What one condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of which type.
    pub condition: ConditionType,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, in words.
    pub message: String,
    /// Whether `Ready` holds without it, and only mentions it.
    pub is_remark: bool,
}

impl Verdict {
    /// A verdict.
    #[must_use]
    pub fn new(condition: ConditionType, holds: Holds, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, holds, reason, message: message.into(), is_remark: false }
    }

    /// The same, but `Ready` holds without it.
    #[must_use]
    pub fn remark(self) -> Self {
        Self { is_remark: true, ..self }
    }

    fn cause(condition: ConditionType, cause: &Cause) -> Self {
        let holds = match cause.weight {
            Weight::Fault => Holds::False,
            Weight::Warning => Holds::True,
        };
        Self::new(condition, holds, cause.reason, cause.message())
    }

    fn problem(condition: ConditionType, problem: &Problem) -> Self {
        Self::new(condition, Holds::False, problem.reason, problem.message.clone())
    }
}

/// What the conditions are judged from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// What was asked for.
    pub spec: &'a MetricsPipelineSpec,
    /// What is there, after writing.
    pub observed: &'a Observed,
    /// What was to be done.
    pub plan: &'a Maintain,
    /// What could not be written, and why.
    pub failed: &'a BTreeMap<Owned, Problem>,
    /// The time of the judgement.
    pub now: Timestamp,
}

impl Evidence<'_> {
    /// The first problem of some objects: what the operator is kept from doing comes before what waits for it.
    fn problem(&self, objects: &[Owned]) -> Option<&Problem> {
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

/// All conditions of the MetricsPipeline that is served, `Ready` first.
#[must_use]
pub fn judge(evidence: Evidence<'_>) -> Vec<Verdict> {
    let symptoms = Symptoms::read(evidence.observed);
    let diagnosis = diagnose(Facts {
        namespace: evidence.namespace,
        spec: evidence.spec,
        observed: evidence.observed,
        now: evidence.now,
    });
    let verdicts = vec![
        certificates::judge(evidence),
        access::judge(evidence),
        deployment::judge(evidence),
        sized::judge(evidence),
        aggregation_layer::judge(evidence, &diagnosis, &symptoms),
        api_service::judge(evidence, &diagnosis, &symptoms),
        kubelets::judge(evidence, &diagnosis),
        nodes_covered::judge(evidence, &diagnosis),
        metrics_served::judge(evidence, &diagnosis),
    ];
    sum_up(verdicts)
}

/// All conditions of a MetricsPipeline that waits for another one.
#[must_use]
pub fn conflict(served: &Pipeline) -> Vec<Verdict> {
    all_alike(
        Reason::Conflict,
        &format!(
            "The older MetricsPipeline {0} is the one that is served, as there is one metrics API in a cluster. Change that \
             one, or run `kubectl delete metricspipeline {0}` for this one to take over.",
            served.name
        ),
    )
}

/// All conditions of a MetricsPipeline that can't be read.
#[must_use]
pub fn malformed(error: &str) -> Vec<Verdict> {
    all_alike(
        Reason::InvalidSpec,
        &format!(
            "The spec can't be read: spec.{error}. Nothing was changed. It was stored under another version of the \
             CustomResourceDefinition: correct it, as `kubectl apply` now checks it."
        ),
    )
}

/// The summary of a MetricsPipeline that is being deleted; the other conditions stay as they were.
#[must_use]
pub fn deleting(waiting: &[Owned], problems: &BTreeMap<Owned, Problem>, namespace: &str) -> Verdict {
    let names: Vec<_> = waiting.iter().map(|object| object.describe(namespace)).collect();
    let message = match problems.values().next() {
        Some(problem) => problem.message.clone(),
        // Its pods end before it does, and one on a node that does not answer never ends by itself.
        None if waiting.contains(&Owned::Deployment) => format!(
            "Waits until it is gone: {}. A pod on a node that is down ends only when the node is back or is deleted: see \
             `kubectl get pods --selector app.kubernetes.io/name=metrics-core --namespace {namespace} -o wide`.",
            names.join(", ")
        ),
        None => format!("Waits until it is gone: {}.", names.join(", ")),
    };
    Verdict::new(ConditionType::Ready, Holds::False, Reason::Deleting, message)
}

/// `refused: a, b`, for a list of causes.
fn named(failing: &Failing) -> String {
    let status = failing.status();
    let more = if status.nodes.len() < failing.count {
        format!(" and {} more", failing.count - status.nodes.len())
    } else {
        String::new()
    };
    format!("{}: {}{more}", failing.cause, status.nodes.join(", "))
}

fn all_alike(reason: Reason, message: &str) -> Vec<Verdict> {
    ConditionType::ALL
        .map(|condition| {
            let holds = if condition == ConditionType::Ready { Holds::False } else { Holds::Unknown };
            Verdict::new(condition, holds, reason, message)
        })
        .into()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
