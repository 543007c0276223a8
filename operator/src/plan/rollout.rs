//! Whether a rollout creates new pods before it deletes old ones.
//!
//! It does: a rollout surges, and no pod is deleted for a new pod that can't be scheduled. But some pods exclude each other:
//! with `scheduling.hostNetwork` two can't use the same port of a node, and a required anti-affinity or a topology spread
//! constraint can keep a new pod off every node that has an old one. On a cluster of few nodes a surge would wait forever. The
//! count of nodes does not show whether it does, because of taints, selectors and other workloads; the scheduler's message on
//! the new pod does. Then one old pod is deleted first, unless the new one could not take its place either.

use std::time::Duration;

use crds::RollingUpdateSpec;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::common::label_selector;
use crate::nanny::resize::{
    RejectionKind, ResizeRejection, ResizeRejections, actual_resources, includes, is_active, same_resources,
    spec_resources,
};

/// How long a new pod waits for a free port or node; a terminating pod may use it for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bound of a rolling update that Kubernetes sets if none is given.
const DEFAULT_BOUND: &str = "25%";

/// The order of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A new pod must be ready before an old one is deleted: `maxSurge` 1, `maxUnavailable` 0.
    NewFirst,
    /// An old pod is deleted before a new one is created: `maxSurge` 0, `maxUnavailable` 1.
    OldFirst,
}

impl Order {
    /// Returns `maxSurge` and `maxUnavailable`.
    #[must_use]
    pub(crate) const fn surge_and_unavailable(self) -> (i32, i32) {
        match self {
            Self::NewFirst => (1, 0),
            Self::OldFirst => (0, 1),
        }
    }
}

/// Returns the order of a rollout, given the pods of metrics-core and their rejected resizes.
#[must_use]
pub(crate) fn order(
    host_network: bool,
    pods: &[Pod],
    rejections: &ResizeRejections,
    now: Timestamp,
) -> Order {
    let patience = SignedDuration::try_from(PATIENCE).unwrap_or_default();
    let waiting = pods.iter().find(|pod| {
        let port = waits_for_port(pod).filter(|_| host_network);
        let excluded = port.or_else(|| waits_for_replica(pod, pods));
        let since = excluded.and_then(|condition| condition.last_transition_time.as_ref());
        since.is_some_and(|since| now.duration_since(since.0) >= patience)
    });
    let Some(new) = waiting else { return Order::NewFirst };
    let has_no_place =
        pods.iter().filter(|pod| is_active(pod)).any(|old| is_too_large_for(new, old, rejections));
    if has_no_place { Order::NewFirst } else { Order::OldFirst }
}

/// Returns `maxSurge` and `maxUnavailable` of a strategy that the spec sets, with the defaults of Kubernetes.
#[must_use]
pub(crate) fn surge_and_unavailable(spec: Option<&RollingUpdateSpec>) -> (IntOrString, IntOrString) {
    let or_default = |bound: Option<&IntOrString>| {
        bound.cloned().unwrap_or_else(|| IntOrString::String(DEFAULT_BOUND.to_owned()))
    };
    (
        or_default(spec.and_then(|spec| spec.max_surge.as_ref())),
        or_default(spec.and_then(|spec| spec.max_unavailable.as_ref())),
    )
}

/// Returns how many replicas a rolling update that the spec sets may terminate before new ones are ready. Computed as the
/// Deployment controller does: percentages of `maxSurge` are rounded up, those of `maxUnavailable` down, and if both are
/// 0, one replica may be unavailable.
#[must_use]
pub(crate) fn max_unavailable(spec: Option<&RollingUpdateSpec>, replicas: i32) -> i32 {
    let (surge, unavailable) = surge_and_unavailable(spec);
    let unavailable = match unavailable {
        IntOrString::Int(count) => count,
        IntOrString::String(share) => percent(&share).saturating_mul(replicas) / 100,
    };
    let surges = match surge {
        IntOrString::Int(count) => count > 0,
        IntOrString::String(share) => percent(&share) > 0,
    };
    if surges { unavailable } else { unavailable.max(1) }
}

/// Parses a percentage such as `25%`. The schema admits no other text.
fn percent(text: &str) -> i32 {
    text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Returns the scheduler's condition of a pod that waits for a free port.
#[must_use]
pub(crate) fn waits_for_port(pod: &Pod) -> Option<&PodCondition> {
    let says_so = |condition: &&PodCondition| {
        let message = condition.message.as_deref().unwrap_or_default();
        message.contains("free ports")
    };
    unplaced(pod).filter(says_so)
}

/// Returns the scheduler's condition of a pod that can't be placed beside another replica: a required anti-affinity of one of
/// them selects the other, or a topology spread constraint counts it.
#[must_use]
pub(crate) fn waits_for_replica<'a>(pod: &'a Pod, pods: &[Pod]) -> Option<&'a PodCondition> {
    let condition = unplaced(pod)?;
    let message = condition.message.as_deref().unwrap_or_default();
    let placed = || pods.iter().filter(|other| is_active(other) && unplaced(other).is_none());
    // kube-scheduler's plugins InterPodAffinity and PodTopologySpread report these.
    let repelled = message.contains("anti-affinity rules")
        && placed().any(|other| repels(pod, other) || repels(other, pod));
    let uneven =
        message.contains("topology spread constraints") && placed().any(|other| spreads_from(pod, other));
    (repelled || uneven).then_some(condition)
}

/// Whether a required anti-affinity of `pod` selects `other`, which is in the same namespace.
fn repels(pod: &Pod, other: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let namespace = other.metadata.namespace.as_ref();
    terms.into_iter().flatten().any(|term| {
        // Without namespaces a term means the pod's own.
        let named = term.namespaces.iter().flatten().any(|name| Some(name) == namespace);
        let own = term.namespaces.as_ref().is_none_or(Vec::is_empty) && term.namespace_selector.is_none();
        (own || named || term.namespace_selector.is_some())
            && selects_pod(term.label_selector.as_ref(), other)
    })
}

/// Whether a topology spread constraint of `pod` that must be met counts `other`.
fn spreads_from(pod: &Pod, other: &Pod) -> bool {
    let constraints = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
    constraints.into_iter().flatten().any(|constraint| {
        constraint.when_unsatisfiable == "DoNotSchedule"
            && selects_pod(constraint.label_selector.as_ref(), other)
    })
}

/// Whether a selector selects a pod. One that is absent selects none.
fn selects_pod(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    selector.is_some_and(|selector| label_selector::selects(selector, &labels))
}

/// Returns the scheduler's condition of a pod that it can't place.
#[must_use]
pub(crate) fn unplaced(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref().filter(|_| is_active(pod))?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Whether the old pod should be resized in place to the new pod's resources and is not: its node has no room, or the
/// resize is in progress.
fn is_too_large_for(new: &Pod, old: &Pod, rejections: &ResizeRejections) -> bool {
    let Some(new) = spec_resources(new) else { return false };
    let refused = |rejection: &ResizeRejection| {
        rejection.kind == RejectionKind::Infeasible && same_resources(&rejection.wanted, new)
    };
    let got = actual_resources(old).is_some_and(|actual| includes(actual, new));
    let waits = !got && unplaced(old).is_none() && spec_resources(old).is_some_and(|old| includes(old, new));
    waits || rejections.get(old.metadata.uid.as_deref().unwrap_or_default()).is_some_and(refused)
}

#[cfg(test)]
mod tests;
