//! Evaluates the conditions, from what was observed, planned and applied. Pure.
//!
//! This is the fourth step of a round. [`Assessor::assess`] returns an [`Assessment`]: the conditions of every MetricsPipeline
//! ([`conditions`]), and one cause for each symptom ([`diagnosis`]).

pub(crate) mod conditions;
pub(crate) mod diagnosis;

use crds::{NodesWithCause, Reason};
use jiff::Timestamp;

use crate::apply::{Applied, ApplyError, Interruption};
use crate::common::{FIELD_MANAGER, Problem};
use crate::observe::{Observed, Pipeline};
use crate::plan::{Action, MaintainPlan, Plan, TeardownPlan};
use conditions::{Condition, ConditionStatus, Evidence, FaultTimer};
use diagnosis::{Cause, DiagnosisInput};

/// The conditions that the MetricsPipelines should have.
#[derive(Debug, Default)]
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
    /// Whether the current generation is rolled out, now or before; `None` if that was not evaluated.
    pub is_rolled_out: Option<bool>,
    /// Whether nothing at all is wrong.
    pub healthy: bool,
}

impl<'a> ActiveAssessment<'a> {
    /// Returns an assessment of the MetricsPipeline as a whole: the conditions of its parts are not evaluated.
    fn of_whole(pipeline: &'a Pipeline, conditions: Vec<Condition>) -> Self {
        Self { pipeline, conditions, kubelets: None, is_rolled_out: None, healthy: false }
    }

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

/// What an assessment is made from.
#[derive(Clone, Copy)]
pub(crate) struct AssessmentInput<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// The observed state, after this round's writes.
    pub observed: &'a Observed,
    /// What was done.
    pub applied: &'a Applied,
    /// Whether no other round follows at once: then the conditions are evaluated in any case.
    pub is_last: bool,
    /// The time of the round.
    pub now: Timestamp,
}

/// Evaluates the conditions. Its only state is since when there is a fault.
#[derive(Debug, Default)]
pub(crate) struct Assessor {
    timer: FaultTimer,
}

impl Assessor {
    /// Evaluates the conditions of every MetricsPipeline.
    #[must_use]
    pub(crate) fn assess<'a>(&mut self, input: AssessmentInput<'_>, plan: &'a Plan) -> Assessment<'a> {
        let roles = plan.roles();
        let malformed = roles.malformed.into_iter().map(|pipeline| {
            let error = pipeline.spec.as_ref().err().map_or("", String::as_str);
            (pipeline, conditions::malformed(error))
        });
        let conflicting = roles.active.map(|active| {
            roles.conflicting.into_iter().map(move |pipeline| (pipeline, conditions::conflict(active)))
        });
        let others = malformed.chain(conflicting.into_iter().flatten()).collect();
        // An outdated plan is made again at once.
        let is_outdated = matches!(input.applied.interrupted, Some(Interruption::Outdated));
        let active = roles.active.filter(|_| input.is_last || !is_outdated);
        let active = active.and_then(|pipeline| match &plan.action {
            Action::Idle => None,
            Action::AddFinalizer | Action::RemoveFinalizer => self.finalizer(pipeline, input),
            Action::Orphan(_) => self.orphaned(pipeline, input),
            Action::TearDown(plan) => self.teardown(pipeline, plan, input),
            Action::Maintain(plan) => self.maintained(pipeline, plan, input),
        });
        Assessment { active, others }
    }

