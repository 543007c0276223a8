//! `DeploymentAvailable`: enough replicas of metrics-core are available.

use crds::{ConditionType, Reason, StrategySpec, StrategyType};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

use super::{Condition, ConditionStatus, Evidence, kubelets, pods};
use crate::assess::diagnosis::Diagnosis;
use crate::common::ManagedObject;
use crate::common::normalize::quote;
use crate::plan::rollout;

/// The objects of the condition.
pub(super) const OBJECTS: [ManagedObject; 3] =
    [ManagedObject::Deployment, ManagedObject::Service, ManagedObject::DisruptionBudget];

/// Returns whether all replicas are updated and available, and no other pods of the Deployment are left.
pub(super) fn is_rolled_out(evidence: Evidence<'_>) -> bool {
    let wanted = evidence.spec.metrics_core.replicas;
    read(evidence).is_some_and(|(generation, status)| is_complete(generation, &status, wanted))
}

fn is_complete(generation: i64, status: &DeploymentStatus, wanted: i32) -> bool {
    status.observed_generation.unwrap_or_default() >= generation
        && status.available_replicas.unwrap_or_default() >= wanted
        && status.updated_replicas.unwrap_or_default() == wanted
        && status.replicas.unwrap_or_default() == wanted
}

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Condition {
    let of = ConditionType::DeploymentAvailable;
    if let Some(problem) = evidence.problem(&OBJECTS) {
        return Condition::problem(of, problem);
    }
    let wanted = evidence.spec.metrics_core.replicas;
    let name = ManagedObject::Deployment.describe(evidence.namespace);
    let Some((generation, status)) = read(evidence) else {
        return Condition::new(
            of,
            ConditionStatus::False,
            Reason::Progressing,
            format!("{name} is being created."),
        );
    };
    let available = status.available_replicas.unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or_default();
    let counts = format!("{available} of {wanted} replicas are available, {updated} are up to date");
    let enough = available >= wanted;
    if is_complete(generation, &status, wanted) {
        let message = format!("{available} of {wanted} replicas are ready.");
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    }
    if let Some(why) = &evidence.observed.pods_unreadable {
        let (reason, remedy) = if why.forbidden {
            (
                Reason::PermissionMissing,
                "Run `helm upgrade` with the chart of this version to restore the permission.",
            )
        } else {
            (Reason::ApplyFailed, "The operator retries.")
        };
        let message = format!(
            "The pods of metrics-core cannot be read: kube-apiserver returned \"{}\". {remedy}",
            why.message
        );
        return Condition::new(of, ConditionStatus::Unknown, reason, message);
    }
    let (reason, message) = port(evidence, available)
        .or_else(|| trouble(evidence, &status))
        .or_else(|| paused(evidence))
        .unwrap_or_else(|| (Reason::Progressing, format!("{name} is rolling out: {counts}.")));
    if !enough
        && matches!(reason, Reason::Progressing | Reason::PodsNotReady)
        && let Some(condition) = kubelets::explain_unready(evidence, diagnosis)
    {
        let message = format!(
            "No replica is ready because none has fresh metrics to serve. {counts}. See {condition} for the cause."
        );
        return Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message);
    }
    // While previous replicas serve, the condition is True; its reason reports the failing rollout.
    let condition_status = if enough { ConditionStatus::True } else { ConditionStatus::False };
    let message = match (reason, enough) {
        (Reason::Progressing, _) => message,
        (_, true) => {
            format!("The previous replicas still serve metrics, but the rollout is stalled. {message}")
        }
        (_, false) => format!("{message} {counts}."),
    };
    Condition::new(of, condition_status, reason, message)
}

fn read(evidence: Evidence<'_>) -> Option<(i64, DeploymentStatus)> {
    let found = evidence.observed.object(ManagedObject::Deployment)?;
    let deployment: Deployment = evidence.observed.typed(ManagedObject::Deployment)?;
    Some((found.metadata.generation.unwrap_or_default(), deployment.status.unwrap_or_default()))
}

