//! `Sized`: the pods have the resources that the nanny recommends.

use crds::{ConditionType, NannyMode, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::nanny::resize::{ResizeBlocker, ResizeState, actual_resources, grows, is_active, resize_state};

/// Non-blocking: metrics are served with any size.
pub(super) fn evaluate(evidence: Evidence<'_>) -> Condition {
    condition(evidence).non_blocking()
}

fn condition(evidence: Evidence<'_>) -> Condition {
    let of = ConditionType::Sized;
    let good = |message: String| Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    let mode = evidence.spec.nanny.mode;
    if mode == NannyMode::Off {
        let message = "spec.nanny.mode is Off: metrics-core uses spec.metricsCore.resources.";
        return good(message.to_owned());
    }
    let Some(recommended) = &evidence.plan.sizing.recommended else {
        let message = "The number of nodes (or of containers, depending on spec.nanny.scalingMode) is not known yet. \
                       Until then metrics-core uses spec.metricsCore.resources.";
        return Condition::new(of, ConditionStatus::Unknown, Reason::ClusterSizeUnknown, message);
    };
    let size = recommended.size;
    let why = &recommended.reason;
    let Some(wanted) = &evidence.plan.sizing.wanted else {
        return good(format!(
            "The nanny recommends {size} ({why}). It does not apply this size because spec.nanny.mode is {mode:?}."
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
                    "New pods are created instead. With hostNetwork a previous pod may have to terminate first, see \
                    DeploymentAvailable"
                } else {
                    "New pods are created instead, and the previous pods serve until those are ready"
                };
                let what = format!("Pod {name} should have {size} ({why})");
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
    let bound = "Lower spec.nanny.max to a size that fits";
    match blocker {
        ResizeBlocker::Immutable => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!("{what}, but {blocker}. New pods are created instead."),
        ),
        ResizeBlocker::Infeasible(detail) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeInfeasible,
            format!("{what}, but its node is too small: {detail}. {instead}. {bound}, or add a larger node."),
        ),
        ResizeBlocker::Deferred(detail) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeDeferred,
            format!(
                "{what}, but its node has no free capacity: {detail}. {} {bound}.",
                if waiting {
                    "The operator waits 60 s before it creates new pods.".to_owned()
                } else {
                    format!("{instead}. The pod is still resized in place if capacity becomes free first.")
                }
            ),
        ),
        ResizeBlocker::Conflict(detail) => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResourcesConflict,
            format!(
                "{what}, but {detail}. The operator does not change the pod for 10 minutes. Stop the other writer, or set \
                 spec.nanny.mode to Recommend or Off."
            ),
        ),
        ResizeBlocker::Autoscaled(detail) => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResourcesConflict,
            format!(
                "{what}, but {detail}. The operator leaves the pod unchanged, because the VerticalPodAutoscaler would evict \
                 it and set its own amounts again. Delete the VerticalPodAutoscaler or set its updateMode to Off, or set \
                 spec.nanny.mode to Recommend or Off."
            ),
        ),
        ResizeBlocker::Rejected(detail) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeRejected,
            if waiting {
                format!(
                    "{what}, but it cannot be resized: {detail}. Check the ResourceQuotas and LimitRanges of the namespace."
                )
            } else {
                format!("{what}, but it cannot be resized in place: {detail}. {instead}.")
            },
        ),
        ResizeBlocker::Infeasible(detail)
        | ResizeBlocker::Deferred(detail)
        | ResizeBlocker::Rejected(detail) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::ResizeRejected,
            format!(
                "{what}, less than it has now, but it cannot be resized in place: {detail}. The next rollout applies \
                    the smaller size."
            ),
        ),
    }
}
