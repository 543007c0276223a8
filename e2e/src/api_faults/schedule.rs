//! Which faults are injected into which journey, and a random sample of them. Pure.

use std::collections::BTreeSet;

use super::fault::Fault;
use super::journey::Journey;
use super::run::Baseline;

/// Adds the faults of a journey. Kills are injected at every write of every journey; the others once for each verb and
/// resource, in the first journey that has such a request.
pub(super) fn faults(baseline: &Baseline, done: &mut BTreeSet<Fault>) -> Vec<Fault> {
    let count = baseline.writes.len();
    let mut faults = Vec::new();
    for number in 1..=count {
        faults.extend([Fault::KillBefore(number), Fault::KillAfter(number)]);
    }
    if count > 0 {
        faults.push(Fault::Pause(count.div_ceil(2)));
    }
    let mut once = Vec::new();
    for target in &baseline.requests {
        let statuses: &[u16] = if target.is_write() { &[409, 429, 500] } else { &[429, 500] };
        once.extend(statuses.iter().map(|status| Fault::Status(*status, target.clone())));
        once.push(Fault::Hang(target.clone()));
        if target.is_read() {
            once.push(Fault::StaleRead(target.clone()));
        }
        if target.verb == "watch" {
            once.push(Fault::DropEvent(target.resource.clone()));
        }
    }
    faults.extend(once.into_iter().filter(|fault| done.insert(fault.clone())));
    faults
}

/// Selects `count` of all runs at random; the same seed selects the same.
pub(super) fn sample(mut all: Vec<(Journey, Fault)>, count: usize, seed: u64) -> Vec<(Journey, Fault)> {
    let mut state = seed;
    while all.len() > count {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let size = u64::try_from(all.len()).unwrap_or(u64::MAX);
        all.swap_remove(usize::try_from(mixed % size).unwrap_or_default());
    }
    // By fault: the runs that may take long come last.
    all.sort_by(|(left_journey, left), (right_journey, right)| {
        (left, left_journey).cmp(&(right, right_journey))
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_faults::call::Call;
    use std::time::Duration;

    fn baseline() -> Baseline {
        let requests =
            ["GET", "PATCH"].map(|method| Call::of(method, "/api/v1/namespaces/a/secrets/s", "").target);
        let watch = Call::of("GET", "/api/v1/namespaces/a/secrets", "watch=true").target;
        Baseline {
            writes: vec!["patch secrets/s".to_owned(); 3],
            requests: requests.into_iter().chain([watch]).collect(),
            cas: 1,
            inventory: std::collections::BTreeMap::new(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn kills_at_every_write_of_every_journey_and_injects_the_rest_once() {
        let mut done = BTreeSet::new();
        let first = faults(&baseline(), &mut done);
        let second = faults(&baseline(), &mut done);
        let kills = |faults: &[Fault]| {
            faults.iter().filter(|one| matches!(one, Fault::KillBefore(_) | Fault::KillAfter(_))).count()
        };
        assert_eq!((kills(&first), kills(&second)), (6, 6));
        assert!(first.contains(&Fault::Pause(2)));
        // get: 429, 500, no response, stale; patch: 409, 429, 500, no response; watch: 429, 500, no response, lost event.
        assert_eq!((first.len(), second.len()), (6 + 1 + 12, 6 + 1));
    }

    #[test]
    fn the_same_seed_selects_the_same_sample() {
        let all: Vec<_> = (1..100).map(|number| (Journey::Install, Fault::KillBefore(number))).collect();
        let one = sample(all.clone(), 5, 7);
        assert_eq!((one.len(), &one), (5, &sample(all.clone(), 5, 7)));
        assert_ne!(one, sample(all.clone(), 5, 8));
        assert_eq!(sample(all, 500, 7).len(), 99);
    }
}
