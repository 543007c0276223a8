//! What is to be done about each pod for it to have the resources that are wanted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::common::METRICS_CORE;
use crate::common::quantity::same_quantity;

/// So long the kubelet may take or wait for room before new pods are made instead.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Why a pod can't be resized in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its node is too small, in Kubernetes' words.
    Infeasible(String),
    /// Its node has no room yet, in the kubelet's words.
    Deferred(String),
    /// kube-apiserver or the kubelet refuses, in their words.
    Refused(String),
    /// Somebody else sets the resources again and again.
    Contested(String),
    /// The QoS class or the set of limits would change, which is fixed for a pod's life (KEP-1287).
    Shape,
}

impl Obstacle {
    /// Why, to go on a sentence.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Infeasible(says) | Self::Deferred(says) | Self::Refused(says) | Self::Contested(says) => {
                says
            }
            Self::Shape => "its QoS class or its set of limits changes, which a pod keeps for its life",
        }
    }
}

/// How a pod stands to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has it.
    Sized,
    /// It has not been asked for yet.
    Unasked,
    /// It is on its way.
    Underway,
    /// It can't be had in place now; `patient` while it may still come.
    Blocked {
        /// Why not.
        obstacle: Obstacle,
        /// Whether there is still time.
        patient: bool,
    },
}

/// What kube-apiserver refused to do to a pod, by the pod's UID.
pub type Refusals = BTreeMap<String, Refusal>;

/// What kube-apiserver refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What was asked for.
    pub wanted: ResourceRequirements,
    /// Its words.
    pub message: String,
    /// What that means.
    pub kind: RefusalKind,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The pod's node is too small; another may not be.
    Infeasible,
    /// It can't be done in place: new pods are a way out.
    NotInPlace,
    /// A right or a quota is missing: new pods would be refused too.
    NotAtAll,
    /// Somebody else insists on other resources.
    Contested,
}

/// A pod of metrics-core that lives and is to live.
#[must_use]
pub fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let owned = pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "ReplicaSet");
    owned && pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The resources that a pod's container is to have, as its spec says.
#[must_use]
pub fn asked(pod: &Pod) -> Option<&ResourceRequirements> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().find(|container| container.name == METRICS_CORE)?.resources.as_ref()
}

/// How a pod stands to what is wanted.
#[must_use]
pub fn standing(pod: &Pod, wanted: &ResourceRequirements, refusals: &Refusals, now: Timestamp) -> Standing {
    let none = ResourceRequirements::default();
    let asked = asked(pod).unwrap_or(&none);
    if !has(asked, wanted) {
        if !same_shape(asked, &overlaid(asked, wanted)) {
            return Standing::Blocked { obstacle: Obstacle::Shape, patient: false };
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        return match refusals.get(uid).filter(|refusal| same(&refusal.wanted, wanted)) {
            Some(refusal) => {
                let says = refusal.message.clone();
                let (obstacle, patient) = match refusal.kind {
                    RefusalKind::Infeasible => (Obstacle::Infeasible(says), false),
                    RefusalKind::NotInPlace => (Obstacle::Refused(says), false),
                    RefusalKind::NotAtAll => (Obstacle::Refused(says), true),
                    RefusalKind::Contested => (Obstacle::Contested(says), true),
                };
                Standing::Blocked { obstacle, patient }
            }
            None => Standing::Unasked,
        };
    }
    let Some(status) = &pod.status else { return Standing::Underway };
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    // What the kubelet said of what was asked for before says nothing of this.
    let is_stale = |condition: &PodCondition| {
        condition.observed_generation.zip(pod.metadata.generation).is_some_and(|(seen, now)| seen < now)
    };
    let says = |condition: &PodCondition| {
        format!("the kubelet says \"{}\"", condition.message.as_deref().unwrap_or_default())
    };
    let patient = |condition: &PodCondition| {
        let since = condition.last_transition_time.as_ref();
        since.is_none_or(|since| now.duration_since(since.0) < PATIENCE)
    };
    if let Some(pending) = condition("PodResizePending") {
        if is_stale(pending) {
            return Standing::Underway;
        }
        return match pending.reason.as_deref() {
            Some("Infeasible") => {
                Standing::Blocked { obstacle: Obstacle::Infeasible(says(pending)), patient: false }
            }
            _ => Standing::Blocked { obstacle: Obstacle::Deferred(says(pending)), patient: patient(pending) },
        };
    }
    if let Some(progress) = condition("PodResizeInProgress") {
        if progress.reason.as_deref() == Some("Error") && !is_stale(progress) {
            return Standing::Blocked {
                obstacle: Obstacle::Refused(says(progress)),
                patient: patient(progress),
            };
        }
        return Standing::Underway;
    }
    let container = status.container_statuses.iter().flatten().find(|status| status.name == METRICS_CORE);
    match container.and_then(|container| container.resources.as_ref()) {
        // Not started yet, or by a kubelet that does not tell.
        None => Standing::Sized,
        Some(actual) if has(actual, wanted) => Standing::Sized,
        Some(_) => Standing::Underway,
    }
}

/// Whether resources are the same amounts.
#[must_use]
pub fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    same_amounts(a.requests.as_ref(), b.requests.as_ref())
        && same_amounts(a.limits.as_ref(), b.limits.as_ref())
}

