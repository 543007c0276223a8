//! The pods have the resources that the nanny recommends.

use crds::{ConditionType, NannyMode, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::nanny::resize::{ResizeBlocker, ResizeState, actual_resources, grows, is_active, resize_state};

/// `Ready` holds without it: the size says nothing about whether metrics are served.
pub(super) fn evaluate(evidence: Evidence<'_>) -> Condition {
    condition(evidence).non_blocking()
}

fn condition(evidence: Evidence<'_>) -> Condition {
    let of = ConditionType::Sized;
    let good = |message: String| Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    let mode = evidence.spec.nanny.mode;
    if mode == NannyMode::Off {
        let message = "spec.nanny.mode is Off: metrics-core has the resources of spec.metricsCore.resources.";
        return good(message.to_owned());
    }
    let Some(recommended) = &evidence.plan.sizing.recommended else {
        let message = "It is not known yet how many nodes (or containers, as spec.nanny.scalingMode asks) there are; \
                       until then metrics-core has the resources of spec.metricsCore.resources.";
        return Condition::new(of, ConditionStatus::Unknown, Reason::ClusterSizeUnknown, message);
    };
    let size = recommended.size;
    let why = &recommended.reason;
    let Some(wanted) = &evidence.plan.sizing.wanted else {
        return good(format!(
            "{size} are recommended ({why}). They are not applied, as spec.nanny.mode is {mode:?}."
        ));
    };
    let rejections = &evidence.observed.resize_rejections;
    let mut underway = false;
    for pod in evidence.observed.pods.iter().filter(|pod| is_active(pod)) {
        match resize_state(pod, wanted, rejections, evidence.now) {
            ResizeState::Complete => {}
            ResizeState::NotRequested | ResizeState::InProgress => underway = true,
            ResizeState::Blocked { blocker, waiting } => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let growing = actual_resources(pod).is_none_or(|actual| grows(actual, wanted));
                let instead = if evidence.spec.metrics_core.scheduling.host_network {
                    "New pods are made instead; DeploymentAvailable says whether an old one goes first, as with hostNetwork it may"
                } else {
                    "New pods are made instead, and the old ones serve until those are ready"
                };
                let what = format!("Pod {name} is to have {size} ({why})");
                return blocked(&blocker, waiting, growing, &what, instead);
            }
        }
    }
    if underway {
        return Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!("Pods are being resized to {size} ({why})."),
        );
    }
    good(format!("metrics-core has {size} ({why})."))
}

fn blocked(blocker: &ResizeBlocker, waiting: bool, more: bool, what: &str, instead: &str) -> Condition {
    let of = ConditionType::Sized;
    let bound = "To set a bound that fits, use spec.nanny.max";
    match blocker {
        ResizeBlocker::Immutable => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!("{what}, but {}: that takes new pods.", blocker),
        ),
        ResizeBlocker::Infeasible(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeInfeasible,
            format!("{what}, but its node is too small: {says}. {instead}. {bound}, or add a larger node."),
        ),
        ResizeBlocker::Deferred(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeDeferred,
            format!(
                "{what}, but its node has no room now: {says}. {} {bound}.",
                if waiting {
                    "It waits for a minute.".to_owned()
                } else {
                    format!("{instead}, unless the room comes before that.")
                }
            ),
        ),
        ResizeBlocker::Conflict(says) => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResourcesConflict,
            format!(
                "{what}, but {says}; it is left to them for ten minutes. Have them leave it alone, or set spec.nanny.mode to \
                 Recommend or Off."
            ),
        ),
        ResizeBlocker::Rejected(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeRejected,
            if waiting {
                format!(
                    "{what}, but it can't be resized: {says}. Look at the ResourceQuotas and LimitRanges of the namespace."
                )
            } else {
                format!("{what}, but it can't be resized in place: {says}. {instead}.")
            },
        ),
        ResizeBlocker::Infeasible(says) | ResizeBlocker::Deferred(says) | ResizeBlocker::Rejected(says) => {
            Condition::new(
                of,
                ConditionStatus::True,
                Reason::ResizeRejected,
                format!(
                    "{what}, which is less than it has, but it can't shrink in place: {says}. The next rollout brings it."
                ),
            )
        }
    }
}
