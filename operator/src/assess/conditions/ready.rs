//! `Ready`: the summary of all other conditions.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus};

/// Puts `Ready` before the other conditions. The first condition that is not met explains it, because each condition
/// depends on those before it.
#[must_use]
pub(crate) fn sum_up(conditions: Vec<Condition>) -> Vec<Condition> {
    let blocking = || conditions.iter().filter(|condition| !condition.non_blocking);
    let first = |status: ConditionStatus| blocking().find(|condition| condition.status == status);
    // A known fault explains more than an unknown status, unless the fault only waits for a dependency.
    let cause = blocking()
        .find(|condition| {
            condition.status == ConditionStatus::False && condition.reason != Reason::WaitingForDependency
        })
        .or_else(|| first(ConditionStatus::False))
        .or_else(|| first(ConditionStatus::Unknown));
    // A resize in progress is no reason for a warning.
    let is_transient = |condition: &Condition| {
        let transient = matches!(condition.reason, Reason::Progressing | Reason::ClusterSizeUnknown);
        condition.kind == ConditionType::Sized && transient
    };
    let warning = || {
        let others = || {
            conditions
                .iter()
                .filter(|condition| condition.reason != Reason::AsExpected && !is_transient(condition))
        };
        others()
            .find(|condition| condition.reason != Reason::WaitingForDependency)
            .or_else(|| others().next())
    };
    let (status, reason, message) = match (cause, warning()) {
        (Some(cause), _) => {
            (ConditionStatus::False, cause.reason, format!("{}: {}", cause.kind, cause.message))
        }
        (None, Some(warning)) => {
            (ConditionStatus::True, warning.reason, format!("{}: {}", warning.kind, warning.message))
        }
        (None, None) => {
            let message = conditions.last().map(|last| last.message.clone()).unwrap_or_default();
            (ConditionStatus::True, Reason::AsExpected, message)
        }
    };
    let mut all = vec![Condition::new(ConditionType::Ready, status, reason, message)];
    all.extend(conditions);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: ConditionType, status: ConditionStatus, reason: Reason) -> Condition {
        Condition::new(kind, status, reason, "m")
    }

    #[test]
    fn reports_the_first_blocking_cause_or_else_a_warning() {
        use ConditionType::{APIServiceAvailable, AccessReady, DeploymentAvailable};
        let ready = |conditions: &[Condition]| {
            let first = sum_up(conditions.to_vec()).swap_remove(0);
            (first.status, first.reason)
        };
        let good = condition(AccessReady, ConditionStatus::True, Reason::AsExpected);
        let waiting = condition(DeploymentAvailable, ConditionStatus::False, Reason::WaitingForDependency);
        let foreign = condition(APIServiceAvailable, ConditionStatus::False, Reason::ForeignAPIService);
        let warning = condition(DeploymentAvailable, ConditionStatus::True, Reason::ImagePullBackOff);
        assert_eq!(ready(std::slice::from_ref(&good)), (ConditionStatus::True, Reason::AsExpected));
        assert_eq!(
            ready(&[good.clone(), waiting, foreign]),
            (ConditionStatus::False, Reason::ForeignAPIService)
        );
        assert_eq!(ready(&[good.clone(), warning]), (ConditionStatus::True, Reason::ImagePullBackOff));
        let refused = Reason::KubeletConnectionRefused;
        let one_node =
            condition(ConditionType::KubeletsReachable, ConditionStatus::False, refused).non_blocking();
        assert_eq!(ready(&[good, one_node]), (ConditionStatus::True, Reason::KubeletConnectionRefused));
    }
}
