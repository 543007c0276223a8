//! What there shall be, and what the conditions say. Pure: it has neither a client nor a clock; new keys are
//! the only thing that is not the same for the same input.

pub mod cert_manager;
pub mod certificates;
mod diff;
pub mod front_proxy;
mod maintain;
pub mod nanny;
pub mod objects;
mod role_ref;
pub mod rollout;
mod template;

use std::collections::BTreeMap;

use crds::{FINALIZER, NannyMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::common::{Owned, Problem};
use crate::nanny::RecommendedSize;
use crate::nanny::resize::ResizeBlocker;
use crate::observe::{Observed, Pipeline};
use crate::pki;
use crate::settings::Settings;

pub use diff::differences;
pub use objects::Desired;

/// An object of ours that shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub object: Owned,
    /// Its `metadata.uid`: should another of the same name have come, it stays.
    pub uid: String,
    /// In words why it goes although it is wanted, for another to take its place.
    pub replaced: Option<String>,
}

/// What is to be done for the MetricsPipeline that is served.
#[derive(Clone, Debug)]
pub struct Maintain {
    /// Objects as they shall be, in the order of applying.
    pub desired: Vec<Desired>,
    /// Objects that shall go.
    pub removals: Vec<Removal>,
    /// Objects that are not touched now, and why.
    pub blocked: BTreeMap<Owned, Problem>,
    /// The certificates, unless they could not be planned.
    pub certificates: Option<pki::ServingPlan>,
    /// Why cert-manager's certificate is not what was asked for, if it was asked.
    pub not_issued: Option<Problem>,
    /// The front proxy's certificates, if they are asked for and could be planned.
    pub front_proxy: Option<pki::front_proxy::FrontProxyPlan>,
    /// Why kubelets' requests for certificates can't be approved although that is asked for.
    pub csr_approval: Option<Problem>,
    /// The resources of metrics-core.
    pub sizing: Sizing,
}

/// The resources of metrics-core.
#[derive(Clone, Debug, Default)]
pub struct Sizing {
    /// The nanny's recommendation; `None` if it is off or the cluster size is unknown.
    pub recommended: Option<RecommendedSize>,
    /// The desired resources of pods; `None` unless the nanny applies them.
    pub wanted: Option<ResourceRequirements>,
    /// The desired resources of the Deployment's pod template.
    pub template: Option<ResourceRequirements>,
    /// What the Deployment's template has had until now, when that is changed; what pods have had, when they are made
    /// again from the same.
    pub template_from: Option<ResourceRequirements>,
    /// Why a rollout replaces an in-place resize; `None` if it does not.
    pub rollout_blocker: Option<ResizeBlocker>,
    /// Whether a rollout is reverted because its pods can't be scheduled.
    pub reverts_rollout: bool,
}

/// What is to be done for a MetricsPipeline that is being deleted.
#[derive(Clone, Debug)]
pub struct Dismantle {
    /// Objects to delete now.
    pub removals: Vec<Removal>,
    /// Objects that must be gone before the next step.
    pub waiting: Vec<Owned>,
    /// Objects that can't be read, and why.
    pub blocked: BTreeMap<Owned, Problem>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing: there is no MetricsPipeline.
    Idle,
    /// The finalizer must be set before anything is created.
    Claim,
    /// Objects are to be as they shall be.
    Maintain(Box<Maintain>),
    /// Objects are to be removed, in order.
    Dismantle(Dismantle),
    /// All is removed: the finalizer may go.
    Release,
}

/// Why nothing could be decided. All of these are defects of the operator.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// An object could not be written as JSON.
    #[error("cannot serialize an object: {0}")]
    Serialize(#[from] serde_json::Error),
}

/// Decides what is to be done for the MetricsPipeline that is served.
pub fn decide(
    pipeline: Option<&Pipeline>,
    observed: &Observed,
    settings: &Settings,
    recommended: Option<&RecommendedSize>,
    now: Timestamp,
) -> Result<Decision, DecideError> {
    let Some(pipeline) = pipeline else { return Ok(Decision::Idle) };
    if pipeline.deleting {
        return Ok(maintain::dismantle(pipeline, observed, &settings.namespace));
    }
    let Ok(spec) = &pipeline.spec else { return Ok(Decision::Idle) };
    if !pipeline.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Decision::Claim);
    }
    let applies = spec.nanny.mode == NannyMode::Apply;
    let size = recommended.filter(|_| applies).map(|recommended| recommended.size);
    let context = objects::Context { pipeline, spec, settings, size };
    let mut plan = maintain::maintain(context, observed, now)?;
    plan.sizing.recommended = recommended.cloned();
    Ok(Decision::Maintain(Box::new(plan)))
}
