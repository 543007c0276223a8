//! The state of the in-place resize (KEP-1287) of each pod.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::common::METRICS_CORE;
use crate::common::normalize::bounded;
use crate::common::quantity::{nanos, same_quantity};

/// How long a resize may stay deferred or failing on the kubelet before the operator replaces the pods.
pub(crate) const RESIZE_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);

/// Why a pod can't be resized in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResizeBlocker {
    /// The node's allocatable resources are too small. Holds the message of kube-apiserver or the kubelet.
    Infeasible(String),
    /// The node has no free resources now. Holds the kubelet's message.
    Deferred(String),
    /// kube-apiserver or the kubelet rejected the resize. Holds the message.
    Rejected(String),
    /// Another field manager keeps changing the resources. Holds which one and on which pod.
    Conflict(String),
    /// A VerticalPodAutoscaler sets the pod's resources when it is created. Holds which one and on which pod.
    Autoscaled(String),
    /// The QoS class or the set of requests and limits would change; both are immutable (KEP-1287).
    Immutable,
}

impl std::fmt::Display for ResizeBlocker {
    /// Writes a clause that continues a sentence.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Infeasible(message)
            | Self::Deferred(message)
            | Self::Rejected(message)
            | Self::Conflict(message)
            | Self::Autoscaled(message) => message,
            Self::Immutable => {
                "its QoS class or its set of limits would change, and both are immutable for a running pod"
            }
        })
    }
}

/// The state of a pod's resize to the desired resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResizeState {
    /// The pod has the desired resources.
    Complete,
    /// The pod's spec does not have the desired resources yet.
    NotRequested,
    /// The pod's spec has the desired resources, and the kubelet has not applied them yet.
    InProgress,
    /// The resize is blocked.
    Blocked {
        /// Why.
        blocker: ResizeBlocker,
        /// Whether the resize may still succeed, so that the pod is not replaced.
        waiting: bool,
    },
}

/// Resizes that kube-apiserver rejected, by the pod's UID.
pub(crate) type ResizeRejections = BTreeMap<String, ResizeRejection>;

/// A resize that kube-apiserver rejected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResizeRejection {
    /// The resources that were requested.
    pub wanted: ResourceRequirements,
    /// The message of kube-apiserver.
    pub message: String,
    /// The class of the rejection.
    pub kind: RejectionKind,
}

/// Classes of rejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectionKind {
    /// The pod's node is too small. Another node may not be.
    Infeasible,
    /// In-place resize is not possible. New pods are.
    NotInPlace,
    /// A permission or quota is missing: kube-apiserver would reject new pods too.
    Forbidden,
    /// Another field manager keeps changing the resources.
    Conflict,
}

/// Whether a pod belongs to a ReplicaSet and is neither finished nor being deleted. A debug pod with the same labels
/// is not a replica.
#[must_use]
pub(crate) fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let owned = pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "ReplicaSet");
    owned && pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Returns the resources of metrics-core's container in the pod's spec.
#[must_use]
pub(crate) fn spec_resources(pod: &Pod) -> Option<&ResourceRequirements> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().find(|container| container.name == METRICS_CORE)?.resources.as_ref()
}

/// Returns the resources of metrics-core's container as the kubelet reports them, or else those in the pod's spec.
#[must_use]
pub(crate) fn actual_resources(pod: &Pod) -> Option<&ResourceRequirements> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ours = statuses.into_iter().flatten().find(|status| status.name == METRICS_CORE);
    ours.and_then(|status| status.resources.as_ref()).or_else(|| spec_resources(pod))
}

