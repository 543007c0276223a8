//! The nanny's part of status and its events.

use crds::{NannyStatus, Recommendation, ResizeMethod, ResizeStatus, ResourceAmounts};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::apply::{Outcome, Resized};
use crate::common::ManagedObject;
use crate::nanny::RecommendedSize;
use crate::nanny::resize::same_resources;
use crate::plan::Sizing;

/// Returns the nanny's part of status. `applied` stays until another size is applied.
pub(crate) fn status(
    before: Option<&NannyStatus>,
    sizing: &Sizing,
    outcome: &Outcome,
    resized: &Resized,
    now: Timestamp,
) -> Option<NannyStatus> {
    let recommended = sizing.recommended.as_ref()?;
    let recommendation = Recommendation {
        requests: recommended.size.amounts(),
        population: i64::try_from(recommended.population).unwrap_or(i64::MAX),
        reason: recommended.reason.to_string(),
    };
    let applied = before.and_then(|status| status.applied.clone());
    let applied = match change(before, sizing, outcome, resized) {
        Some(Change { method: ResizeMethod::InPlace, .. }) if is_applied(applied.as_ref(), recommended) => {
            applied
        }
        Some(Change { method, from }) => Some(ResizeStatus {
            time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            method,
            from: requests(from),
            to: recommended.size.amounts(),
            reason: recommended.reason.to_string(),
        }),
        None if ended_in_place(sizing, outcome) && is_applied(applied.as_ref(), recommended) => {
            applied.map(|applied| ResizeStatus { method: ResizeMethod::InPlace, ..applied })
        }
        None => applied,
    };
    Some(NannyStatus { recommendation: Some(recommendation), applied })
}

/// Whether the recommended size was already applied. A new pod from a template with an older size is no new change.
fn is_applied(applied: Option<&ResizeStatus>, recommended: &RecommendedSize) -> bool {
    applied.is_some_and(|applied| applied.to == recommended.size.amounts())
}

/// Whether the pods got their size in place although a rollout was started for it: the rollout is reverted, or the
/// template has another size.
fn ended_in_place(sizing: &Sizing, outcome: &Outcome) -> bool {
    let (Some(template), Some(wanted)) = (&sizing.template, &sizing.wanted) else { return false };
    if same_resources(template, wanted) {
        return sizing.reverts_rollout && outcome.applied.contains(&ManagedObject::Deployment);
    }
    sizing.template_from.is_none()
}

/// A change of the resources in one reconcile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// In place or by a rollout.
    pub(crate) method: ResizeMethod,
    /// The resources before.
    pub(crate) from: &'a ResourceRequirements,
}

/// Returns the change of the resources in this reconcile. A rollout for another reason, with the size that the pods
/// already have in place, is not a change.
pub(crate) fn change<'a>(
    before: Option<&NannyStatus>,
    sizing: &'a Sizing,
    outcome: &Outcome,
    resized: &'a Resized,
) -> Option<Change<'a>> {
    let (wanted, recommended) = (sizing.wanted.as_ref()?, sizing.recommended.as_ref()?);
    let is_new = sizing.rollout_blocker.is_some()
        || !is_applied(before.and_then(|status| status.applied.as_ref()), recommended);
    if let (Some(from), Some(template)) = (&sizing.template_from, &sizing.template)
        && outcome.applied.contains(&ManagedObject::Deployment)
    {
        let is_change = is_new && !sizing.reverts_rollout && same_resources(template, wanted);
        return is_change.then_some(Change { method: ResizeMethod::Rollout, from });
    }
    resized.from.first().map(|from| Change { method: ResizeMethod::InPlace, from })
}

/// Returns the event note of a change.
pub(crate) fn resize_note(change: Change<'_>, sizing: &Sizing) -> Option<String> {
    let recommended = sizing.recommended.as_ref()?;
    let (size, reason) = (recommended.size, &recommended.reason);
    let before = requests(change.from);
    let or_none =
        |amount: &Option<Quantity>| amount.as_ref().map_or("no", |amount| amount.0.as_str()).to_owned();
    let sizes = if before == size.amounts() {
        size.to_string()
    } else {
        let (cpu, memory) = (or_none(&before.cpu), or_none(&before.memory));
        format!("{size}, from {cpu} CPU and {memory} memory")
    };
    Some(match (change.method, &sizing.rollout_blocker) {
        (ResizeMethod::InPlace, _) => format!("metrics-core is resized in place to {sizes} ({reason})."),
        (ResizeMethod::Other, _) => format!("metrics-core is resized to {sizes} ({reason})."),
        (ResizeMethod::Rollout, None) => {
            format!(
                "metrics-core is resized to {sizes} ({reason}) by a rollout that also applies other changes."
            )
        }
        (ResizeMethod::Rollout, Some(blocker)) => format!(
            "metrics-core is resized by a rollout to {sizes} ({reason}). An in-place resize is not possible: {blocker}."
        ),
    })
}

/// Returns the event note of a reverted rollout; `None` if none was reverted.
pub(crate) fn revert_note(sizing: &Sizing, outcome: &Outcome) -> Option<String> {
    let is_reverted = sizing.reverts_rollout && outcome.applied.contains(&ManagedObject::Deployment);
    let size = sizing.recommended.as_ref()?.size;
    is_reverted.then(|| {
        format!(
            "The new pods could not be scheduled, and the previous ones were resized in place to {size}: the rollout is \
             reverted."
        )
    })
}

fn requests(resources: &ResourceRequirements) -> ResourceAmounts {
    let amount = |key: &str| resources.requests.as_ref().and_then(|requests| requests.get(key)).cloned();
    ResourceAmounts { cpu: amount("cpu"), memory: amount("memory") }
}

#[cfg(test)]
mod tests;
