//! When each pending request is checked. Every request gets its turn, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The delays after which a request is checked again, as a new Node gets its addresses a moment after its request.
const MIN_DELAY: Duration = Duration::from_secs(5);
const MAX_DELAY: Duration = Duration::from_secs(300);

/// The next check of each request, by UID.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    checks: BTreeMap<String, Check>,
}

/// When a request was checked. It is the same before its first check.
#[derive(Clone, Copy, Debug)]
struct Check {
    due: Instant,
    delay: Option<Duration>,
}

impl Schedule {
    /// Returns the requests to check now, at most `limit`: in turn one that was never checked and one that was. So neither a
    /// flood of new requests nor many old ones keep the others waiting. Forgets requests that are not pending any more.
    pub(super) fn take<'a>(&mut self, pending: &[&'a str], limit: usize, now: Instant) -> BTreeSet<&'a str> {
        let known: BTreeSet<&str> = pending.iter().copied().collect();
        self.checks.retain(|uid, _| known.contains(uid.as_str()));
        for uid in pending {
            self.checks.entry((*uid).to_owned()).or_insert(Check { due: now, delay: None });
        }
        let mut due: Vec<(&'a str, Check)> =
            pending.iter().filter_map(|uid| Some((*uid, *self.checks.get(*uid)?))).collect();
        due.retain(|(_, check)| check.due <= now);
        due.sort_by_key(|(_, check)| check.due);
        let (mut new, mut old): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, check)| check.delay.is_none());
        // The first of each is taken from the end.
        new.reverse();
        old.reverse();
        let mut taken = BTreeSet::new();
        while taken.len() < limit
            && let Some((uid, check)) = new.pop().or_else(|| old.pop())
        {
            self.checked(uid, check, now);
            taken.insert(uid);
            if taken.len() < limit
                && let Some((uid, check)) = old.pop()
            {
                self.checked(uid, check, now);
                taken.insert(uid);
            }
        }
        taken
    }

    fn checked(&mut self, uid: &str, check: Check, now: Instant) {
        let delay = check.delay.map_or(MIN_DELAY, |delay| (delay * 2).min(MAX_DELAY));
        self.checks.insert(uid.to_owned(), Check { due: now + delay, delay: Some(delay) });
    }

    /// Has requests checked again soon, as their check failed.
    pub(super) fn retry_soon<'a>(&mut self, uids: impl Iterator<Item = &'a str>, now: Instant) {
        for uid in uids {
            let check = Check { due: now + MIN_DELAY, delay: Some(MIN_DELAY) };
            self.checks.insert(uid.to_owned(), check);
        }
    }

    /// Returns the time until the next check; `None` if none is pending.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.checks.values().map(|check| check.due.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_a_request_at_once_and_then_with_growing_delays() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let mut checks = Vec::new();
        for second in 0..1000 {
            if !schedule.take(&["a"], 10, start + Duration::from_secs(second)).is_empty() {
                checks.push(second);
            }
        }
        assert_eq!(checks, [0, 5, 15, 35, 75, 155, 315, 615, 915]);
        assert_eq!(schedule.next(start + Duration::from_secs(920)), Some(Duration::from_secs(295)));
        assert!(schedule.take(&[], 10, start).is_empty());
        assert_eq!(schedule.next(start), None);
    }

    #[test]
    fn every_request_gets_its_turn() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let old: Vec<String> = (0..1000).map(|at| format!("old-{at}")).collect();
        let mut checked = BTreeSet::new();
        for round in 0..40 {
            // In every round, ten new requests arrive beside a thousand that can't be approved.
            let new: Vec<String> = (0..10).map(|at| format!("new-{round}-{at}")).collect();
            let pending: Vec<&str> = old.iter().chain(&new).map(String::as_str).collect();
            let taken = schedule.take(&pending, 100, start + Duration::from_secs(6 * round));
            assert!(taken.len() <= 100, "{}", taken.len());
            checked.extend(taken.into_iter().map(str::to_owned));
        }
        assert!(old.iter().all(|uid| checked.contains(uid)), "each old one");
        // A flood of new ones does not keep an old one from its next check.
        let flood: Vec<String> = (0..10_000).map(|at| format!("flood-{at}")).collect();
        let pending: Vec<&str> = flood.iter().map(String::as_str).chain(["old-1"]).collect();
        let later = start + Duration::from_secs(10_000);
        assert!(schedule.take(&pending, 100, later).contains("old-1"));
    }
}
