//! The kubelets answer metrics-core.

use crds::{ConditionType, Reason};

use super::{Evidence, Holds, Verdict};
use crate::diagnosis::kubelets::{Coverage, coverage};
use crate::diagnosis::{Diagnosis, Weight};
use crate::owned::Owned;

/// So many nodes in a hundred may be without metrics before the pipeline as a whole is not `Ready`; one node
/// of several always may. Who is paged for the pipeline is not the one who looks after a machine.
const TOLERATED_PERCENT: usize = 10;

/// Whether what is missing is a matter of some nodes, not of the pipeline.
pub(super) fn is_partial(nodes: Coverage) -> bool {
    let missing = nodes.total.saturating_sub(nodes.covered);
    nodes.covered > 0 && missing <= (nodes.total * TOLERATED_PERCENT / 100).max(1)
}

pub(super) fn judge(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Verdict {
    let of = ConditionType::KubeletsReachable;
    let nodes = coverage(evidence.observed);
    match (&diagnosis.kubelets, nodes) {
        (Some(cause), Some(nodes)) if cause.weight == Weight::Fault => {
            let partial = is_partial(nodes) && nodes.failing < nodes.total;
            let access = [Owned::CollectorRole, Owned::CollectorBinding, Owned::ServiceAccount];
            let waits = cause.reason == Reason::KubeletForbidden && evidence.problem(&access).is_some();
            let verdict = if waits {
                let message = format!("{} AccessReady says why metrics-core lacks it.", cause.what);
                Verdict::new(of, Holds::False, Reason::WaitingForDependency, message)
            } else {
                Verdict::cause(of, cause)
            };
            if partial { verdict.remark() } else { verdict }
        }
        (_, None) => {
            let waits =
                "The replicas of metrics-core tell once they run; DeploymentAvailable says what keeps them.";
            if evidence.observed.replicas.iter().any(|replica| replica.ready) {
                let message = format!(
                    "Whether kubelets answer is not known. {} See that the operator may reach the pods on port {} and that \
                     `helm upgrade` gave it the right to get /report.",
                    evidence.observed.why_no_report().unwrap_or_default(),
                    evidence.spec.metrics_core.secure_port_or_default()
                );
                return Verdict::new(of, Holds::Unknown, Reason::ReportUnavailable, message).remark();
            }
            Verdict::new(of, Holds::Unknown, Reason::WaitingForDependency, waits)
        }
        (Some(cause), Some(_)) => Verdict::cause(of, cause),
        (None, Some(nodes)) if nodes.total > 0 && nodes.covered == 0 && nodes.failing == 0 => {
            let message = "The kubelets are being asked for the first time.";
            Verdict::new(of, Holds::Unknown, Reason::Progressing, message)
        }
        (None, Some(_)) => {
            Verdict::new(of, Holds::True, Reason::AsExpected, "The kubelets answer metrics-core.")
        }
    }
}
