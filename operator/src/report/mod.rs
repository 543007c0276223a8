//! Tells what was found and done: status, events, metrics. Nothing is written when nothing changed.

mod events;
mod status;
mod telemetry;

use crds::{MetricsPipeline, MetricsPipelineStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;

use crate::observe::Pipeline;
use crate::owned::FIELD_MANAGER;

pub use events::Events;
pub use status::{Facts, status};
pub use telemetry::Telemetry;

/// Writes statuses and events.
#[derive(Clone)]
pub struct Reporter {
    client: Client,
    events: Events,
}

impl Reporter {
    /// Events are signed with the identity.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        Self { events: Events::new(client.clone(), identity), client }
    }

    /// Writes a status if it differs from the one that is stored, and events for what changed. Whether it did.
    pub async fn report(
        &self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
    ) -> Result<bool, kube::Error> {
        if *status == pipeline.status {
            return Ok(false);
        }
        let body = json!({
            "apiVersion": MetricsPipeline::api_version(&()),
            "kind": MetricsPipeline::kind(&()),
            // With the uid, a status never lands on a later MetricsPipeline of the same name.
            "metadata": { "name": pipeline.name, "uid": pipeline.uid },
            "status": status,
        });
        let api: Api<MetricsPipeline> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch_status(&pipeline.name, &parameters, &Patch::Apply(&body)).await?;
        self.events.transitions(pipeline, status).await;
        Ok(true)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}