/// Returns the state of a pod's resize to the `wanted` resources.
#[must_use]
pub(crate) fn resize_state(
    pod: &Pod,
    wanted: &ResourceRequirements,
    rejections: &ResizeRejections,
    now: Timestamp,
) -> ResizeState {
    let none = ResourceRequirements::default();
    let requested = spec_resources(pod).unwrap_or(&none);
    if !includes(requested, wanted) {
        // It would evict the resized pod and set its own amounts again, without end.
        if let Some(why) = autoscaled(pod) {
            return ResizeState::Blocked { blocker: ResizeBlocker::Autoscaled(why), waiting: true };
        }
        if !can_resize(requested, &merged(requested, wanted)) {
            return ResizeState::Blocked { blocker: ResizeBlocker::Immutable, waiting: false };
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        return match rejections.get(uid).filter(|rejection| same_resources(&rejection.wanted, wanted)) {
            Some(rejection) => {
                let message = rejection.message.clone();
                let (blocker, waiting) = match rejection.kind {
                    RejectionKind::Infeasible => (ResizeBlocker::Infeasible(message), false),
                    RejectionKind::NotInPlace => (ResizeBlocker::Rejected(message), false),
                    RejectionKind::Forbidden => (ResizeBlocker::Rejected(message), true),
                    RejectionKind::Conflict => (ResizeBlocker::Conflict(message), true),
                };
                ResizeState::Blocked { blocker, waiting }
            }
            None => ResizeState::NotRequested,
        };
    }
    let Some(status) = &pod.status else { return ResizeState::InProgress };
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    // The kubelet reported it for an earlier generation of the pod's spec.
    let is_stale = |condition: &PodCondition| {
        let generations = condition.observed_generation.zip(pod.metadata.generation);
        generations.is_some_and(|(observed, current)| observed < current)
    };
    let message = |condition: &PodCondition| {
        format!("the kubelet reports \"{}\"", condition.message.as_deref().unwrap_or_default())
    };
    let waiting = |condition: &PodCondition| {
        let since = condition.last_transition_time.as_ref();
        since.is_none_or(|since| now.duration_since(since.0) < RESIZE_TIMEOUT)
    };
    if let Some(pending) = condition("PodResizePending") {
        if is_stale(pending) {
            return ResizeState::InProgress;
        }
        return match pending.reason.as_deref() {
            Some("Infeasible") => {
                ResizeState::Blocked { blocker: ResizeBlocker::Infeasible(message(pending)), waiting: false }
            }
            _ => ResizeState::Blocked {
                blocker: ResizeBlocker::Deferred(message(pending)),
                waiting: waiting(pending),
            },
        };
    }
    if let Some(progress) = condition("PodResizeInProgress") {
        if progress.reason.as_deref() == Some("Error") && !is_stale(progress) {
            return ResizeState::Blocked {
                blocker: ResizeBlocker::Rejected(message(progress)),
                waiting: waiting(progress),
            };
        }
        return ResizeState::InProgress;
    }
    let container = status.container_statuses.iter().flatten().find(|status| status.name == METRICS_CORE);
    match container.and_then(|container| container.resources.as_ref()) {
        // The container has not started, or the kubelet does not report resources.
        None => ResizeState::Complete,
        Some(actual) if includes(actual, wanted) => ResizeState::Complete,
        Some(_) => ResizeState::InProgress,
    }
}

/// The annotation with which the admission controller of VerticalPodAutoscalers records what it set in a pod:
/// `Pod resources updated by NAME: container 0: cpu request, memory request`.
const VPA_UPDATES: &str = "vpaUpdates";

/// Returns which VerticalPodAutoscaler set the resources of metrics-core's container; `None` if none did.
fn autoscaled(pod: &Pod) -> Option<String> {
    let updates = pod.metadata.annotations.as_ref()?.get(VPA_UPDATES)?;
    let containers = &pod.spec.as_ref()?.containers;
    let index = containers.iter().position(|container| container.name == METRICS_CORE)?;
    if !updates.contains(&format!("container {index}:")) {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "a VerticalPodAutoscaler sets the resources of pod {name} (annotation {VPA_UPDATES}: \"{}\")",
        bounded(updates, 200)
    ))
}

/// Whether two sets of resources have the same keys and amounts.
#[must_use]
pub(crate) fn same_resources(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
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

/// Whether resources contain the `wanted` amounts. Others are ignored: a LimitRange or an admission webhook may add
/// resources that the pod template does not have.
#[must_use]
pub(crate) fn includes(resources: &ResourceRequirements, wanted: &ResourceRequirements) -> bool {
    same_resources(resources, &merged(resources, wanted))
}

/// Returns `resources` with the `wanted` amounts applied.
fn merged(resources: &ResourceRequirements, wanted: &ResourceRequirements) -> ResourceRequirements {
    let merge = |base: &Option<Amounts>, patch: &Option<Amounts>| {
        let mut amounts = base.clone().unwrap_or_default();
        amounts.extend(patch.clone().unwrap_or_default());
        Some(amounts)
    };
    ResourceRequirements {
        requests: merge(&resources.requests, &wanted.requests),
        limits: merge(&resources.limits, &wanted.limits),
        ..resources.clone()
    }
}

/// Whether an in-place resize from one to the other is allowed: the QoS class stays, and no request or limit is added
/// or removed.
#[must_use]
pub(crate) fn can_resize(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let keys = |amounts: Option<&Amounts>| -> BTreeSet<String> {
        amounts.into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    keys(a.requests.as_ref()) == keys(b.requests.as_ref())
        && keys(a.limits.as_ref()) == keys(b.limits.as_ref())
        && is_guaranteed(a) == is_guaranteed(b)
}

/// Whether the QoS class is Guaranteed: both resources have limits, and requests equal them.
fn is_guaranteed(resources: &ResourceRequirements) -> bool {
    let limits = resources.limits.as_ref();
    ["cpu", "memory"].iter().all(|key| limits.is_some_and(|limits| limits.contains_key(*key)))
        && same_amounts(resources.requests.as_ref(), limits)
}

/// Whether any request or limit increases.
#[must_use]
pub(crate) fn grows(from: &ResourceRequirements, to: &ResourceRequirements) -> bool {
    let increases = |from: Option<&Amounts>, to: Option<&Amounts>| {
        to.into_iter().flatten().any(|(key, to)| {
            let from = from.and_then(|from| from.get(key)).and_then(|from| nanos(&from.0));
            from.is_none_or(|from| nanos(&to.0).is_some_and(|to| to > from))
        })
    };
    increases(from.requests.as_ref(), to.requests.as_ref())
        || increases(from.limits.as_ref(), to.limits.as_ref())
}

#[cfg(test)]
mod tests;
