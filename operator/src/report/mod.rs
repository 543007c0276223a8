//! Tells what was found and done: status, events, metrics. Nothing is written when nothing changed.

mod event_dedup;
mod events;
pub mod nanny;
mod status;
mod telemetry;

use crds::{MetricsPipeline, MetricsPipelineStatus};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::common::FIELD_MANAGER;
use crate::observe::Pipeline;

pub use event_dedup::KubeletCause;
pub use events::Events;
pub use status::{Facts, status};
pub use telemetry::Telemetry;

/// Writes statuses and events.
pub struct Reporter {
    client: Client,
    events: Events,
    reported_causes: event_dedup::ReportedCauses,
}

impl Reporter {
    /// Events are signed with the identity.
    #[must_use]
    pub fn new(client: Client, namespace: String, identity: String) -> Self {
        Self {
            events: Events::new(client.clone(), namespace, identity),
            client,
            reported_causes: event_dedup::ReportedCauses::default(),
        }
    }

    /// Writes a status if it differs from the one that is stored, and events for what is new. Whether it did.
    /// `kubelets` are the causes that keep kubelets from being scraped now; `None` when that is not known.
    pub async fn report(
        &mut self,
        pipeline: &Pipeline,
        status: &MetricsPipelineStatus,
        kubelets: Option<&[KubeletCause]>,
    ) -> Result<bool, kube::Error> {
        let differs = *status != pipeline.status;
        if differs {
            self.write(pipeline, status).await?;
            let events = event_dedup::conditions(&pipeline.status, status, kubelets.unwrap_or_default());
            self.events.publish_all(pipeline, &events).await;
        }
        if let Some(kubelets) = kubelets {
            let stored =
                pipeline.status.nodes.as_ref().map(|nodes| nodes.causes.as_slice()).unwrap_or_default();
            let events = self.reported_causes.kubelets(&pipeline.uid, stored, kubelets, Timestamp::now());
            self.events.publish_all(pipeline, &events).await;
        }
        Ok(differs)
    }

    async fn write(&self, pipeline: &Pipeline, status: &MetricsPipelineStatus) -> Result<(), kube::Error> {
        let mut fields = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let stored = serde_json::to_value(&pipeline.status).map_err(kube::Error::SerdeError)?;
        name_removed(&stored, &mut fields);
        // One that can't be read is not known by its fields.
        for optional in ["nodes", "certificates", "nanny"] {
            name_removed(&json!({ optional: null }), &mut fields);
        }
        // Not by server-side apply: it refuses to touch a MetricsPipeline whose spec no longer fits the schema, and
        // that one above all needs a condition. The version keeps a late status off a changed or newer object.
        let patch = json!({
            "metadata": { "uid": pipeline.uid, "resourceVersion": pipeline.resource_version },
            "status": fields,
        });
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &ApiResource::erase::<MetricsPipeline>(&()));
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_status(&pipeline.name, &parameters, &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }
}

/// A merge patch (RFC 7396) removes only what it names, as null.
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
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_removed_by_name() {
        let stored = json!({ "a": { "b": 1, "c": 2 }, "d": 3, "e": [1] });
        let mut patch = json!({ "a": { "b": 1 }, "e": [] });
        name_removed(&stored, &mut patch);
        assert_eq!(patch, json!({ "a": { "b": 1, "c": null }, "d": null, "e": [] }));
    }
}
