//! Reports what was found and done: status, events and metrics. Nothing is written when nothing changed.
//!
//! This is the last step of a round. [`Reporter::report`] publishes an event for every action of the round, writes the
//! status of every MetricsPipeline whose assessment changed, and updates the metrics.

mod actions;
mod event_dedup;
mod events;
mod nanny;
mod status;
mod status_rate;
mod telemetry;

use std::time::Duration;

use crds::{MetricsPipeline, MetricsPipelineStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::apply::Applied;
use crate::assess::{ActiveAssessment, Assessment, KubeletCause};
use crate::common::FIELD_MANAGER;
use crate::common::request::{RequestError, with_retry, within};
use crate::observe::{Observed, Pipeline};
use crate::plan::{Action, Plan};
use events::Events;
use status::{Details, status};
use status_rate::StatusRate;

#[cfg(test)]
pub(crate) use nanny::status as nanny_status;
pub(crate) use telemetry::Telemetry;

/// The deadline of a write of a status.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a round gives to report.
#[derive(Clone, Copy)]
pub(crate) struct Round<'a> {
    /// The observed state, after this round's writes.
    pub observed: &'a Observed,
    /// The plan.
    pub plan: &'a Plan,
    /// What was done.
    pub applied: &'a Applied,
    /// The conditions.
    pub assessment: &'a Assessment<'a>,
    /// The time of the round.
    pub now: Timestamp,
}

/// The result of a report.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Whether any status was written.
    pub wrote_status: bool,
    /// Whether MetricsPipelines must be read again.
    pub outdated: bool,
    /// The error of the active MetricsPipeline's status.
    pub active: Option<StatusError>,
    /// The first error of the others' statuses.
    pub others: Option<StatusError>,
}

/// A status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("MetricsPipeline {name}: its status could not be written: {error}")]
pub(crate) struct StatusError {
    name: String,
    error: RequestError,
}

/// Writes statuses and events, and updates the metrics.
pub(crate) struct Reporter {
    client: Client,
    events: Events,
    reported_causes: event_dedup::ReportedCauses,
    status_rate: StatusRate,
    telemetry: Telemetry,
}

impl Reporter {
    /// Returns a reporter whose events name the identity as their source.
    #[must_use]
    pub(crate) fn new(client: Client, namespace: String, identity: String, telemetry: Telemetry) -> Self {
        Self {
            events: Events::new(client.clone(), namespace, identity),
            client,
            reported_causes: event_dedup::ReportedCauses::default(),
            status_rate: StatusRate::default(),
            telemetry,
        }
    }

    /// Reports one round.
    pub(crate) async fn report(&mut self, round: Round<'_>) -> Reported {
        let names = round.plan.pipelines.iter().map(|pipeline| pipeline.name.as_str());
        self.telemetry.keep_only(names);
        self.report_actions(round);
        let mut reported = Reported::default();
        for (pipeline, conditions) in &round.assessment.others {
            let status = status(pipeline, conditions, Some(Details::default()), round.now);
            let error = self.report_status(pipeline, &status, None, &mut reported).await.err();
            reported.others = reported.others.or(error);
        }
        if let Some(active) = &round.assessment.active {
            reported.active = self.report_active(active, round, &mut reported).await.err();
        }
        reported
    }

    async fn report_active(
        &mut self,
        active: &ActiveAssessment<'_>,
        round: Round<'_>,
        reported: &mut Reported,
    ) -> Result<(), StatusError> {
        let Round { observed, applied, now, .. } = round;
        let pipeline = active.pipeline;
        let Action::Maintain(plan) = &round.plan.action else {
            let status = status(pipeline, &active.conditions, None, now);
            return self.report_status(pipeline, &status, None, reported).await;
        };
        let causes = observed.facts.causes();
        self.telemetry.failing_nodes(&causes);
        let resized = applied.resized.clone().unwrap_or_default();
        let nanny =
            nanny::status(pipeline.status.nanny.as_ref(), &plan.sizing, &applied.outcome, &resized, now);
        let details = Details {
            namespace: Some(&plan.namespace),
            certificates: plan.certificates.as_ref(),
            front_proxy: plan.front_proxy.as_ref(),
            nodes: observed.facts.nodes,
            causes: &causes,
            nanny: nanny.as_ref(),
            is_rolled_out: active.is_rolled_out == Some(true),
            failed: Some(&applied.outcome.problems),
        };
        let status = status(pipeline, &active.conditions, Some(details), now);
        self.report_status(pipeline, &status, active.kubelets.as_deref(), reported).await
    }

