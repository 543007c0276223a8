//! Evaluates the conditions, from what was observed, planned and applied. Pure.
//!
//! This is the fourth step of a round. [`assess`] returns an [`Assessment`]: the conditions of every MetricsPipeline
//! ([`conditions`]), and one cause for each symptom ([`diagnosis`]).

pub(crate) mod conditions;
pub(crate) mod diagnosis;

use crds::NodesWithCause;
use jiff::Timestamp;

use crate::apply::Applied;
use crate::observe::{Observed, Pipeline};
use crate::plan::{Action, MaintainPlan, Plan, TeardownPlan};
use conditions::{Condition, ConditionStatus, Evidence};
use diagnosis::{Cause, DiagnosisInput};

/// The conditions that the MetricsPipelines should have.
#[derive(Debug)]
pub(crate) struct Assessment<'a> {
    /// The active MetricsPipeline's; `None` when there is none, and when the next round follows at once with a new plan.
    pub active: Option<ActiveAssessment<'a>>,
    /// Those of the MetricsPipelines that are not active.
    pub others: Vec<(&'a Pipeline, Vec<Condition>)>,
}

/// The assessment of the active MetricsPipeline.
#[derive(Debug)]
pub(crate) struct ActiveAssessment<'a> {
    /// The MetricsPipeline.
    pub pipeline: &'a Pipeline,
    /// Its conditions, `Ready` first.
    pub conditions: Vec<Condition>,
    /// The causes why nodes have no metrics, or incomplete or wrong ones; `None` when no replica reports.
    pub kubelets: Option<Vec<KubeletCause>>,
    /// Whether nothing at all is wrong.
    pub healthy: bool,
}

impl ActiveAssessment<'_> {
    /// Whether the condition `Ready` is True.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.conditions.first().is_some_and(|ready| ready.status == ConditionStatus::True)
    }
}

/// A cause why nodes have no metrics, or incomplete or wrong ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KubeletCause {
    /// The cause's code and the nodes.
    pub nodes: NodesWithCause,
    /// The cause with evidence and remedy.
    pub cause: Cause,
}

/// Evaluates the conditions of every MetricsPipeline.
#[must_use]
pub(crate) fn assess<'a>(
    namespace: &str,
    observed: &Observed,
    plan: &'a Plan,
    applied: &Applied,
    now: Timestamp,
) -> Assessment<'a> {
    let roles = plan.roles();
    let malformed = roles.malformed.into_iter().map(|pipeline| {
        let error = pipeline.spec.as_ref().err().map_or("", String::as_str);
        (pipeline, conditions::malformed(error))
    });
    let conflicting = roles.active.map(|active| {
        roles.conflicting.into_iter().map(move |pipeline| (pipeline, conditions::conflict(active)))
    });
    let others = malformed.chain(conflicting.into_iter().flatten()).collect();
    let active = roles.active.filter(|_| applied.interrupted.is_none());
    let active = active.and_then(|pipeline| match &plan.action {
        Action::Idle | Action::AddFinalizer | Action::RemoveFinalizer | Action::Orphan(_) => None,
        Action::TearDown(plan) => assess_teardown(namespace, pipeline, plan, applied),
        Action::Maintain(plan) => assess_maintained(namespace, observed, pipeline, plan, applied, now),
    });
    Assessment { active, others }
}

fn assess_teardown<'a>(
    namespace: &str,
    pipeline: &'a Pipeline,
    plan: &TeardownPlan,
    applied: &Applied,
) -> Option<ActiveAssessment<'a>> {
    let mut problems = plan.blocked.clone();
    problems.extend(applied.outcome.problems.clone());
    let conditions = vec![conditions::deleting(&plan.waiting, &problems, namespace)];
    let assessment = ActiveAssessment { pipeline, conditions, kubelets: None, healthy: false };
    (!applied.wrote()).then_some(assessment)
}

fn assess_maintained<'a>(
    namespace: &str,
    observed: &Observed,
    pipeline: &'a Pipeline,
    plan: &MaintainPlan,
    applied: &Applied,
    now: Timestamp,
) -> Option<ActiveAssessment<'a>> {
    let spec = pipeline.spec.as_ref().ok()?;
    // Every replica serves a certificate of the new CA: the next plan drops the old one.
    let is_proven = observed.proof.as_ref().is_some_and(|proof| proof.proven(&observed.pods).is_some());
    if plan.expected_certificate.is_some() && !applied.outcome.wrote() && is_proven {
        return None;
    }
    let failed = &applied.outcome.problems;
    let conditions = conditions::evaluate(Evidence { namespace, spec, observed, plan, failed, now });
    let input = DiagnosisInput { namespace, spec, observed, now };
    let kubelets = observed.facts.coverage.map(|_| kubelet_causes(input));
    let healthy = conditions.iter().all(|condition| condition.status == ConditionStatus::True)
        && observed.reports().all(|report| report.scrapes.is_empty());
    Some(ActiveAssessment { pipeline, conditions, kubelets, healthy })
}

/// Explains each cause of the nodes. A code that is both why scrapes fail and what is wrong with samples is explained
/// once.
fn kubelet_causes(input: DiagnosisInput<'_>) -> Vec<KubeletCause> {
    let facts = &input.observed.facts;
    let explain = |nodes: NodesWithCause| {
        let failing = facts.failing.iter().find(|failing| failing.cause.as_str() == nodes.cause);
        let samples = || facts.faulty_samples.iter().find(|samples| samples.code == nodes.cause);
        let cause = match failing {
            Some(failing) => diagnosis::kubelets::explain(input, failing),
            None => diagnosis::samples::explain(input, samples()?),
        };
        Some(KubeletCause { nodes, cause })
    };
    facts.causes().into_iter().filter_map(explain).collect()
}
