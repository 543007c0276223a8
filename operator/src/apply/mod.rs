//! Carries out a plan: finalizers, objects, resizes of pods, approvals of kubelets' CSRs.
//!
//! This is the third step of a round. [`Applier::apply`] writes only what differs, in order, and changes nothing that was
//! observed: what it learned on the way is in [`Applied::learned`], for the observer to take over. Only the versions of its
//! writes are recorded at once, in [`Known`], for the watches to ignore their events.

mod csr_approval;
mod drift;
mod finalizer;
mod rejection;
mod resize;
mod writer;

use jiff::Timestamp;
use kube::Client;

use crate::csr::AllowList;
use crate::observe::{Known, Learned, Observed, Pipeline, Source};
use crate::plan::{Action, MaintainPlan, Plan, Release, Sizing};
use csr_approval::Approver;
pub(crate) use csr_approval::{ApiServers, Approvals};
pub(crate) use resize::Resized;
use resize::Resizer;
pub(crate) use writer::Outcome;
use writer::Writer;

/// What was done, and what was learned on the way.
#[derive(Default)]
pub(crate) struct Applied {
    /// The writes of objects.
    pub outcome: Outcome,
    /// The resizes of pods; `None` when the writes before them were interrupted.
    pub resized: Option<Resized>,
    /// The decisions on kubelets' CSRs.
    pub csrs: Approvals,
    /// What the observer should take over.
    pub learned: Vec<Learned>,
    /// Why the rest of the plan was not carried out.
    pub interrupted: Option<Interruption>,
    /// Errors of MetricsPipelines that are not active.
    pub others: Vec<ApplyError>,
}

impl Applied {
    /// Whether any object or pod was written.
    #[must_use]
    pub(crate) fn wrote(&self) -> bool {
        self.outcome.wrote() || self.resized.as_ref().is_some_and(|resized| !resized.from.is_empty())
    }
}

/// Why a plan was not carried out to the end.
#[derive(Debug)]
pub(crate) enum Interruption {
    /// An object changed after it was observed: the plan must be made again.
    Outdated,
    /// A write failed, and the others would fail as well.
    Failed(ApplyError),
}

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// kube-apiserver was lost while writing.
    #[error("kube-apiserver cannot be reached: {0}")]
    Unreachable(String),
    /// The finalizer could not be written.
    #[error("MetricsPipeline {name}: its finalizer could not be written: {error}")]
    Finalizer {
        /// The MetricsPipeline.
        name: String,
        /// The error.
        error: Box<kube::Error>,
    },
}

/// Carries out plans.
pub(crate) struct Applier {
    client: Client,
    writer: Writer,
    resizer: Resizer,
    approver: Approver,
}

impl Applier {
    /// Returns an applier that has written nothing yet.
    #[must_use]
    pub(crate) fn new(client: Client, namespace: &str, known: Known, servers: ApiServers) -> Self {
        Self {
            writer: Writer::new(client.clone(), namespace.to_owned(), known),
            resizer: Resizer::new(client.clone(), namespace),
            approver: Approver::new(client.clone(), servers),
            client,
        }
    }

    /// Carries out a plan.
    pub(crate) async fn apply(&mut self, plan: &Plan, observed: &Observed, now: Timestamp) -> Applied {
        let mut applied = Applied::default();
        let roles = plan.roles();
        for pipeline in roles.released {
            if let Err(error) = self.set_finalizer(pipeline, false, &mut applied).await {
                applied.others.push(error);
            }
        }
        let Some(pipeline) = roles.active else { return applied };
        match &plan.action {
            Action::Idle => {}
            Action::AddFinalizer => self.set_active_finalizer(pipeline, true, &mut applied).await,
            Action::RemoveFinalizer => self.set_active_finalizer(pipeline, false, &mut applied).await,
            Action::Orphan(releases) => self.orphan(pipeline, releases, &mut applied).await,
            Action::TearDown(plan) => self.writer.remove(&plan.removals, &mut applied).await,
            Action::Maintain(plan) => self.maintain(plan, observed, now, &mut applied).await,
        }
        applied
    }

    /// Removes the finalizer once no object has an owner reference that the operator could remove.
    async fn orphan(&mut self, pipeline: &Pipeline, releases: &[Release], applied: &mut Applied) {
        self.writer.release(releases, applied).await;
        if applied.interrupted.is_none() {
            self.set_active_finalizer(pipeline, false, applied).await;
        }
    }

    async fn maintain(
        &mut self,
        plan: &MaintainPlan,
        observed: &Observed,
        now: Timestamp,
        applied: &mut Applied,
    ) {
        self.writer.write(plan, observed, applied).await;
        if applied.interrupted.is_some() {
            return;
        }
        if let Some(migration) = &plan.migration {
            self.writer.remove_previous(&migration.from, &migration.removals, applied).await;
            if applied.interrupted.is_some() {
                return;
            }
        }
        self.resize(&plan.sizing, observed, now, applied).await;
        if applied.interrupted.is_some() {
            return;
        }
        if let Some(allow_list) = &plan.approve_csrs {
            self.approve_csrs(observed, allow_list, applied).await;
        }
        // What was just written is still on its way to the replicas.
        if !applied.outcome.wrote() {
            applied
                .learned
                .push(Learned::ExpectedCertificate(plan.expected_certificate.clone().map(Box::new)));
        }
    }

    async fn resize(&mut self, sizing: &Sizing, observed: &Observed, now: Timestamp, applied: &mut Applied) {
        let mut resized = Resized::default();
        // While new pods are created with the wanted size, the old ones are left alone.
        if let Sizing { wanted: Some(wanted), template_from: None, .. } = sizing {
            self.resizer.resize(wanted, observed, now, &mut resized, applied).await;
        }
        applied.resized = Some(resized);
    }

    async fn approve_csrs(&mut self, observed: &Observed, allow_list: &AllowList, applied: &mut Applied) {
        let pending = &observed.signing_requests;
        let approvals = self.approver.approve_pending(pending, allow_list).await;
        // Between two checks nothing new is known. The watch reports what was approved.
        if approvals.checked {
            applied.learned.push(Learned::CsrApprovalError(approvals.error.clone()));
            applied.learned.push(Learned::CsrsNotApproved(self.approver.reasons(pending)));
        }
        applied.csrs = approvals;
    }

    async fn set_active_finalizer(&self, pipeline: &Pipeline, wanted: bool, applied: &mut Applied) {
        match self.set_finalizer(pipeline, wanted, applied).await {
            Ok(()) if !wanted => {
                tracing::info!(metricspipeline = pipeline.name, "removed the finalizer");
            }
            Ok(()) => {}
            Err(error) => applied.interrupted = Some(Interruption::Failed(error)),
        }
    }

    async fn set_finalizer(
        &self,
        pipeline: &Pipeline,
        wanted: bool,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        applied.learned.push(Learned::Outdated(Source::Pipelines));
        finalizer::set(&self.client, pipeline, wanted).await
    }
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
