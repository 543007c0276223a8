//! The sum of all others.

use crds::{ConditionType, Reason};

use super::{Holds, Verdict};

/// Puts `Ready` before the others: the first that does not hold explains it, as each depends on those before.
#[must_use]
pub fn sum_up(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    let weighty = || verdicts.iter().filter(|verdict| !verdict.is_remark);
    let first = |holds: Holds| weighty().find(|verdict| verdict.holds == holds);
    // What is known to be wrong explains more than what is not known yet, but for what merely waits for it.
    let cause = weighty()
        .find(|verdict| verdict.holds == Holds::False && verdict.reason != Reason::WaitingForDependency)
        .or_else(|| first(Holds::False))
        .or_else(|| first(Holds::Unknown));
    // A size that is on its way is not worth a mention.
    let passes = |verdict: &Verdict| {
        let passing = matches!(verdict.reason, Reason::Progressing | Reason::ClusterSizeUnknown);
        verdict.condition == ConditionType::Sized && passing
    };
    let remark = || {
        let others =
            || verdicts.iter().filter(|verdict| verdict.reason != Reason::AsExpected && !passes(verdict));
        others().find(|verdict| verdict.reason != Reason::WaitingForDependency).or_else(|| others().next())
    };
    let ready = match (cause, remark()) {
        (Some(cause), _) => (Holds::False, cause.reason, format!("{}: {}", cause.condition, cause.message)),
        (None, Some(remark)) => {
            (Holds::True, remark.reason, format!("{}: {}", remark.condition, remark.message))
        }
        (None, None) => {
            let message = verdicts.last().map(|last| last.message.clone()).unwrap_or_default();
            (Holds::True, Reason::AsExpected, message)
        }
    };
    let (holds, reason, message) = ready;
    let mut all = vec![Verdict::new(ConditionType::Ready, holds, reason, message)];
    all.extend(verdicts);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(condition: ConditionType, holds: Holds, reason: Reason) -> Verdict {
        Verdict::new(condition, holds, reason, "m")
    }

    #[test]
    fn the_first_cause_explains_it() {
        use ConditionType::{APIServiceAvailable, AccessReady, DeploymentAvailable};
        let ready = |verdicts: &[Verdict]| {
            let first = sum_up(verdicts.to_vec()).swap_remove(0);
            (first.holds, first.reason)
        };
        let good = verdict(AccessReady, Holds::True, Reason::AsExpected);
        let waiting = verdict(DeploymentAvailable, Holds::False, Reason::WaitingForDependency);
        let foreign = verdict(APIServiceAvailable, Holds::False, Reason::ForeignAPIService);
        let remark = verdict(DeploymentAvailable, Holds::True, Reason::ImagePullBackOff);
        assert_eq!(ready(std::slice::from_ref(&good)), (Holds::True, Reason::AsExpected));
        assert_eq!(ready(&[good.clone(), waiting, foreign]), (Holds::False, Reason::ForeignAPIService));
        assert_eq!(ready(&[good.clone(), remark]), (Holds::True, Reason::ImagePullBackOff));
        let one_node =
            verdict(ConditionType::KubeletsReachable, Holds::False, Reason::KubeletConnectionRefused).remark();
        assert_eq!(ready(&[good, one_node]), (Holds::True, Reason::KubeletConnectionRefused));
    }
}
