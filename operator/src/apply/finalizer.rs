//! Adds and removes the finalizer of a MetricsPipeline.

use std::time::Duration;

use crds::{FINALIZER, MetricsPipeline};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::ApplyError;
use crate::common::request::{with_retry, within};
use crate::observe::Pipeline;

const DEADLINE: Duration = Duration::from_secs(10);

/// Adds or removes the finalizer on the version that was observed, so that other finalizers are not lost.
pub(super) async fn set(client: &Client, pipeline: &Pipeline, wanted: bool) -> Result<(), ApplyError> {
    let mut finalizers: Vec<_> =
        pipeline.finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({ "metadata": {
        "resourceVersion": pipeline.resource_version, "uid": pipeline.uid, "finalizers": finalizers,
    } });
    let api: Api<MetricsPipeline> = Api::all(client.clone());
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let request = with_retry(|| api.patch_metadata(&pipeline.name, &parameters, &patch));
    match within(DEADLINE, request).await {
        Ok(_) => Ok(()),
        Err(error) => match error.response() {
            // It changed or was deleted meanwhile: the next round reads it.
            Some(status) if status.is_not_found() || status.is_conflict() => Ok(()),
            _ => Err(ApplyError::Finalizer { name: pipeline.name.clone(), error }),
        },
    }
}