/// Explains a rollout with hostNetwork whose new pod waits for the port of a previous replica.
fn port(evidence: Evidence<'_>, available: i32) -> Option<(Reason, String)> {
    let core = &evidence.spec.metrics_core;
    if !core.scheduling.host_network {
        return None;
    }
    let pods = &evidence.observed.pods;
    let (pod, reported) = pods.iter().find_map(|pod| Some((pod, rollout::waits_for_port(pod)?)))?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let reported = pods::quote(reported.message.as_deref());
    let port = core.secure_port_or_default();
    let what = format!(
        "With spec.metricsCore.scheduling.hostNetwork, a node can run only one replica. Pod {name} is Pending because \
         no node has port {port} free: the scheduler reports \"{reported}\"."
    );
    // How many previous replicas may be terminated before the new ones are ready.
    let unavailable = match &core.strategy {
        None => {
            let rejections = &evidence.observed.resize_rejections;
            rollout::order(true, pods, rejections, evidence.now).surge_and_unavailable().1
        }
        Some(StrategySpec { type_: StrategyType::Recreate, .. }) => {
            let message = format!("{what} Add a node with a free port, or set hostNetwork to false.");
            return Some((Reason::Unschedulable, message));
        }
        Some(StrategySpec { type_: StrategyType::RollingUpdate, rolling_update }) => {
            rollout::max_unavailable(rolling_update.as_ref(), core.replicas)
        }
    };
    let previous = match unavailable {
        1 => "one previous replica".to_owned(),
        count => format!("up to {count} previous replicas"),
    };
    let remedy = "To avoid this, add a schedulable node or set hostNetwork to false.";
    Some(match unavailable {
        0 if core.strategy.is_some() => (
            Reason::Unschedulable,
            format!(
                "{what} The operator does not change the order of the rollout because spec.metricsCore.strategy is set. \
                 Set its rollingUpdate.maxUnavailable to 1, remove it, add a node with a free port, or set hostNetwork \
                 to false."
            ),
        ),
        0 => (
            Reason::Unschedulable,
            format!(
                "{what} No previous replica is terminated unless the new pod fits in its place. {remedy}"
            ),
        ),
        _ if available > unavailable => (
            Reason::Progressing,
            format!(
                "{what} The rollout terminates {previous} first, and the other replicas keep serving metrics. {remedy}"
            ),
        ),
        _ => (
            Reason::Progressing,
            format!(
                "{what} The rollout terminates the previous replica first, so there are no metrics until the new one \
                 is ready. {remedy}"
            ),
        ),
    })
}

/// Reports a pause that the operator did not set. The operator itself pauses a rollout only between two writes.
fn paused(evidence: Evidence<'_>) -> Option<(Reason, String)> {
    let paused =
        |body: &serde_json::Value| body.pointer("/spec/paused") == Some(&serde_json::Value::Bool(true));
    let by_us = evidence
        .plan
        .desired
        .iter()
        .any(|desired| desired.object == ManagedObject::Deployment && paused(&desired.body));
    let found = evidence.observed.object(ManagedObject::Deployment)?;
    let is_paused = found.data.pointer("/spec/paused") == Some(&serde_json::Value::Bool(true));
    (is_paused && !by_us).then(|| {
        let name = ManagedObject::Deployment.name();
        let namespace = evidence.namespace;
        let message = format!(
            "The rollout of {} is paused, but not by the operator, so changes do not reach its pods. Run `kubectl rollout \
             resume deployment/{name} --namespace {namespace}`.",
            ManagedObject::Deployment.describe(namespace)
        );
        (Reason::DeploymentPaused, message)
    })
}

fn trouble(evidence: Evidence<'_>, status: &DeploymentStatus) -> Option<(Reason, String)> {
    let rejected = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if let Some(rejected) = rejected {
        let reported = quote(rejected.message.as_deref().unwrap_or_default());
        return Some((
            Reason::FailedCreate,
            format!(
                "The pods of metrics-core cannot be created: Kubernetes reports \"{reported}\". Check the ResourceQuotas, \
                 the Pod Security level and the admission webhooks of namespace {}. Check \
                 spec.metricsCore.scheduling.priorityClassName too: some clusters allow it in kube-system only.",
                evidence.namespace
            ),
        ));
    }
    pods::worst(&evidence.observed.pods, evidence.spec, evidence.namespace, evidence.now)
}

#[cfg(test)]
mod tests;
