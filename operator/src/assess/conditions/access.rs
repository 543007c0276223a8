//! metrics-core has the rights that it needs, and the operator those that it was asked to use for it.

use crds::{ConditionType, Reason};

use super::{Evidence, Holds, Verdict};
use crate::common::Owned;

pub(super) fn judge(evidence: Evidence<'_>) -> Verdict {
    let of = ConditionType::AccessReady;
    if let Some(problem) = evidence.problem(&Owned::ACCESS) {
        return Verdict::problem(of, problem);
    }
    if let Some(problem) = &evidence.plan.csr_approval {
        return Verdict::problem(of, problem);
    }
    Verdict::new(
        of,
        Holds::True,
        Reason::AsExpected,
        "The service account of metrics-core is bound to the roles that it needs.",
    )
}
