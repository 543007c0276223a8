//! The resources in the Deployment's template. A change there makes new pods, which lose their samples; so for a
//! resize alone it stays as it is, and running pods are resized in place.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::core::DynamicObject;

use super::conditions::actual;
use super::objects::{self, Context};
use super::ownership::is_ours;
use super::{DecideError, Sizing};
use crate::apply::differences;
use crate::nanny::resize::{Obstacle, Standing, grows, is_alive, same, same_shape, standing};
use crate::observe::Observed;
use crate::owned::{FIELD_MANAGER, METRICS_CORE, Owned};

/// What pods are to have, and what the template had before if it is to change.
pub(super) fn sizing(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Result<Sizing, DecideError> {
    if context.size.is_none() {
        return Ok(Sizing::default());
    }
    let wanted = objects::resources::requirements(context);
    let template = resources(context, observed, now)?;
    let before = found(observed).and_then(|(_, deployment)| template_of(&deployment));
    let template_from = before.filter(|before| !same(before, &template));
    Ok(Sizing { held: None, wanted: Some(wanted), template_from })
}

/// What the template is to have: what it has, unless new pods are made anyway or are the only way.
pub(super) fn resources(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Result<ResourceRequirements, DecideError> {
    let wanted = objects::resources::requirements(context);
    let (Some(_), Some((object, deployment))) = (context.size, found(observed)) else { return Ok(wanted) };
    let Some(kept) = template_of(&deployment) else { return Ok(wanted) };
    // What somebody else set there is theirs to begin with, and not kept.
    let is_owned = differences(&objects::resources::build(context, &kept)?, object).is_empty();
    let keep = is_owned
        && same_shape(&kept, &wanted)
        && !makes_new_pods(context, observed, object, &deployment)?
        && !must_make_new_pods(observed, &wanted, now);
    Ok(if keep { kept } else { wanted })
}

fn found(observed: &Observed) -> Option<(&DynamicObject, Deployment)> {
    let object = observed.object(Owned::Deployment).filter(|object| is_ours(object))?;
    Some((object, observed.typed(Owned::Deployment)?))
}

fn template_of(deployment: &Deployment) -> Option<ResourceRequirements> {
    let containers = &deployment.spec.as_ref()?.template.spec.as_ref()?.containers;
    containers.iter().find(|container| container.name == METRICS_CORE)?.resources.clone()
}

/// Whether the rest of the template changes, or has changed and waits for the resources (it is paused meanwhile).
fn makes_new_pods(
    context: Context<'_>,
    observed: &Observed,
    object: &DynamicObject,
    deployment: &Deployment,
) -> Result<bool, DecideError> {
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return Ok(true);
    }
    // What an admission webhook rewrites always differs and changes nothing.
    if observed.overruled.contains(&(Owned::Deployment, FIELD_MANAGER)) {
        return Ok(false);
    }
    let Some(image) = context.image() else { return Ok(false) };
    let main = objects::deployment::build(context, image, false)?;
    Ok(differences(&main, object).iter().any(|path| path.starts_with(".spec.template")))
}

/// Whether a pod can't get what it is to have but as a new one. Never for less: a pod that is too large does no
/// harm until the next rollout.
fn must_make_new_pods(observed: &Observed, wanted: &ResourceRequirements, now: Timestamp) -> bool {
    observed.pods.iter().filter(|pod| is_alive(pod)).any(|pod| {
        match standing(pod, wanted, &observed.refusals, now) {
            Standing::Blocked { obstacle: Obstacle::Shape, .. } => true,
            Standing::Blocked { patient: false, .. } => {
                actual(pod).is_none_or(|actual| grows(actual, wanted))
            }
            _ => false,
        }
    })
}
