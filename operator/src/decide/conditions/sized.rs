//! `Sized`: the pods have the resources that the nanny recommends.

use crds::{ConditionType, NannyMode, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::nanny::resize::{Obstacle, Standing, asked, grows, is_alive, standing};

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
    let Some(held) = &evidence.plan.sizing.held else {
        let message = "The number of nodes (or of containers, depending on spec.nanny.scalingMode) is not known yet. Until \
                       then metrics-core uses spec.metricsCore.resources.";
        return Condition::new(of, ConditionStatus::Unknown, Reason::ClusterSizeUnknown, message);
    };
    let size = held.size;
    let why = &held.reason;
    let Some(wanted) = &evidence.plan.sizing.wanted else {
        return good(format!(
            "The nanny recommends {size} ({why}). It does not apply them because spec.nanny.mode is {mode:?}."
        ));
    };
    let refusals = &evidence.observed.refusals;
    let mut underway = false;
    for pod in evidence.observed.pods.iter().filter(|pod| is_alive(pod)) {
        match standing(pod, wanted, refusals, evidence.now) {
            Standing::Sized => {}
            Standing::Unasked | Standing::Underway => underway = true,
            Standing::Blocked { obstacle, patient } => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let growing = actual(pod).is_none_or(|actual| grows(actual, wanted));
                let instead = if evidence.spec.metrics_core.scheduling.host_network {
                    "New pods are created instead. With hostNetwork a previous pod may have to terminate first, see DeploymentAvailable"
                } else {
                    "New pods are created instead, and the previous pods serve until those are ready"
                };
                let what = format!("Pod {name} should have {size} ({why})");
                return blocked(&obstacle, patient, growing, &what, instead);
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

/// Returns the container's actual resources, or those in the pod's spec while the kubelet reports none.
pub(in crate::decide) fn actual(
    pod: &k8s_openapi::api::core::v1::Pod,
) -> Option<&k8s_openapi::api::core::v1::ResourceRequirements> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ours = statuses.into_iter().flatten().find(|status| status.name == crate::owned::METRICS_CORE);
    ours.and_then(|status| status.resources.as_ref()).or_else(|| asked(pod))
}

fn blocked(obstacle: &Obstacle, patient: bool, more: bool, what: &str, instead: &str) -> Condition {
    let of = ConditionType::Sized;
    let bound = "Lower spec.nanny.max to a size that fits";
    match obstacle {
        Obstacle::Shape => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!("{what}, but {}. New pods are created instead.", obstacle.words()),
        ),
        Obstacle::Infeasible(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeInfeasible,
            format!("{what}, but its node is too small: {says}. {instead}. {bound}, or add a larger node."),
        ),
        Obstacle::Deferred(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeDeferred,
            format!(
                "{what}, but its node has no free capacity: {says}. {} {bound}.",
                if patient {
                    "The operator waits 60 s before it creates new pods.".to_owned()
                } else {
                    format!("{instead}. The pod is still resized in place if capacity becomes free first.")
                }
            ),
        ),
        Obstacle::Contested(says) => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResourcesConflict,
            format!(
                "{what}, but {says}. The operator does not change the pod for 10 minutes. Stop the other writer, or set \
                 spec.nanny.mode to Recommend or Off."
            ),
        ),
        Obstacle::Refused(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeRejected,
            if patient {
                format!(
                    "{what}, but it cannot be resized: {says}. Check the ResourceQuotas and LimitRanges of the namespace."
                )
            } else {
                format!("{what}, but it cannot be resized in place: {says}. {instead}.")
            },
        ),
        Obstacle::Infeasible(says) | Obstacle::Deferred(says) | Obstacle::Refused(says) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::ResizeRejected,
            format!(
                "{what}, which is less than it has, but it cannot shrink in place: {says}. The next rollout applies the smaller size."
            ),
        ),
    }
}
