//! Computes a node's next snapshot from the last one and the points of a body.

use std::sync::Arc;
use std::time::Duration;

use super::duplicates::{Duplicates, NODE};
use super::layout::NodeLayout;
use super::problems::SampleProblems;
use super::rate::{Measured, Point, Rules, Step, milliseconds};
use super::rivals::{Followed, Rivals};
use super::scrape_batch::{NodeSnapshot, PointBuilder};

/// The maximum age of a cached sample. It is no clock skew.
const MAX_CACHED_MS: i64 = 30_000;

const MIN_ZERO: Duration = Duration::from_secs(30);
const MIN_STALLED: Duration = Duration::from_secs(120);

/// What the store knows of a body besides its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyContext {
    /// When the request started, in [`StoreDirectory::now_ms`](crate::ingest::store::StoreDirectory::now_ms).
    pub(super) requested_ms: u64,
    /// When the request started, by our wall clock, in nanoseconds since the Unix epoch.
    pub(super) requested_ns: i64,
    /// The scrape interval.
    pub(super) interval: Duration,
    /// The maximum age of a sample that is served.
    pub(super) max_age: Duration,
}

/// Computes the next snapshot, one container after the other.
pub(super) struct SnapshotBuilder<'a> {
    old: &'a NodeSnapshot,
    duplicates: &'a Duplicates,
    context: BodyContext,
    rules: Rules,
    zero_after_ms: u32,
    stalled_after_ms: u32,
    node: Measured,
    node_rivals: Option<Box<Rivals>>,
    rivals: Vec<Rivals>,
    newest_ns: i64,
    problems: SampleProblems,
}

impl<'a> SnapshotBuilder<'a> {
    /// Starts with the node's own samples.
    pub(super) fn new(
        old: &'a NodeSnapshot,
        capacity_millicores: u64,
        node: &PointBuilder,
        duplicates: &'a Duplicates,
        context: BodyContext,
    ) -> Self {
        let BodyContext { requested_ms, interval, max_age, .. } = context;
        let mut samples = old.node_samples;
        if node.point.is_complete() {
            samples.push(node.point.timestamp_ns, node.point.cpu_ns);
        }
        let mut builder = Self {
            old,
            duplicates,
            context,
            rules: Rules::new(interval, max_age, requested_ms, capacity_millicores, samples),
            zero_after_ms: milliseconds((interval * 2).max(MIN_ZERO)),
            stalled_after_ms: milliseconds((interval * 4).max(MIN_STALLED)),
            node: Measured::default(),
            node_rivals: None,
            rivals: Vec::new(),
            newest_ns: 0,
            problems: SampleProblems::default(),
        };
        builder.node = builder.advance(0, (&old.node, old.node_rivals.as_deref()), NODE, node);
        builder.node_rivals = builder.rivals.pop().map(Box::new);
        builder
    }

    /// Returns the state of the container at index `at` of the new layout. `old` is its index and state in the old
    /// snapshot, `row_at` the index of `row` in the batch.
    pub(super) fn container(
        &mut self,
        at: u32,
        old: Option<(u32, &Measured)>,
        row_at: usize,
        row: &PointBuilder,
    ) -> Measured {
        self.newest_ns = self.newest_ns.max(row.point.timestamp_ns);
        let Some((old_at, old)) = old else {
            return self.advance(at, (&Measured::default(), None), row_at, row);
        };
        let rivals = match &*self.old.rivals {
            [] => None,
            rivals => {
                rivals.binary_search_by_key(&old_at, |rivals| rivals.at).ok().map(|found| &rivals[found])
            }
        };
        self.advance(at, (old, rivals), row_at, row)
    }

