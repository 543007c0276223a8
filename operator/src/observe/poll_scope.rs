//! How much to poll in a round. Pure.

use std::time::Duration;

/// In a settled cluster everything that can't be watched is polled this often.
pub(crate) const FULL_POLL: Duration = Duration::from_secs(10);

/// Rounds follow each other at this interval while something changes.
pub(crate) const MIN_ROUND: Duration = Duration::from_secs(2);

/// The minimum time between two polls.
const MIN_POLL: Duration = Duration::from_secs(1);

/// How much to poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollScope {
    /// Nothing: the last results are fresh.
    Nothing,
    /// The replicas' reports.
    Replicas,
    /// Everything that can't be watched.
    Everything,
}

/// Returns how much to poll, given the time since the last poll of anything and of everything. Between two full polls
/// only the replicas are polled, as long as requests for metrics succeed: at thousands of nodes the rest costs more.
#[must_use]
pub(crate) fn poll_scope(last: Duration, full: Duration, has_changes: bool, succeeded: bool) -> PollScope {
    if last < MIN_POLL {
        PollScope::Nothing
    } else if !has_changes && succeeded && full + MIN_ROUND < FULL_POLL {
        PollScope::Replicas
    } else {
        PollScope::Everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_polled_at_most_once_a_second() {
        let second = Duration::from_secs(1);
        assert_eq!(poll_scope(second, second, true, true), PollScope::Everything);
        assert_eq!(poll_scope(second / 2, second / 2, true, true), PollScope::Nothing);
    }
}
