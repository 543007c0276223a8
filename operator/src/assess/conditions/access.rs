//! `AccessReady`: metrics-core has its permissions, and the operator has the optional permissions that the spec needs.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::common::ManagedObject;

pub(super) fn evaluate(evidence: Evidence<'_>) -> Condition {
    let of = ConditionType::AccessReady;
    if let Some(problem) = evidence.problem(&ManagedObject::ACCESS) {
        return Condition::problem(of, problem);
    }
    if let Some(problem) = &evidence.plan.csr_approval {
        return Condition::problem(of, problem);
    }
    // A warning: the objects in the previous namespace serve no requests.
    if let Some(problem) = evidence.plan.migration.as_ref().and_then(|migration| migration.problem.as_ref()) {
        return Condition::new(of, ConditionStatus::True, problem.reason, problem.message.clone());
    }
    Condition::new(
        of,
        ConditionStatus::True,
        Reason::AsExpected,
        "The ServiceAccount of metrics-core is bound to every role that it needs.",
    )
}
