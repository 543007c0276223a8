//! The amount that one resource should change to, and when.

use std::cmp::Ordering;
use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;

/// The maximum wait for a growing cluster to become stable, in multiples of the scale-up delay.
const MAX_UP_DELAYS: i32 = 6;

/// The direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// The target of one resource over time.
#[derive(Clone, Debug, Default)]
pub(super) struct ScaleTarget {
    target: u64,
    direction: Option<Direction>,
    /// Since when the direction is the same.
    since: Timestamp,
    /// Since when the target is the same.
    unchanged: Timestamp,
    /// Targets on the way down and when each was last seen, the largest first.
    larger: VecDeque<(Timestamp, u64)>,
}

impl ScaleTarget {
    /// Returns the direction from the current amount to the target; `None` if they are equal.
    pub(super) const fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// Moves times in the future to now.
    pub(super) fn bound_times(&mut self, now: Timestamp) {
        let seen = self.larger.iter_mut().map(|(last, _)| last);
        for time in seen.chain([&mut self.since, &mut self.unchanged]) {
            *time = now.min(*time);
        }
    }

    /// Records a new target.
    pub(super) fn update(&mut self, current: u64, target: u64, now: Timestamp) {
        let direction = match target.cmp(&current) {
            Ordering::Equal => None,
            Ordering::Greater => Some(Direction::Up),
            Ordering::Less => Some(Direction::Down),
        };
        if direction != self.direction {
            *self = Self { target, direction, since: now, unchanged: now, larger: VecDeque::new() };
        } else if target != self.target {
            self.target = target;
            self.unchanged = now;
        }
        if direction == Some(Direction::Down) {
            while self.larger.back().is_some_and(|(_, other)| *other <= target) {
                self.larger.pop_back();
            }
            self.larger.push_back((now, target));
        }
    }

    /// Returns the amount to change to. On the way down that is the largest target within the scale-down delay.
    pub(super) fn amount(&mut self, policy: &Policy, now: Timestamp) -> u64 {
        if self.direction == Some(Direction::Down) {
            while self.larger.len() > 1
                && self
                    .larger
                    .front()
                    .is_some_and(|(last, _)| now.duration_since(*last) >= policy.scale_down_delay)
            {
                self.larger.pop_front();
            }
            return self.larger.front().map_or(self.target, |(_, target)| *target);
        }
        self.target
    }

    /// Returns when the change is due. `changed` is when the size last changed, `stable_since` since when the
    /// population is the same.
    pub(super) fn due(
        &self,
        policy: &Policy,
        changed: Option<Timestamp>,
        stable_since: Timestamp,
    ) -> Option<Timestamp> {
        let after =
            |from: Timestamp, delay: SignedDuration| from.saturating_add(delay).unwrap_or(Timestamp::MAX);
        let (due, delay) = match self.direction? {
            Direction::Up => {
                let delay = policy.scale_up_delay;
                let latest = after(self.since, delay.saturating_mul(MAX_UP_DELAYS));
                (after(self.unchanged.max(stable_since), delay).min(latest), delay)
            }
            // A target that keeps falling is applied after two delays.
            Direction::Down => {
                let delay = policy.scale_down_delay;
                (after(self.unchanged, delay).min(after(self.since, delay.saturating_mul(2))), delay)
            }
        };
        Some(changed.map_or(due, |changed| due.max(after(changed, delay))))
    }
}
