//! `Reconciling`: the current generation is not rolled out yet. True is abnormal (kstatus).

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus};

/// `rollout` is the generation that is being rolled out. A pipeline that is stalled makes no progress: kstatus reads
/// `Reconciling` before `Stalled`.
pub(super) fn evaluate(
    ready: &Condition,
    generation: i64,
    rollout: Option<i64>,
    is_stalled: bool,
) -> Condition {
    let of = ConditionType::Reconciling;
    match rollout {
        None => Condition::new(
            of,
            ConditionStatus::False,
            Reason::AsExpected,
            format!("Generation {generation} is rolled out."),
        ),
        Some(generation) if is_stalled => Condition::new(
            of,
            ConditionStatus::False,
            ready.reason,
            format!("Generation {generation} is not rolled out. See Stalled for the cause."),
        ),
        // The message of Ready names the generation unless it names a cause.
        Some(_) => Condition::new(of, ConditionStatus::True, Reason::Progressing, ready.message.clone()),
    }
}
