//! Adds and removes the finalizer of a MetricsPipeline.

use crds::{FINALIZER, MetricsPipeline};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::ApplyError;
use crate::observe::Pipeline;

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
    match api.patch_metadata(&pipeline.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        // It changed or was deleted meanwhile: the next round reads it.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(ApplyError::Finalizer { name: pipeline.name.clone(), error: Box::new(error) }),
    }
}
