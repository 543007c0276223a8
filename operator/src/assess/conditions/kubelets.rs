//! The kubelets answer metrics-core.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::{Diagnosis, Severity};
use crate::common::ManagedObject;
use crate::observe::Coverage;

/// So many nodes in a hundred may be without metrics before the pipeline as a whole is not `Ready`; one node
/// of several always may. Who is paged for the pipeline is not the one who looks after a machine.
const TOLERATED_PERCENT: usize = 10;

/// Whether what is missing is a matter of some nodes, not of the pipeline.
pub(super) fn is_partial(nodes: Coverage) -> bool {
    let missing = nodes.total.saturating_sub(nodes.covered);
    nodes.covered > 0 && missing <= (nodes.total * TOLERATED_PERCENT / 100).max(1)
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
                let message = format!("{} AccessReady says why metrics-core lacks it.", cause.what);
                Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message)
            } else {
                Condition::cause(of, cause)
            };
            if partial { condition.non_blocking() } else { condition }
        }
        (_, None) => {
            let waits =
                "The replicas of metrics-core tell once they run; DeploymentAvailable says what keeps them.";
            if evidence.observed.replicas.iter().any(|replica| replica.ready) {
                let message = format!(
                    "Whether kubelets answer is not known. {} See that the operator may reach the pods on port {} and that \
                     `helm upgrade` gave it the right to get /report.",
                    evidence.observed.why_no_report().unwrap_or_default(),
                    evidence.spec.metrics_core.secure_port
                );
                return Condition::new(of, ConditionStatus::Unknown, Reason::ReportUnavailable, message)
                    .non_blocking();
            }
            Condition::new(of, ConditionStatus::Unknown, Reason::WaitingForDependency, waits)
        }
        (Some(cause), Some(_)) => Condition::cause(of, cause),
        (None, Some(nodes)) if nodes.total > 0 && nodes.covered == 0 && nodes.failing == 0 => {
            let message = "The kubelets are being asked for the first time.";
            Condition::new(of, ConditionStatus::Unknown, Reason::Progressing, message)
        }
        (None, Some(_)) => {
            Condition::new(of, ConditionStatus::True, Reason::AsExpected, "The kubelets answer metrics-core.")
        }
    }
}