    /// Reports the active MetricsPipeline when no plan could be made.
    pub(crate) async fn report_without_plan(
        &mut self,
        active: &ActiveAssessment<'_>,
        now: Timestamp,
    ) -> Reported {
        let mut reported = Reported::default();
        let status = status(active.pipeline, &active.conditions, None, now);
        reported.active = self.report_status(active.pipeline, &status, None, &mut reported).await.err();
        reported
    }

    /// Writes a status if it differs from the stored one, and publishes events for what changed.
    async fn report_status(
        &mut self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
        kubelets: Option<&[KubeletCause]>,
        reported: &mut Reported,
    ) -> Result<(), StatusError> {
        self.telemetry.conditions(&pipeline.name, status);
        match self.write_status(pipeline, status, kubelets).await {
            Ok(wrote) => {
                reported.wrote_status |= wrote;
                reported.outdated |= wrote;
                Ok(())
            }
            Err(error) => {
                reported.outdated = true;
                // It changed or was deleted meanwhile: the next round reads it.
                let is_outdated =
                    error.response().is_some_and(|status| status.is_not_found() || status.is_conflict());
                if is_outdated {
                    return Ok(());
                }
                Err(StatusError { name: pipeline.name.clone(), error })
            }
        }
    }

    /// Returns whether the status was written: not if it is equal to the stored one, nor more often than [`StatusRate`]
    /// allows. `kubelets` are the causes that keep kubelets from being scraped now; `None` when they are unknown.
    async fn write_status(
        &mut self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
        kubelets: Option<&[KubeletCause]>,
    ) -> Result<bool, RequestError> {
        let is_due = self.status_rate.is_due(pipeline, status);
        if is_due {
            self.patch_status(pipeline, status).await?;
            self.status_rate.written(pipeline);
            let changes = event_dedup::conditions(&pipeline.status, status, kubelets.unwrap_or_default());
            self.events.publish_all(pipeline, &changes);
        }
        if let Some(kubelets) = kubelets {
            let stored =
                pipeline.status.nodes.as_ref().map(|nodes| nodes.causes.as_slice()).unwrap_or_default();
            let changes = self.reported_causes.kubelets(&pipeline.uid, stored, kubelets, Timestamp::now());
            self.events.publish_all(pipeline, &changes);
        }
        Ok(is_due)
    }

    async fn patch_status(
        &self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
    ) -> Result<(), RequestError> {
        let mut fields = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let stored = serde_json::to_value(&pipeline.status).map_err(kube::Error::SerdeError)?;
        name_removed(&stored, &mut fields);
        // The fields of a status that can't be read are unknown.
        for optional in ["namespace", "nodes", "certificates", "nanny"] {
            name_removed(&json!({ optional: null }), &mut fields);
        }
        // Not by server-side apply: it rejects a MetricsPipeline whose spec no longer fits the schema, and that one above
        // all needs a condition. The version keeps a late status off a changed or recreated object.
        let patch = json!({
            "metadata": { "uid": pipeline.uid, "resourceVersion": pipeline.resource_version },
            "status": fields,
        });
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &ApiResource::erase::<MetricsPipeline>(&()));
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let request = with_retry(|| api.patch_status(&pipeline.name, &parameters, &patch));
        within(DEADLINE, request).await?;
        Ok(())
    }
}

/// Adds `null` for every field that is stored and not in the patch: a merge patch (RFC 7396) removes only what it names.
fn name_removed(stored: &Value, patch: &mut Value) {
    let (Value::Object(stored), Value::Object(patch)) = (stored, patch) else { return };
    for (field, value) in stored {
        name_removed(value, patch.entry(field).or_insert(Value::Null));
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
