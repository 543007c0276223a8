//! The pods have the resources that the nanny recommends.

use crds::{ConditionType, NannyMode, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::nanny::resize::{Obstacle, Standing, asked, grows, is_alive, standing};

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
    let Some(held) = &evidence.plan.sizing.held else {
        let message = "It is not known yet how many nodes (or containers, as spec.nanny.scalingMode asks) there are; \
                       until then metrics-core has the resources of spec.metricsCore.resources.";
        return Condition::new(of, ConditionStatus::Unknown, Reason::ClusterSizeUnknown, message);
    };
    let size = held.size;
    let why = &held.reason;
    let Some(wanted) = &evidence.plan.sizing.wanted else {
        return good(format!(
            "{size} are recommended ({why}). They are not applied, as spec.nanny.mode is {mode:?}."
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
                    "New pods are made instead; DeploymentAvailable says whether an old one goes first, as with hostNetwork it may"
                } else {
                    "New pods are made instead, and the old ones serve until those are ready"
                };
                let what = format!("Pod {name} is to have {size} ({why})");
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

/// What the container really has; what it was asked to have while the kubelet does not tell.
pub(crate) fn actual(
    pod: &k8s_openapi::api::core::v1::Pod,
) -> Option<&k8s_openapi::api::core::v1::ResourceRequirements> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ours = statuses.into_iter().flatten().find(|status| status.name == crate::common::METRICS_CORE);
    ours.and_then(|status| status.resources.as_ref()).or_else(|| asked(pod))
}

fn blocked(obstacle: &Obstacle, patient: bool, more: bool, what: &str, instead: &str) -> Condition {
    let of = ConditionType::Sized;
    let bound = "To set a bound that fits, use spec.nanny.max";
    match obstacle {
        Obstacle::Shape => Condition::new(
            of,
            ConditionStatus::True,
            Reason::Progressing,
            format!("{what}, but {}: that takes new pods.", obstacle.words()),
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
                "{what}, but its node has no room now: {says}. {} {bound}.",
                if patient {
                    "It waits for a minute.".to_owned()
                } else {
                    format!("{instead}, unless the room comes before that.")
                }
            ),
        ),
        Obstacle::Contested(says) => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResourcesConflict,
            format!(
                "{what}, but {says}; it is left to them for ten minutes. Have them leave it alone, or set spec.nanny.mode to \
                 Recommend or Off."
            ),
        ),
        Obstacle::Refused(says) if more => Condition::new(
            of,
            ConditionStatus::False,
            Reason::ResizeRejected,
            if patient {
                format!(
                    "{what}, but it can't be resized: {says}. Look at the ResourceQuotas and LimitRanges of the namespace."
                )
            } else {
                format!("{what}, but it can't be resized in place: {says}. {instead}.")
            },
        ),
        Obstacle::Infeasible(says) | Obstacle::Deferred(says) | Obstacle::Refused(says) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::ResizeRejected,
            format!(
                "{what}, which is less than it has, but it can't shrink in place: {says}. The next rollout brings it."
            ),
        ),
    }
}
