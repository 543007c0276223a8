//! The sum of all others.

use crds::{ConditionType, Reason};

use super::{Holds, Verdict};

/// Puts `Ready` before the others: the first that does not hold explains it, as each depends on those before.
#[must_use]
pub fn sum_up(verdicts: Vec<Verdict>) -> Vec<Verdict> {
    // The size says nothing about whether metrics are served.
    let decides = |verdict: &&Verdict| verdict.condition != ConditionType::Sized;
    let first = |holds: Holds| verdicts.iter().filter(decides).find(|verdict| verdict.holds == holds);
    // What is known to be wrong explains more than what is not known yet, but for what merely waits for it.
    let cause = verdicts
        .iter()
        .filter(decides)
        .find(|verdict| verdict.holds == Holds::False && verdict.reason != Reason::WaitingForDependency)
        .or_else(|| first(Holds::False))
        .or_else(|| first(Holds::Unknown));
    let passes = |verdict: &Verdict| {
        let passing = matches!(verdict.reason, Reason::Progressing | Reason::PopulationUnknown);
        verdict.condition == ConditionType::Sized && passing
    };
    let remark = || verdicts.iter().find(|verdict| verdict.reason != Reason::AsExpected && !passes(verdict));
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
        let remark = verdict(DeploymentAvailable, Holds::True, Reason::ImagePullFailed);
        assert_eq!(ready(std::slice::from_ref(&good)), (Holds::True, Reason::AsExpected));
        assert_eq!(ready(&[good.clone(), waiting, foreign]), (Holds::False, Reason::ForeignAPIService));
        assert_eq!(ready(&[good, remark]), (Holds::True, Reason::ImagePullFailed));
    }
}