    /// Returns the state of a container or node after its samples.
    fn advance(
        &mut self,
        at: u32,
        (old, rivals): (&Measured, Option<&Rivals>),
        row_at: usize,
        row: &PointBuilder,
    ) -> Measured {
        let measured = if row.has_duplicates || rivals.is_some() {
            self.advance_rivals(at, old, rivals, row_at, row)
        } else {
            self.advance_one(at, old, &row.point)
        };
        if measured.is_incomplete_for(&self.rules, self.zero_after_ms) {
            // Some virtual kubelets do not report the node itself.
            self.problems.zero_usage += u32::from(row.is_present());
        } else if measured.is_stalled(&self.rules, self.stalled_after_ms) {
            self.problems.timestamps_stalled += 1;
        }
        measured
    }

    fn advance_one(&mut self, at: u32, old: &Measured, point: &Point) -> Measured {
        let (measured, step) = old.advance(point, &self.rules);
        if matches!(step, Step::Breaks | Step::Implausible) {
            self.problems.implausible_usage += u32::from(step == Step::Implausible);
            self.rivals.push(Rivals::of_break(at, old, measured));
        }
        measured
    }

    #[cold]
    fn advance_rivals(
        &mut self,
        at: u32,
        old: &Measured,
        rivals: Option<&Rivals>,
        row_at: usize,
        row: &PointBuilder,
    ) -> Measured {
        let rivals = rivals.map(|rivals| rivals.moved_to(at));
        let points = self.duplicates.points(row_at, row);
        self.problems.duplicate_series += u32::from(points.as_ref().is_none_or(|points| points.len() > 1));
        let points = match points {
            Some(points) if !points.is_empty() => points,
            points => {
                self.rivals.extend(rivals);
                let is_incomplete = points.is_some();
                return if is_incomplete {
                    old.advance(&Point::default(), &self.rules).0
                } else {
                    old.hidden()
                };
            }
        };
        if let ([point], None) = (&*points, &rivals) {
            return self.advance_one(at, old, point);
        }
        let rivals = rivals.unwrap_or_else(|| Rivals::of_one(at, old));
        let Followed { measured, rivals, is_implausible } = rivals.advance(&points, &self.rules);
        self.problems.implausible_usage += u32::from(is_implausible);
        self.rivals.extend(rivals);
        measured
    }

    /// Returns the snapshot and its problems.
    pub(super) fn finish(
        mut self,
        layout: Arc<NodeLayout>,
        containers: Box<[Measured]>,
        repeated: Box<[u32]>,
    ) -> (NodeSnapshot, SampleProblems) {
        let clock_skew_ms = self.clock_skew_ms();
        self.problems.containers = u32::try_from(containers.len()).unwrap_or(u32::MAX);
        self.problems.clock_skew_ms = clock_skew_ms;
        let snapshot = NodeSnapshot {
            layout,
            containers,
            node: self.node,
            requested_ms: self.context.requested_ms,
            bodies: self.old.bodies.saturating_add(1),
            repeated,
            node_repeated: self.node == self.old.node,
            rivals: self.rivals.into_boxed_slice(),
            node_rivals: self.node_rivals,
            node_samples: self.rules.node,
            newest_ns: self.newest_ns,
            clock_skew_ms,
        };
        (snapshot, self.problems)
    }

    /// Returns by how much the node's clock is ahead of ours. Timestamps that stand still show nothing.
    fn clock_skew_ms(&self) -> i64 {
        let newest =
            [(self.old.node.timestamp_ns, self.node.timestamp_ns), (self.old.newest_ns, self.newest_ns)];
        let moved = newest.into_iter().filter(|(before, now)| *before != 0 && *now != 0 && before != now);
        let skew = moved.map(|(_, now)| {
            let ahead_ms = now.saturating_sub(self.context.requested_ns) / 1_000_000;
            if ahead_ms < 0 { ahead_ms.saturating_add(MAX_CACHED_MS).min(0) } else { ahead_ms }
        });
        skew.max_by_key(|skew| skew.unsigned_abs()).unwrap_or(self.old.clock_skew_ms)
    }
}
