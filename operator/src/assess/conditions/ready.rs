//! `Ready`: the summary of the pipeline's conditions.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus};

/// The first condition of the pipeline that is not met explains `Ready`, because each condition depends on those before it.
/// `rollout` is the generation that is being rolled out.
#[must_use]
pub(super) fn evaluate(conditions: &[Condition], rollout: Option<i64>) -> Condition {
    let blocking = || conditions.iter().filter(|condition| !condition.non_blocking);
    let first = |status: ConditionStatus| blocking().find(|condition| condition.status == status);
    let of = |status: ConditionStatus, of: &Condition| {
        Condition::new(ConditionType::Ready, status, of.reason, format!("{}: {}", of.kind, of.message))
    };
    // A known fault explains more than an unknown status, unless the fault only waits for a dependency.
    let fault = blocking().find(|condition| {
        condition.status == ConditionStatus::False && condition.reason != Reason::WaitingForDependency
    });
    let waiting = || first(ConditionStatus::False).or_else(|| first(ConditionStatus::Unknown));
    match (fault, rollout) {
        (Some(fault), None) => of(ConditionStatus::False, fault),
        (Some(fault), Some(_)) if fault.needs_help() => of(ConditionStatus::False, fault),
        (fault, Some(generation)) => match conditions.iter().find(|condition| fails_rollout(condition)) {
            Some(failed) => of(ConditionStatus::False, failed),
            None => progressing(generation, fault.or_else(waiting)),
        },
        (None, None) => match waiting() {
            Some(waiting) => of(ConditionStatus::False, waiting),
            None => met(conditions),
        },
    }
}

/// Whether the rollout fails although the previous replicas still serve metrics.
fn fails_rollout(condition: &Condition) -> bool {
    condition.kind == ConditionType::DeploymentAvailable
        && condition.status == ConditionStatus::True
        && !matches!(condition.reason, Reason::AsExpected | Reason::Progressing)
}

fn progressing(generation: i64, waiting: Option<&Condition>) -> Condition {
    let message = match waiting {
        Some(condition) => {
            format!("Generation {generation} is being rolled out. {}: {}", condition.kind, condition.message)
        }
        None => format!("Generation {generation} is being rolled out."),
    };
    Condition::new(ConditionType::Ready, ConditionStatus::False, Reason::Progressing, message)
}

/// Returns the condition when everything that blocks `Ready` is met.
fn met(conditions: &[Condition]) -> Condition {
    // A resize, a rollout for it or the renewal of a certificate is no reason for a warning.
    let is_progress = |condition: &Condition| {
        condition.reason == Reason::ClusterSizeUnknown
            || (condition.status == ConditionStatus::True && condition.reason == Reason::Progressing)
    };
    let warnings = || {
        conditions
            .iter()
            .filter(|condition| condition.reason != Reason::AsExpected && !is_progress(condition))
    };
    let warning = warnings()
        .find(|condition| condition.reason != Reason::WaitingForDependency)
        .or_else(|| warnings().next());
    let (reason, message) = match warning {
        Some(warning) => (warning.reason, format!("{}: {}", warning.kind, warning.message)),
        None => (Reason::AsExpected, conditions.last().map(|last| last.message.clone()).unwrap_or_default()),
    };
    Condition::new(ConditionType::Ready, ConditionStatus::True, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConditionType::{
        APIServiceAvailable, AccessReady, CertificatesReady, DeploymentAvailable, MetricsServed,
    };

    fn condition(kind: ConditionType, status: ConditionStatus, reason: Reason) -> Condition {
        Condition::new(kind, status, reason, "m")
    }

    fn ready(conditions: &[Condition], rollout: Option<i64>) -> (ConditionStatus, Reason) {
        let ready = evaluate(conditions, rollout);
        (ready.status, ready.reason)
    }

    #[test]
    fn reports_the_first_blocking_cause_or_else_a_warning() {
        let good = condition(AccessReady, ConditionStatus::True, Reason::AsExpected);
        let waiting = condition(DeploymentAvailable, ConditionStatus::False, Reason::WaitingForDependency);
        let foreign = condition(APIServiceAvailable, ConditionStatus::False, Reason::ForeignAPIService);
        let warning = condition(DeploymentAvailable, ConditionStatus::True, Reason::ImagePullBackOff);
        let all = [good.clone(), waiting.clone(), foreign];
        for rollout in [None, Some(2)] {
            assert_eq!(ready(&all, rollout), (ConditionStatus::False, Reason::ForeignAPIService));
        }
        assert_eq!(ready(std::slice::from_ref(&good), None), (ConditionStatus::True, Reason::AsExpected));
        assert_eq!(
            ready(&[good.clone(), waiting], None),
            (ConditionStatus::False, Reason::WaitingForDependency)
        );
        assert_eq!(ready(&[good.clone(), warning], None), (ConditionStatus::True, Reason::ImagePullBackOff));
        let refused = Reason::KubeletConnectionRefused;
        let one_node =
            condition(ConditionType::KubeletsReachable, ConditionStatus::False, refused).non_blocking();
        assert_eq!(ready(&[good, one_node], None), (ConditionStatus::True, Reason::KubeletConnectionRefused));
    }

    #[test]
    fn is_false_with_reason_progressing_until_a_generation_is_rolled_out() {
        let progressing = (ConditionStatus::False, Reason::Progressing);
        let good = condition(AccessReady, ConditionStatus::True, Reason::AsExpected);
        let rolling = condition(DeploymentAvailable, ConditionStatus::True, Reason::Progressing);
        let creating = condition(DeploymentAvailable, ConditionStatus::False, Reason::Progressing);
        let waiting = condition(MetricsServed, ConditionStatus::Unknown, Reason::WaitingForDependency);
        assert_eq!(ready(std::slice::from_ref(&good), Some(2)), progressing);
        assert_eq!(ready(&[good.clone(), rolling.clone()], Some(2)), progressing);
        assert_eq!(ready(&[good.clone(), creating], Some(2)), progressing);
        assert_eq!(ready(&[good.clone(), waiting], Some(2)), progressing);
        assert!(evaluate(std::slice::from_ref(&good), Some(2)).message.contains("Generation 2"));
        // The same after the generation was rolled out: a rollout for a resize.
        assert_eq!(ready(&[good, rolling], None), (ConditionStatus::True, Reason::AsExpected));
    }

    #[test]
    fn is_false_while_the_rollout_of_a_generation_fails_and_previous_replicas_serve() {
        let good = condition(AccessReady, ConditionStatus::True, Reason::AsExpected);
        let failing = condition(DeploymentAvailable, ConditionStatus::True, Reason::ImagePullBackOff);
        let all = [good, failing];
        assert_eq!(ready(&all, Some(2)), (ConditionStatus::False, Reason::ImagePullBackOff));
        assert!(evaluate(&all, Some(2)).needs_help());
        // A rollout for a resize that fails is a warning.
        assert_eq!(ready(&all, None), (ConditionStatus::True, Reason::ImagePullBackOff));
    }

    #[test]
    fn the_renewal_of_a_certificate_changes_nothing() {
        let renewing = condition(CertificatesReady, ConditionStatus::True, Reason::Progressing);
        let good = condition(MetricsServed, ConditionStatus::True, Reason::AsExpected);
        assert_eq!(ready(&[renewing, good], None), (ConditionStatus::True, Reason::AsExpected));
    }
}
