//! The nanny's edge: what it sees, and what it did as status tells it.

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

/// The nanny's part of status. What was last applied stays until something else is.
pub fn status(
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
        reason: recommended.reason.clone(),
    };
    let applied = before.and_then(|status| status.applied.clone());
    let applied = match change(before, sizing, outcome, resized) {
        Some(Change { method: ResizeMethod::InPlace, .. }) if has(applied.as_ref(), recommended) => applied,
        Some(Change { method, from }) => Some(ResizeStatus {
            time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            method,
            from: requests(from),
            to: recommended.size.amounts(),
            reason: recommended.reason.clone(),
        }),
        None if came_in_place(sizing, outcome) && has(applied.as_ref(), recommended) => {
            applied.map(|applied| ResizeStatus { method: ResizeMethod::InPlace, ..applied })
        }
        None => applied,
    };
    Some(NannyStatus { recommendation: Some(recommendation), applied })
}

/// Whether that is what was last applied: a new pod from an old template is no new size.
fn has(applied: Option<&ResizeStatus>, recommended: &RecommendedSize) -> bool {
    applied.is_some_and(|applied| applied.to == recommended.size.amounts())
}

/// Whether pods have their size in place, although new ones were tried before: the template has another one, or was
/// made again in vain.
fn came_in_place(sizing: &Sizing, outcome: &Outcome) -> bool {
    let (Some(template), Some(wanted)) = (&sizing.template, &sizing.wanted) else { return false };
    if same_resources(template, wanted) {
        return sizing.taken_back && outcome.applied.contains(&ManagedObject::Deployment);
    }
    sizing.template_from.is_none()
}

/// How resources were changed in a round, and what they were.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// How.
    pub method: ResizeMethod,
    /// What they were.
    pub from: &'a ResourceRequirements,
}

/// How resources were changed in this round. New pods that are made anyway, at the size that the old ones have got
/// in place, are no change.
pub fn change<'a>(
    before: Option<&NannyStatus>,
    sizing: &'a Sizing,
    outcome: &Outcome,
    resized: &'a Resized,
) -> Option<Change<'a>> {
    let (wanted, recommended) = (sizing.wanted.as_ref()?, sizing.recommended.as_ref()?);
    let is_news =
        sizing.instead.is_some() || !has(before.and_then(|status| status.applied.as_ref()), recommended);
    if let (Some(from), Some(template)) = (&sizing.template_from, &sizing.template)
        && outcome.applied.contains(&ManagedObject::Deployment)
    {
        let is_change = is_news && !sizing.taken_back && same_resources(template, wanted);
        return is_change.then_some(Change { method: ResizeMethod::Rollout, from });
    }
    resized.from.first().map(|from| Change { method: ResizeMethod::InPlace, from })
}

/// What is told of a change.
pub fn words(change: Change<'_>, sizing: &Sizing) -> Option<String> {
    let recommended = sizing.recommended.as_ref()?;
    let (size, reason) = (recommended.size, &recommended.reason);
    let before = requests(change.from);
    let of =
        |amount: &Option<Quantity>| amount.as_ref().map_or("none", |amount| amount.0.as_str()).to_owned();
    let gets = if before == size.amounts() {
        format!("metrics-core gets {size}")
    } else {
        format!(
            "metrics-core gets {size} instead of {} CPU and {} memory",
            of(&before.cpu),
            of(&before.memory)
        )
    };
    Some(match (change.method, &sizing.instead) {
        (ResizeMethod::InPlace, _) => format!("{gets}, in place: {reason}."),
        (ResizeMethod::Rollout, None) => format!("{gets}, by new pods that are made anyway: {reason}."),
        (ResizeMethod::Rollout, Some(blocker)) => {
            format!("{gets} ({reason}), by new pods, as that can't be had in place: {}.", blocker)
        }
    })
}

/// What is told when new pods were made in vain.
pub fn taken_back(sizing: &Sizing, outcome: &Outcome) -> Option<String> {
    let is_taken_back = sizing.taken_back && outcome.applied.contains(&ManagedObject::Deployment);
    let size = sizing.recommended.as_ref()?.size;
    is_taken_back.then(|| {
        format!(
            "metrics-core has {size} in place after all, while the new pods could not be placed: their rollout is taken \
             back."
        )
    })
}

fn requests(resources: &ResourceRequirements) -> ResourceAmounts {
    let of = |key: &str| resources.requests.as_ref().and_then(|requests| requests.get(key)).cloned();
    ResourceAmounts { cpu: of("cpu"), memory: of("memory") }
}

#[cfg(test)]
mod tests;
