//! Whether new pods come before old ones go.
//!
//! They do: a rollout surges, and nothing is taken down for a pod that can't be placed. On the node's network
//! (`scheduling.hostNetwork`) two pods can't have the same port, so on a cluster of few nodes that would wait for
//! ever. Whether it does is not guessed from a number of nodes, which taints, selectors and other people's ports
//! make meaningless: the scheduler says it of the new pod. Then one old pod goes first, unless it is known that the
//! new one could not take its place either.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::nanny::resize::{
    RejectionKind, ResizeRejection, ResizeRejections, actual_resources, includes, is_active, same_resources,
    spec_resources,
};

/// So long a new pod waits for a node whose port is free; one that ends may still hold it for a moment.
const PATIENCE: Duration = Duration::from_secs(10);

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new pod must be ready before an old one goes: `maxSurge` 1, `maxUnavailable` 0.
    NewFirst,
    /// An old pod makes room for a new one: `maxSurge` 0, `maxUnavailable` 1.
    OldFirst,
}

impl Order {
    /// `maxSurge` and `maxUnavailable`.
    #[must_use]
    pub const fn surge_and_unavailable(self) -> (i32, i32) {
        match self {
            Self::NewFirst => (1, 0),
            Self::OldFirst => (0, 1),
        }
    }
}

/// The order of a rollout, given the pods of metrics-core and what was refused to be done to them.
#[must_use]
pub fn order(host_network: bool, pods: &[Pod], rejections: &ResizeRejections, now: Timestamp) -> Order {
    if !host_network {
        return Order::NewFirst;
    }
    let patience = SignedDuration::try_from(PATIENCE).unwrap_or_default();
    let waiting = pods.iter().find(|pod| {
        let since = waits_for_port(pod).and_then(|condition| condition.last_transition_time.as_ref());
        since.is_some_and(|since| now.duration_since(since.0) >= patience)
    });
    let Some(new) = waiting else { return Order::NewFirst };
    let has_no_place =
        pods.iter().filter(|pod| is_active(pod)).any(|old| is_too_large_for(new, old, rejections));
    if has_no_place { Order::NewFirst } else { Order::OldFirst }
}

/// What the scheduler says of a pod that no node has the port for.
#[must_use]
pub fn waits_for_port(pod: &Pod) -> Option<&PodCondition> {
    let says_so = |condition: &&PodCondition| {
        let message = condition.message.as_deref().unwrap_or_default();
        message.contains("free ports")
    };
    unplaced(pod).filter(says_so)
}

/// What the scheduler says of a pod that it can't place.
#[must_use]
pub fn unplaced(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref().filter(|_| is_active(pod))?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Whether the old pod is to have in place what the new one asks for, and has not got it: its node has no room for
/// that, or it is just coming.
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
