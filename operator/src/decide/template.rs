//! The resources in the Deployment's template. A change there makes new pods, which lose their samples; so for a
//! resize alone it stays as it is, and running pods are resized in place.

use crds::ResizeMethod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use kube::core::DynamicObject;

use super::conditions::actual;
use super::objects::{self, Context};
use super::ownership::is_ours;
use super::rollout::{Order, unplaced};
use super::{DecideError, Sizing};
use crate::apply::differences;
use crate::nanny::Size;
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
    let is_change = template_from.is_some() && same(&template, &wanted);
    let instead = is_change.then(|| obstacle(observed, &wanted, now)).flatten();
    Ok(Sizing { held: None, wanted: Some(wanted), template: Some(template), template_from, instead })
}

/// What the template is to have: what it has, unless new pods are made anyway or are the only way; what it had, when
/// they turn out to be none.
pub(super) fn resources(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Result<ResourceRequirements, DecideError> {
    let wanted = objects::resources::requirements(context);
    let (Some(_), Some((object, deployment))) = (context.size, found(observed)) else { return Ok(wanted) };
    let Some(kept) = template_of(&deployment) else { return Ok(wanted) };
    if let Some(before) = taken_back(context, observed, &wanted, now) {
        return Ok(before);
    }
    // What somebody else set there is theirs to begin with, and not kept.
    let is_owned = differences(&objects::resources::build(context, &kept)?, object).is_empty();
    let keep = is_owned
        && same_shape(&kept, &wanted)
        && !makes_new_pods(context, observed, object, &deployment)?
        && obstacle(observed, &wanted, now).is_none();
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
    let main = objects::deployment::build(context, image, Order::NewFirst, false)?;
    Ok(differences(&main, object).iter().any(|path| path.starts_with(".spec.template")))
}

/// Why a pod can't get what it is to have but as a new one. Never for less: a pod that is too large does no harm
/// until the next rollout.
fn obstacle(observed: &Observed, wanted: &ResourceRequirements, now: Timestamp) -> Option<Obstacle> {
    observed.pods.iter().filter(|pod| is_alive(pod)).find_map(|pod| {
        match standing(pod, wanted, &observed.refusals, now) {
            Standing::Blocked { obstacle: Obstacle::Shape, .. } => Some(Obstacle::Shape),
            Standing::Blocked { obstacle, patient: false } => {
                actual(pod).is_none_or(|actual| grows(actual, wanted)).then_some(obstacle)
            }
            _ => None,
        }
    })
}

/// What the template had before new pods were made for the size's sake, when they can't be placed and all the old
/// ones have got the size in place after all: there was no room for a whole pod, but for the rest of one. With the
/// old template the old pods are up to date again, and the rollout is over.
fn taken_back(
    context: Context<'_>,
    observed: &Observed,
    wanted: &ResourceRequirements,
    now: Timestamp,
) -> Option<ResourceRequirements> {
    let last = context.pipeline.status.nanny.as_ref()?.applied.as_ref()?;
    let size = context.size?;
    if last.method != ResizeMethod::Rollout || last.to != size.amounts() {
        return None;
    }
    let (new, old): (Vec<_>, Vec<_>) =
        observed.pods.iter().filter(|pod| is_alive(pod)).partition(|pod| unplaced(pod).is_some());
    let is_sized = |pod: &&Pod| {
        standing(pod, wanted, &observed.refusals, now) == Standing::Sized
            && actual(pod).is_some_and(|actual| same(actual, wanted))
    };
    let enough =
        usize::try_from(context.spec.metrics_core.replicas).is_ok_and(|replicas| old.len() >= replicas);
    // Where some of the new ones have a place, the rollout is no longer what it was at the beginning.
    let first = old.first().and_then(|pod| replica_set(pod));
    let is_whole =
        old.iter().all(|pod| replica_set(pod) == first) && new.iter().all(|pod| replica_set(pod) != first);
    if new.is_empty() || !enough || !is_whole || !old.iter().all(is_sized) {
        return None;
    }
    let from = Size::read(&last.from, size);
    let before = objects::resources::requirements(Context { size: Some(from), ..context });
    (same_shape(&before, wanted) && !same(&before, wanted)).then_some(before)
}

/// The UID of the ReplicaSet that made a pod.
fn replica_set(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.kind == "ReplicaSet").map(|owner| owner.uid.as_str())
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