type Amounts = BTreeMap<String, Quantity>;

fn same_amounts(a: Option<&Amounts>, b: Option<&Amounts>) -> bool {
    let empty = Amounts::new();
    let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
    a.len() == b.len()
        && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same_quantity(&value.0, &other.0)))
}

/// Whether a pod has the wanted amounts. What it has besides is not ours: a LimitRange or an admission webhook adds to
/// each pod what its template does not name.
#[must_use]
pub fn has(resources: &ResourceRequirements, wanted: &ResourceRequirements) -> bool {
    same(resources, &overlaid(resources, wanted))
}

/// What becomes of resources when the wanted ones are applied to them.
fn overlaid(resources: &ResourceRequirements, wanted: &ResourceRequirements) -> ResourceRequirements {
    let over = |below: &Option<Amounts>, above: &Option<Amounts>| {
        let mut amounts = below.clone().unwrap_or_default();
        amounts.extend(above.clone().unwrap_or_default());
        Some(amounts)
    };
    ResourceRequirements {
        requests: over(&resources.requests, &wanted.requests),
        limits: over(&resources.limits, &wanted.limits),
        ..resources.clone()
    }
}

/// Whether a pod may go from one to the other in its life: the QoS class stays, and nothing is added or taken away.
#[must_use]
pub fn same_shape(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let keys = |amounts: Option<&Amounts>| -> BTreeSet<String> {
        amounts.into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    keys(a.requests.as_ref()) == keys(b.requests.as_ref())
        && keys(a.limits.as_ref()) == keys(b.limits.as_ref())
        && is_guaranteed(a) == is_guaranteed(b)
}

/// Whether limits of both equal the requests (QoS class Guaranteed).
fn is_guaranteed(resources: &ResourceRequirements) -> bool {
    let limits = resources.limits.as_ref();
    ["cpu", "memory"].iter().all(|key| limits.is_some_and(|limits| limits.contains_key(*key)))
        && same_amounts(resources.requests.as_ref(), limits)
}

/// Whether something grows.
#[must_use]
pub fn grows(from: &ResourceRequirements, to: &ResourceRequirements) -> bool {
    let more = |from: Option<&Amounts>, to: Option<&Amounts>| {
        to.into_iter().flatten().any(|(key, to)| {
            let from =
                from.and_then(|from| from.get(key)).and_then(|from| crate::common::quantity::nanos(&from.0));
            from.is_none_or(|from| crate::common::quantity::nanos(&to.0).is_some_and(|to| to > from))
        })
    };
    more(from.requests.as_ref(), to.requests.as_ref()) || more(from.limits.as_ref(), to.limits.as_ref())
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
