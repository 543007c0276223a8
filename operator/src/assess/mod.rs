//! Evaluates the conditions, from what was observed, planned and applied. Pure.
//!
//! This is the fourth step of a round. [`assess`] returns an [`Assessment`]: the conditions of every MetricsPipeline
//! ([`conditions`]), and one cause for each symptom ([`diagnosis`]).

pub(crate) mod conditions;
pub(crate) mod diagnosis;

use jiff::Timestamp;

use crate::apply::Applied;
use crate::observe::{FailingNodes, Observed, Pipeline};
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
    /// The causes that keep kubelets from being scraped; `None` when no replica reports.
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

/// A cause that keeps kubelets from being scraped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KubeletCause {
    /// The nodes.
    pub failing: FailingNodes,
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
        Action::Idle | Action::AddFinalizer | Action::RemoveFinalizer => None,
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
    let explain = |failing: &FailingNodes| KubeletCause {
        cause: diagnosis::kubelets::explain(input, failing),
        failing: failing.clone(),
    };
    let kubelets = observed.facts.coverage.map(|_| observed.facts.failing.iter().map(explain).collect());
    let healthy = conditions.iter().all(|condition| condition.status == ConditionStatus::True)
        && observed.reports().all(|report| report.scrapes.is_empty());
    Some(ActiveAssessment { pipeline, conditions, kubelets, healthy })
}
