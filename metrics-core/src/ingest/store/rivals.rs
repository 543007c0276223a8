//! Follows one of several series that claim to be the same container.
//!
//! A kubelet may report a container twice, with the live cgroup and one left behind by an earlier instance, in any
//! order, or one of them now and the other one then. A rate across two of them is nonsense. So while there is more
//! than one series, each is continued for itself. The series that moves while no other does is the live one.
//! Otherwise the container has no usage.

use super::rate::{MIN_WINDOW_NS, Measured, Point, Rules, Step};

/// The maximum number of series per container.
pub(super) const MAX_SERIES: usize = 4;

/// The series that claim to be one container or node. There are at least two, but for those that have not been
/// reported for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rivals {
    /// The index of the container in its layout.
    pub(super) at: u32,
    /// The series; those of the last body first.
    series: [Measured; MAX_SERIES],
    count: usize,
    /// How many of them the last body reported.
    reported: usize,
    /// The index of the live series, if known.
    followed: Option<usize>,
}

/// The state of a container after a body.
pub(super) struct Followed {
    /// The state of the live series. There is no rate if it is not known.
    pub(super) measured: Measured,
    /// The series, while there are several.
    pub(super) rivals: Option<Rivals>,
    /// Whether the only point would be more CPU time than the node can spend.
    pub(super) is_implausible: bool,
}

impl Rivals {
    /// Returns the rivals after a body with `new` instead of a sample that continues `old`.
    pub(super) fn of_break(at: u32, old: &Measured, new: Measured) -> Self {
        let mut series = [Measured::default(); MAX_SERIES];
        (series[0], series[1]) = (new, *old);
        Self { at, series, count: 2, reported: 1, followed: None }
    }

    /// Returns the series of a container that had only one before.
    pub(super) fn of_one(at: u32, only: &Measured) -> Self {
        let mut series = [Measured::default(); MAX_SERIES];
        series[0] = *only;
        let count = usize::from(only.has_sample());
        Self { at, series, count, reported: count, followed: None }
    }

    /// Returns the same for another index in the layout.
    pub(super) fn moved_to(&self, at: u32) -> Self {
        Self { at, ..*self }
    }

    fn known(&self) -> &[Measured] {
        &self.series[..self.count]
    }

    /// Returns the state after a body with these complete, different points; at most [`MAX_SERIES`].
    pub(super) fn advance(&self, points: &[Point], rules: &Rules) -> Followed {
        let matches = self.match_points(points, rules);
        let mut next = Self { count: 0, followed: None, ..*self };
        let (mut moving, mut unknown) = (0, 0);
        for (point, known) in points.iter().zip(matches) {
            let old = known.map_or_else(Measured::default, |known| self.series[known]);
            let (measured, _) = old.advance(point, rules);
            let has_moved =
                known.is_some() && measured.timestamp_ns > old.timestamp_ns && measured.cpu_ns > old.cpu_ns;
            unknown += usize::from(known.is_none());
            moving += usize::from(has_moved);
            if has_moved || (moving == 0 && known.is_some() && known == self.followed) {
                next.followed = Some(next.count);
            }
            next.push(measured);
        }
        if moving > 1 || (moving == 0 && unknown > 0) {
            next.followed = None;
        }
        let is_implausible = points.len() == 1
            && matches[0].is_none()
            && self.known().iter().any(|known| known.advance(&points[0], rules).1 == Step::Implausible);
        next.reported = next.count;
        for (known, measured) in self.known().iter().enumerate() {
            if !matches.contains(&Some(known)) && rules.remembers(measured) {
                next.push(*measured);
            }
        }
        if next.count == 1 && next.reported == 1 {
            return Followed { measured: next.series[0], rivals: None, is_implausible };
        }
        let measured = match next.followed {
            Some(followed) => next.series[followed],
            None => next.series[0].without_rate(),
        };
        Followed { measured, rivals: Some(next), is_implausible }
    }

    /// Adds a series if there is room.
    fn push(&mut self, measured: Measured) {
        if let Some(place) = self.series.get_mut(self.count) {
            *place = measured;
            self.count += 1;
        }
    }

    /// Returns which known series each point continues.
    fn match_points(&self, points: &[Point], rules: &Rules) -> [Option<usize>; MAX_SERIES] {
        let mut matches = [None; MAX_SERIES];
        let known = self.known();
        // A repeated sample, then a counter that stands still: no other series has the same value to the nanosecond.
        for same_time in [true, false] {
            for (at, point) in points.iter().enumerate().filter(|(at, _)| *at < MAX_SERIES) {
                let same = |measured: &Measured| {
                    measured.cpu_ns == point.cpu_ns
                        && (measured.timestamp_ns == point.timestamp_ns
                            || (!same_time && measured.timestamp_ns < point.timestamp_ns))
                };
                let free = |known: &usize| !matches.contains(&Some(*known));
                if matches[at].is_none() {
                    matches[at] = (0..known.len()).filter(free).find(|index| same(&known[*index]));
                }
            }
        }
        // Then from the highest counter down, each the next lower series: series that all move keep their order. A
        // series that the last body reported comes before one that it did not, and of those the one sampled last.
        let mut order: [usize; MAX_SERIES] = std::array::from_fn(|at| at);
        order.sort_unstable_by_key(|at| std::cmp::Reverse(points.get(*at).map(|point| point.cpu_ns)));
        for at in order {
            let Some(point) = points.get(at).filter(|_| matches[at].is_none()) else { continue };
            let continues = |index: &usize| {
                let between_ns = point.timestamp_ns.saturating_sub(known[*index].timestamp_ns);
                between_ns >= MIN_WINDOW_NS && known[*index].advance(point, rules).1 == Step::Continues
            };
            let free = (0..known.len()).filter(|index| !matches.contains(&Some(*index)));
            matches[at] =
                free.filter(continues).max_by_key(|index| (*index < self.reported, known[*index].cpu_ns));
        }
        matches
    }
}
