//! When the next round starts. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::apply::Applied;
use crate::observe::{FULL_POLL, MIN_ROUND};
use crate::plan::MaintainPlan;

/// The pause when no MetricsPipeline is active.
pub(super) const IDLE: Duration = FULL_POLL;

/// The pause while everything works. With a scrape every 15 s, a fault of a kubelet is reported within 30 s.
const HEALTHY: Duration = Duration::from_secs(5);

/// The pause while something is wrong, as it may be fixed at any time.
const UNHEALTHY: Duration = Duration::from_secs(3);

/// The pause while something is changing.
pub(super) const PROGRESSING: Duration = MIN_ROUND;

/// The pause while an old CA waits for the proof that no replica needs it.
const PROOF: Duration = Duration::from_secs(1);

/// After this time without a change the current state counts as lasting.
const LASTING: Duration = Duration::from_secs(120);

/// The state of the active MetricsPipeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// Whether it is Ready.
    pub ready: bool,
    /// Whether nothing at all is wrong.
    pub healthy: bool,
    /// Whether the last request for metrics failed, and the next one decides.
    pub in_doubt: bool,
    /// The time since the last change.
    pub unchanged: Duration,
}

/// Returns the pause before the next round.
pub(super) fn pause(state: State) -> Duration {
    let settled = state.ready || state.unchanged > LASTING;
    if !settled || state.in_doubt {
        PROGRESSING
    } else if state.healthy {
        HEALTHY
    } else {
        UNHEALTHY
    }
}

/// Returns the time until the plan itself requires the next round: the next step of a certificate, the proof of a new CA,
/// the retry of an approval, the nanny.
pub(super) fn until_due(
    plan: &MaintainPlan,
    applied: &Applied,
    nanny_due: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let certificates = [
        plan.certificates.as_ref().map(|plan| plan.next),
        plan.front_proxy.as_ref().map(|plan| plan.next_step),
    ];
    // In whole seconds and at least one: a step is due at a second, and is seen after it.
    let certificates = certificates.into_iter().flatten().min().map(|next| {
        let until = next.duration_since(now).as_secs().saturating_add(1);
        Duration::from_secs(u64::try_from(until).unwrap_or(1).max(1))
    });
    let proof = plan.expected_certificate.is_some().then_some(PROOF);
    let nanny = nanny_due.map(|due| {
        let until = due.duration_since(now).max(SignedDuration::from_millis(100));
        Duration::try_from(until).unwrap_or(Duration::MAX)
    });
    [certificates, proof, applied.csrs.retry_after, nanny]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{PollScope, poll_scope};

    const HEALTHY: State = State { ready: true, healthy: true, in_doubt: false, unchanged: Duration::ZERO };

    /// Returns how often the replicas and how often everything is polled in a minute without changes.
    fn polls_per_minute(state: State, succeeded: bool) -> (usize, usize) {
        let (mut now, mut last_full) = (Duration::ZERO, Duration::ZERO);
        let (mut replicas, mut full) = (0, 0);
        while now < Duration::from_secs(60) {
            let pause = pause(state);
            now += pause;
            match poll_scope(pause, now.saturating_sub(last_full), false, succeeded) {
                PollScope::Nothing => {}
                PollScope::Replicas => replicas += 1,
                PollScope::Everything => (last_full, full) = (now, full + 1),
            }
        }
        (replicas, full)
    }

    #[test]
    fn polls_everything_every_10_s_and_the_replicas_more_often() {
        assert_eq!(polls_per_minute(HEALTHY, true), (6, 6));
        let unhealthy = State { healthy: false, ..HEALTHY };
        assert_eq!(polls_per_minute(unhealthy, true), (14, 6));
        let lasting = State { ready: false, unchanged: Duration::from_secs(3600), ..unhealthy };
        assert_eq!(polls_per_minute(lasting, false), (0, 20));
        assert_eq!(polls_per_minute(State { in_doubt: true, ..HEALTHY }, false), (0, 30));
        assert_eq!(polls_per_minute(State { ready: false, ..unhealthy }, false), (0, 30), "progressing");
    }
}
