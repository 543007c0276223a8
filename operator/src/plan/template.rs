//! The resources in the Deployment's template. A change there creates new pods, which lose their samples. So a resize alone
//! does not change it, and running pods are resized in place. Where new pods are required although the template has the
//! size already, an annotation is added or removed.

use std::collections::BTreeMap;

use crds::ResizeMethod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use super::diff::owned_fields;
use super::objects::{self, Context};
use super::rollout::{Order, unplaced};
use super::{PlanError, Sizing};
use crate::common::ownership::is_ours;
use crate::common::{FIELD_MANAGER, METRICS_CORE, ManagedObject, NANNY_FIELD_MANAGER};
use crate::nanny::Size;
use crate::nanny::resize::{
    ResizeBlocker, ResizeState, actual_resources, can_resize, grows, includes, is_active, resize_state,
    same_resources,
};
use crate::observe::Observed;
use crate::plan::differences;

/// The nanny's part of the template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    /// The resources.
    pub resources: ResourceRequirements,
    /// Whether it has the annotation that distinguishes two templates of the same resources.
    pub again: bool,
}

/// Returns the wanted resources of pods, those of the template, and those before if the template changes.
pub(super) fn sizing(context: Context<'_>, observed: &Observed, now: Timestamp) -> Result<Sizing, PlanError> {
    if context.size.is_none() {
        return Ok(Sizing::default());
    }
    let wanted = objects::resources::requirements(context);
    let template = decide(context, observed, now)?;
    let before = found(observed).and_then(|(object, deployment)| template_of(object, &deployment, &wanted));
    let changes = before.filter(|before| {
        before.again != template.again || !same_resources(&before.resources, &template.resources)
    });
    let reverts_rollout = changes.is_some() && previous_template(context, observed, &wanted, now).is_some();
    let forced = changes.is_some() && !reverts_rollout && same_resources(&template.resources, &wanted);
    let rollout_blocker = forced.then(|| blocker(observed, &wanted, now)).flatten();
    let template_from = match (changes, &rollout_blocker) {
        // Recreated from the same template, which does not show what the pods have had until now.
        (Some(before), Some((_, has))) if same_resources(&before.resources, &wanted) => Some(has.clone()),
        (before, _) => before.map(|before| before.resources),
    };
    let rollout_blocker = rollout_blocker.map(|(blocker, _)| blocker);
    let template = Some(template.resources);
    Ok(Sizing {
        recommended: None,
        wanted: Some(wanted),
        template,
        template_from,
        rollout_blocker,
        reverts_rollout,
    })
}

/// Returns the template: the current one, unless a rollout happens anyway or is the only way to the size; the previous one,
/// when a rollout for the size is reverted.
pub(super) fn decide(
    context: Context<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Result<Template, PlanError> {
    let resources = objects::resources::requirements(context);
    let wanted = Template { resources, again: false };
    let Some((object, deployment)) = found(observed) else { return Ok(wanted) };
    let Some(kept) = template_of(object, &deployment, &wanted.resources) else { return Ok(wanted) };
    let wanted = Template { again: kept.again, ..wanted };
    if context.size.is_none() {
        return Ok(wanted);
    }
    if let Some(before) = previous_template(context, observed, &wanted.resources, now) {
        return Ok(before);
    }
    // Resources that another writer set are not kept.
    let is_owned =
        differences(&objects::resources::build(context, &kept.resources, kept.again)?, object).is_empty();
    let is_kept = is_owned
        && can_resize(&kept.resources, &wanted.resources)
        && !makes_new_pods(context, observed, object, &deployment)?;
    let is_made = is_kept && is_rolled_out(object, &deployment);
    // If new pods have another shape from the beginning, another writer mutates them, and would mutate others as well.
    let must = blocker(observed, &wanted.resources, now)
        .is_some_and(|(blocker, _)| !(is_made && blocker == ResizeBlocker::Immutable));
    if is_kept && !must {
        return Ok(kept);
    }
    // The pods were resized since they were created: the template has the size already, and they can't get it.
    let made = is_made && same_resources(&kept.resources, &wanted.resources);
    Ok(Template { again: kept.again != made, ..wanted })
}

/// Whether all pods were created from the current template.
fn is_rolled_out(object: &DynamicObject, deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else { return false };
    let wanted = spec.replicas.unwrap_or(1);
    status.observed_generation >= object.metadata.generation
        && status.updated_replicas == Some(wanted)
        && status.replicas == Some(wanted)
}

/// Whether the annotations include the nanny's.
fn is_again(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.is_some_and(|annotations| annotations.contains_key(objects::resources::AGAIN))
}

fn found(observed: &Observed) -> Option<(&DynamicObject, Deployment)> {
    let object = observed.object(ManagedObject::Deployment).filter(|object| is_ours(object))?;
    Some((object, observed.typed(ManagedObject::Deployment)?))
}

/// Returns the nanny's part of the template. Amounts that another writer added beside it, such as a request of
/// `ephemeral-storage`, are neither kept nor removed: new pods get them, and a resize does not change them.
fn template_of(
    object: &DynamicObject,
    deployment: &Deployment,
    wanted: &ResourceRequirements,
) -> Option<Template> {
    let template = &deployment.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let containers = &template.spec.as_ref()?.containers;
    let ours = containers.iter().find(|container| container.name == METRICS_CORE)?;
    let resources = of_nanny(ours.resources.as_ref()?, wanted, owned_resources(object));
    Some(Template { resources, again: is_again(annotations) })
}

/// Returns the fields of the container's resources that the nanny applied to the template.
fn owned_resources(object: &DynamicObject) -> Option<&Map<String, Value>> {
    let api_version = ManagedObject::Deployment.resource().api_version;
    let mut owned = owned_fields(object, NANNY_FIELD_MANAGER, Some(&api_version))?;
    let container = format!("k:{}", json!({ "name": METRICS_CORE }));
    for field in ["f:spec", "f:template", "f:spec", "f:containers", &container, "f:resources"] {
        owned = owned.get(field)?.as_object()?;
    }
    Some(owned)
}

/// Returns the amounts that the nanny wants or owns.
fn of_nanny(
    resources: &ResourceRequirements,
    wanted: &ResourceRequirements,
    owned: Option<&Map<String, Value>>,
) -> ResourceRequirements {
    type Amounts = Option<BTreeMap<String, Quantity>>;
    let restrict = |amounts: &Amounts, wanted: &Amounts, field: &str| {
        let owned = owned.and_then(|owned| owned.get(field)).and_then(Value::as_object);
        let mut amounts = amounts.clone()?;
        amounts.retain(|key, _| {
            wanted.as_ref().is_some_and(|wanted| wanted.contains_key(key))
                || owned.is_some_and(|owned| owned.contains_key(&format!("f:{key}")))
        });
        Some(amounts)
    };
    ResourceRequirements {
        requests: restrict(&resources.requests, &wanted.requests, "f:requests"),
        limits: restrict(&resources.limits, &wanted.limits, "f:limits"),
        ..ResourceRequirements::default()
    }
}

/// Whether the rest of the template changes, or has changed and waits for the resources while the Deployment is paused.
fn makes_new_pods(
    context: Context<'_>,
    observed: &Observed,
    object: &DynamicObject,
    deployment: &Deployment,
) -> Result<bool, PlanError> {
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return Ok(true);
    }
    // Fields that an admission webhook mutates always differ, and cause no rollout.
    if observed.mutated_by_admission.contains(&(ManagedObject::Deployment, FIELD_MANAGER)) {
        return Ok(false);
    }
    let Some(image) = context.image() else { return Ok(false) };
    let main = objects::deployment::build(context, &image, Order::NewFirst, false)?;
    Ok(differences(&main, object).iter().any(|path| path.starts_with(".spec.template")))
}

