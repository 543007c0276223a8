//! `KubeletsReachable`: metrics-core can scrape the kubelets.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::{Cause, Diagnosis, Severity};
use crate::common::{METRICS_CORE, ManagedObject};
use crate::observe::{Coverage, ReportError};

/// The percentage of nodes that may lack metrics before `Ready` is False; one of several nodes always may. The person on
/// call for the pipeline is usually not responsible for a single machine.
const TOLERATED_PERCENT: usize = 10;

/// Returns whether so few nodes lack metrics that the pipeline as a whole is not affected.
pub(super) fn is_partial(nodes: Coverage) -> bool {
    is_tolerated(nodes.total.saturating_sub(nodes.covered), nodes.total)
}

/// Returns whether the pipeline as a whole is not affected by a fault of some of its nodes.
pub(super) fn is_tolerated(affected: usize, total: usize) -> bool {
    affected < total && affected <= (total * TOLERATED_PERCENT / 100).max(1)
}

/// Returns whether no replica is ready because kubelets can't be scraped or return no usable samples, and the condition that
/// names the cause. A replica without fresh metrics leaves the Service; what follows from it (no available replicas, no
/// endpoints) is then not reported as a cause of its own.
pub(super) fn explain_unready(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Option<ConditionType> {
    let is_fault =
        |cause: &Option<Cause>| cause.as_ref().is_some_and(|cause| cause.severity == Severity::Fault);
    let observed = evidence.observed;
    let none_serves = observed.facts.coverage.is_some_and(|nodes| nodes.total > 0)
        && observed.reports().all(|report| report.nodes.covered == 0)
        && observed.replicas.iter().all(|replica| !replica.ready);
    let kubelets = is_fault(&diagnosis.kubelets).then_some(ConditionType::KubeletsReachable);
    let samples = || is_fault(&diagnosis.samples).then_some(ConditionType::NodesCovered);
    kubelets.or_else(samples).filter(|_| none_serves)
}

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Condition {
    let of = ConditionType::KubeletsReachable;
    let nodes = evidence.observed.facts.coverage;
    match (&diagnosis.kubelets, nodes) {
        (Some(cause), Some(nodes)) if cause.severity == Severity::Fault => {
            let partial = is_partial(nodes) && nodes.failing < nodes.total;
            let access = [
                ManagedObject::CollectorRole,
                ManagedObject::CollectorBinding,
                ManagedObject::ServiceAccount,
            ];
            let waits = cause.reason == Reason::KubeletForbidden && evidence.problem(&access).is_some();
            let condition = if waits {
                let message = format!("{} See AccessReady for the cause.", cause.summary);
                Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message)
            } else {
                Condition::cause(of, cause)
            };
            if partial { condition.non_blocking() } else { condition }
        }
        (_, None) => {
            let waits = "The status is unknown until a replica of metrics-core reports. See DeploymentAvailable for \
                the cause.";
            if evidence.observed.replicas.iter().any(|replica| replica.ready) {
                let message = format!(
                    "The operator cannot determine whether kubelets respond. {} {}",
                    evidence.observed.why_no_report().unwrap_or_default(),
                    report_remedy(evidence)
                );
                return Condition::new(of, ConditionStatus::Unknown, Reason::ReportUnavailable, message)
                    .non_blocking();
            }
            Condition::new(of, ConditionStatus::Unknown, Reason::WaitingForDependency, waits)
        }
        (Some(cause), Some(_)) => Condition::cause(of, cause),
        (None, Some(nodes)) if nodes.total > 0 && nodes.covered == 0 && nodes.failing == 0 => {
            let message = "metrics-core is scraping the kubelets for the first time.";
            Condition::new(of, ConditionStatus::Unknown, Reason::Progressing, message)
        }
        (None, Some(_)) => Condition::new(
            of,
            ConditionStatus::True,
            Reason::AsExpected,
            "The kubelets respond to metrics-core.",
        ),
    }
}

/// Returns the remedy for the first error of a replica's report.
fn report_remedy(evidence: Evidence<'_>) -> String {
    let error = evidence.observed.replicas.iter().find_map(|replica| replica.report.as_ref().err());
    match error {
        Some(ReportError::Unauthorized) => format!(
            "metrics-core is older than the operator, and does not know this audience, or it cannot create TokenReviews \
             (`kubectl logs deployment/{METRICS_CORE} --namespace {}`). Set spec.metricsCore.image to the version of the \
             operator, or remove it: the operator then uses its own version.",
            evidence.namespace
        ),
        Some(ReportError::Token(_)) => "Run `helm upgrade` with the chart of this version, which projects the token into \
             the operator's pod. Outside of a pod, write the output of `kubectl create token metrics-pipeline-operator \
             --audience metrics-core.metrics-pipeline.dev` into a file and set --report-token-file."
            .to_owned(),
        Some(ReportError::Forbidden) => {
            "Run `helm upgrade` with the chart of this version to grant the operator get on /report.".to_owned()
        }
        _ => format!(
            "Allow the operator to reach the pods on port {}.",
            evidence.spec.metrics_core.secure_port_or_default()
        ),
    }
}
