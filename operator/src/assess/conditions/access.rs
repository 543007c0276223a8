//! metrics-core has the rights that it needs, and the operator those that it was asked to use for it.

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
    Condition::new(
        of,
        ConditionStatus::True,
        Reason::AsExpected,
        "The service account of metrics-core is bound to the roles that it needs.",
    )
}