/// Returns why a pod must be recreated to get the wanted resources, and its resources now. Never to shrink: a pod that is
/// too large does no harm until the next rollout.
fn blocker(
    observed: &Observed,
    wanted: &ResourceRequirements,
    now: Timestamp,
) -> Option<(ResizeBlocker, ResourceRequirements)> {
    observed.pods.iter().filter(|pod| is_active(pod)).find_map(|pod| {
        let now_has = actual_resources(pod).cloned().unwrap_or_default();
        match resize_state(pod, wanted, &observed.resize_rejections, now) {
            ResizeState::Blocked { blocker: ResizeBlocker::Immutable, .. } => {
                Some((ResizeBlocker::Immutable, now_has))
            }
            ResizeState::Blocked { blocker, waiting: false } if grows(&now_has, wanted) => {
                Some((blocker, now_has))
            }
            _ => None,
        }
    })
}

/// Returns the template from before a rollout for the size, when the new pods can't be scheduled and all old ones got the
/// size in place after all: there was no room for another pod, but for the growth of one. With the previous template the
/// old pods are up to date again, and the rollout is over.
fn previous_template(
    context: Context<'_>,
    observed: &Observed,
    wanted: &ResourceRequirements,
    now: Timestamp,
) -> Option<Template> {
    let last = context.pipeline.status.nanny.as_ref()?.applied.as_ref()?;
    let size = context.size?;
    if last.method != ResizeMethod::Rollout || last.to != size.amounts() {
        return None;
    }
    let (new, old): (Vec<_>, Vec<_>) =
        observed.pods.iter().filter(|pod| is_active(pod)).partition(|pod| unplaced(pod).is_some());
    let is_sized = |pod: &&Pod| {
        resize_state(pod, wanted, &observed.resize_rejections, now) == ResizeState::Complete
            && actual_resources(pod).is_some_and(|actual| includes(actual, wanted))
    };
    let enough =
        usize::try_from(context.spec.metrics_core.replicas).is_ok_and(|replicas| old.len() >= replicas);
    // Once some of the new pods are scheduled, the rollout is no longer reverted.
    let first = old.first().and_then(|pod| replica_set(pod));
    let is_whole =
        old.iter().all(|pod| replica_set(pod) == first) && new.iter().all(|pod| replica_set(pod) != first);
    if new.is_empty() || !enough || !is_whole || !old.iter().all(is_sized) {
        return None;
    }
    let (object, deployment) = found(observed)?;
    let template = template_of(object, &deployment, wanted)?;
    let was_again = |pod: &Pod| is_again(pod.metadata.annotations.as_ref());
    let made = |pods: &[&Pod], again: bool| pods.iter().all(|pod| was_again(pod) == again);
    if made(&new, template.again) && made(&old, !template.again) {
        return Some(Template { resources: wanted.clone(), again: !template.again });
    }
    let from = Size::parse_or(&last.from, size);
    let resources = objects::resources::requirements(Context { size: Some(from), ..context });
    let is_one = made(&new, template.again) && made(&old, template.again);
    (is_one && can_resize(&resources, wanted) && !same_resources(&resources, wanted))
        .then_some(Template { resources, again: template.again })
}

/// Returns the UID of the ReplicaSet that owns a pod.
fn replica_set(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.kind == "ReplicaSet").map(|owner| owner.uid.as_str())
}

#[cfg(test)]
mod tests;
