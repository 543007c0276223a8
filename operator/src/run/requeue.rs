//! When to look again, and at how much. Pure.

use std::time::Duration;

/// When all is well, metrics are asked for this often.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// When all is well, the replicas are asked what they see this often: with a scrape every 15 s, what befalls a kubelet
/// is told within 30 s.
const WATCHFUL: Duration = Duration::from_secs(5);

/// The same while something is wrong, as it may be mended at any time.
const WRONG: Duration = Duration::from_secs(3);

/// While something is on its way.
pub(super) const UNSETTLED: Duration = Duration::from_secs(2);

/// Something is on its way for this long after the last change; then it is a state.
const ON_ITS_WAY: Duration = Duration::from_secs(120);

/// What no watch tells is looked at with this distance at least.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How the pipeline is.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// Whether it is Ready.
    pub ready: bool,
    /// Whether nothing at all is wrong.
    pub well: bool,
    /// Whether the last request failed, and the next one decides.
    pub in_doubt: bool,
    /// How long ago something last changed.
    pub unchanged: Duration,
}

/// When to come again.
pub(super) fn pause(state: State) -> Duration {
    let settled = state.ready || state.unchanged > ON_ITS_WAY;
    if !settled || state.in_doubt {
        UNSETTLED
    } else if state.well {
        WATCHFUL
    } else {
        WRONG
    }
}

/// At how much to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glance {
    /// What was seen is fresh.
    Nothing,
    /// At what the replicas say.
    Replicas,
    /// At all that no watch tells.
    Whole,
}

/// Between two whole looks the replicas are asked alone, as long as requests get through: at thousands of nodes the
/// rest costs more. `last` and `whole` are how long ago anything and all of it was looked at.
pub(super) fn glance(last: Duration, whole: Duration, is_news: bool, gets_through: bool) -> Glance {
    if last < LOOK_AROUND {
        Glance::Nothing
    } else if !is_news && gets_through && whole + UNSETTLED < SETTLED {
        Glance::Replicas
    } else {
        Glance::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: State = State { ready: true, well: true, in_doubt: false, unchanged: Duration::ZERO };

    /// What is looked at in a minute, without news.
    fn minute(state: State, gets_through: bool) -> (usize, usize) {
        let (mut now, mut whole) = (Duration::ZERO, Duration::ZERO);
        let (mut replicas, mut wholes) = (0, 0);
        while now < Duration::from_secs(60) {
            let pause = pause(state);
            now += pause;
            match glance(pause, now.saturating_sub(whole), false, gets_through) {
                Glance::Nothing => {}
                Glance::Replicas => replicas += 1,
                Glance::Whole => (whole, wholes) = (now, wholes + 1),
            }
        }
        (replicas, wholes)
    }

    #[test]
    fn all_is_looked_at_every_10_s_and_the_replicas_more_often() {
        assert_eq!(minute(WELL, true), (6, 6));
        let wrong = State { well: false, ..WELL };
        assert_eq!(minute(wrong, true), (14, 6));
        assert_eq!(
            minute(State { ready: false, unchanged: Duration::from_secs(3600), ..wrong }, false),
            (0, 20)
        );
        assert_eq!(minute(State { in_doubt: true, ..WELL }, false), (0, 30));
        assert_eq!(minute(State { ready: false, ..wrong }, false), (0, 30), "on its way");
    }

    #[test]
    fn news_are_looked_into_but_not_more_than_once_a_second() {
        let second = Duration::from_secs(1);
        assert_eq!(glance(second, second, true, true), Glance::Whole);
        assert_eq!(glance(second / 2, second / 2, true, true), Glance::Nothing);
    }
}