    /// Returns the assessment of the active MetricsPipeline when no plan can be made.
    #[must_use]
    pub(crate) fn without_plan<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        error: &dyn std::error::Error,
        now: Timestamp,
    ) -> ActiveAssessment<'a> {
        let message = format!(
            "The operator cannot decide what to do: {error}. This is a defect of the operator. It retries."
        );
        self.blocked(pipeline, &Problem::new(Reason::ApplyFailed, message), now)
    }

    fn blocked<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        problem: &Problem,
        now: Timestamp,
    ) -> ActiveAssessment<'a> {
        let conditions = conditions::blocked(problem, pipeline.generation, |needs_help| {
            self.timer.is_lasting(pipeline, needs_help, now)
        });
        ActiveAssessment::of_whole(pipeline, conditions)
    }

    /// Only a finalizer that can't be written is reported: with it, the next round follows at once.
    fn finalizer<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        input: AssessmentInput<'_>,
    ) -> Option<ActiveAssessment<'a>> {
        let Some(Interruption::Failed(ApplyError::Finalizer { error, .. })) = &input.applied.interrupted
        else {
            return None;
        };
        let message = format!(
            "The finalizer of MetricsPipeline {0} cannot be written: {error}. Nothing is changed without it. Check the \
             admission webhooks that match MetricsPipelines, and the operator's permission: `kubectl auth can-i patch \
             metricspipelines --as system:serviceaccount:{1}:{2}`.",
            pipeline.name, input.namespace, FIELD_MANAGER
        );
        Some(self.blocked(pipeline, &Problem::new(Reason::ApplyFailed, message), input.now))
    }

    /// An owner reference that can't be removed is reported, and else what keeps the finalizer.
    fn orphaned<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        input: AssessmentInput<'_>,
    ) -> Option<ActiveAssessment<'a>> {
        let problems = &input.applied.outcome.problems;
        if problems.is_empty() {
            return self.finalizer(pipeline, input);
        }
        let conditions = conditions::deleting(&[], problems, input.namespace, |needs_help| {
            self.timer.is_lasting(pipeline, needs_help, input.now)
        });
        Some(ActiveAssessment::of_whole(pipeline, conditions))
    }

    fn teardown<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        plan: &TeardownPlan,
        input: AssessmentInput<'_>,
    ) -> Option<ActiveAssessment<'a>> {
        if input.applied.wrote() && !input.is_last {
            return None;
        }
        let mut problems = plan.blocked.clone();
        problems.extend(input.applied.outcome.problems.clone());
        let conditions = conditions::deleting(&plan.waiting, &problems, input.namespace, |needs_help| {
            self.timer.is_lasting(pipeline, needs_help, input.now)
        });
        Some(ActiveAssessment::of_whole(pipeline, conditions))
    }

    fn maintained<'a>(
        &mut self,
        pipeline: &'a Pipeline,
        plan: &MaintainPlan,
        input: AssessmentInput<'_>,
    ) -> Option<ActiveAssessment<'a>> {
        let AssessmentInput { namespace, observed, applied, is_last, now } = input;
        let spec = pipeline.spec.as_ref().ok()?;
        // Every replica serves a certificate of the new CA: the next plan drops the old one.
        let is_proven = observed.proof.as_ref().is_some_and(|proof| proof.proven(&observed.pods).is_some());
        if plan.expected_certificate.is_some() && !applied.outcome.wrote() && is_proven && !is_last {
            return None;
        }
        let evidence = Evidence {
            namespace,
            spec,
            observed,
            generation: pipeline.generation,
            rolled_out_generation: pipeline.status.rolled_out_generation,
            plan,
            failed: &applied.outcome.problems,
            now,
        };
        // What was not written because kube-apiserver was lost has no problem of its own.
        let is_complete = applied.interrupted.is_none();
        let evaluated = conditions::evaluate(evidence, is_complete, |needs_help| {
            self.timer.is_lasting(pipeline, needs_help, now)
        });
        let input = DiagnosisInput { namespace, spec, observed, now };
        let kubelets = observed.facts.coverage.map(|_| kubelet_causes(input));
        let is_met = |condition: &Condition| {
            !condition.kind.is_of_pipeline() || condition.status == ConditionStatus::True
        };
        let healthy = evaluated.conditions.iter().all(is_met)
            && observed.reports().all(|report| report.scrapes.is_empty());
        Some(ActiveAssessment {
            pipeline,
            conditions: evaluated.conditions,
            kubelets,
            is_rolled_out: Some(evaluated.is_rolled_out),
            healthy,
        })
    }
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

#[cfg(test)]
mod tests;
