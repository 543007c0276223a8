//! Collects the samples of one body and computes the node's next snapshot.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::duplicates::{Duplicates, NODE};
use super::layout::{ContainerNames, MAX_NAME, NodeLayout};
use super::node_samples::NodeSamples;
use super::problems::SampleProblems;
use super::rate::{Measured, Point};
use super::rivals::Rivals;
use super::snapshot_builder::{BodyContext, SnapshotBuilder};
use crate::ingest::decode::{BadSeries, ContainerKey, Metric, Sample, SampleSink};

/// The maximum number of containers per node; more are rejected. Kubernetes supports 110 pods per node, some
/// clusters run 500. The limit also bounds the names: a layout has room for 16 MB of text.
pub(super) const MAX_CONTAINERS: usize = 20_000;

/// A node's usage at its last scrape. Replaced as a whole, never modified.
#[derive(Debug, Default)]
pub(super) struct NodeSnapshot {
    pub(super) layout: Arc<NodeLayout>,
    /// One entry per container of the layout.
    pub(super) containers: Box<[Measured]>,
    pub(super) node: Measured,
    /// When the request of the last body started, in [`StoreDirectory::now_ms`](crate::ingest::store::StoreDirectory::now_ms).
    pub(super) requested_ms: u64,
    /// How many bodies the node has sent.
    pub(super) bodies: u32,
    /// Containers whose values in the last body equal those of the body before, in order. Mostly none.
    pub(super) repeated: Box<[u32]>,
    /// The same for the node itself.
    pub(super) node_repeated: bool,
    /// The containers that several series claim to be, in order. Mostly none.
    pub(super) rivals: Box<[Rivals]>,
    /// The series that claim to be the node.
    pub(super) node_rivals: Option<Box<Rivals>>,
    /// The node's last samples.
    pub(super) node_samples: NodeSamples,
    /// When the newest container sample was taken, by the node's clock; 0 if there is none.
    pub(super) newest_ns: i64,
    /// By how much the node's clock is ahead; 0 while unknown.
    pub(super) clock_skew_ms: i64,
}

impl NodeSnapshot {
    /// Returns the memory of this snapshot with its layout, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.kept_bytes() + self.layout.bytes() + size_of_val(&*self.rivals)
    }

    /// Returns the memory that a reader keeps who keeps this snapshot, in bytes. The layout is mostly shared with the
    /// snapshots that follow.
    pub(super) fn kept_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.containers) + size_of_val(&*self.repeated)
    }

    /// Returns whether the last body changed nothing for a pod with these containers.
    pub(super) fn repeats(&self, mut containers: Range<usize>) -> bool {
        !self.repeated.is_empty()
            && containers
                .all(|at| self.repeated.binary_search_by(|repeated| (*repeated as usize).cmp(&at)).is_ok())
    }

    /// Returns whether a rate was served at `from_ms`, but no longer at `to_ms`.
    pub(super) fn expires_between(&self, from_ms: u64, to_ms: u64, max_age_ms: u32) -> bool {
        let expires = |measured: &Measured| {
            measured.is_served(from_ms, max_age_ms) && !measured.is_served(to_ms, max_age_ms)
        };
        expires(&self.node) || self.containers.iter().any(expires)
    }
}

/// The samples of one body on top of the node's last snapshot. Filled by [`crate::ingest::decode::decode`] and passed
/// to [`super::Store::put`].
#[derive(Debug)]
pub struct ScrapeBatch {
    old: Arc<NodeSnapshot>,
    /// The node's CPU capacity; 0 if unknown.
    capacity_millicores: u64,
    /// One entry per container of the old layout, then the new containers.
    points: Vec<PointBuilder>,
    new: BTreeMap<[Box<str>; 3], usize>,
    node: PointBuilder,
    /// The samples of series that came before in this body. Mostly none.
    duplicates: Duplicates,
    cursors: [usize; Metric::COUNT],
    next_turn: u32,
}

/// A reusable buffer for the values of a body.
#[derive(Debug, Default)]
pub(super) struct BatchBuffer(Vec<PointBuilder>);

impl BatchBuffer {
    /// Returns the capacity in points.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// The samples of a container or node in a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PointBuilder {
    /// The first sample of each metric.
    pub(super) point: Point,
    /// A bit for each metric that the body contained.
    seen: u8,
    /// Whether a metric came more than once.
    pub(super) has_duplicates: bool,
    /// The rank of its first sample in the body, from 1.
    turn: u32,
}

impl PointBuilder {
    fn take(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let bit = 1 << metric as u8;
        if self.seen & bit != 0 {
            self.has_duplicates = true;
            return Err(BadSeries::Duplicate);
        }
        self.seen |= bit;
        self.point.set(metric, sample);
        Ok(())
    }

    /// Returns the first sample of a metric. Only CPU times have a timestamp.
    pub(super) fn sample(&self, metric: Metric) -> Sample {
        let Point { timestamp_ns, cpu_ns, memory_bytes, swap_bytes, start_ns } = self.point;
        match metric {
            Metric::Cpu => Sample { value: cpu_ns, timestamp_ns },
            Metric::Memory => Sample { value: memory_bytes, timestamp_ns: 0 },
            Metric::Swap => Sample { value: swap_bytes.unwrap_or_default(), timestamp_ns: 0 },
            Metric::StartTime => Sample { value: start_ns.unsigned_abs(), timestamp_ns: 0 },
        }
    }

    /// Returns whether the body contained the metric.
    pub(super) fn has(&self, metric: Metric) -> bool {
        self.seen & 1 << metric as u8 != 0
    }

    /// Returns whether the body reports the container. Swap alone does not count, as metrics-server does not read
    /// it.
    pub(super) fn is_present(&self) -> bool {
        self.seen & !(1 << Metric::Swap as u8) != 0
    }
}

impl ScrapeBatch {
    /// Starts a batch on top of `old` in the buffer of an earlier batch.
    pub(super) fn new(
        old: Arc<NodeSnapshot>,
        capacity_millicores: u64,
        BatchBuffer(mut points): BatchBuffer,
    ) -> Self {
        points.clear();
        points.resize(old.layout.containers(), PointBuilder::default());
        Self {
            points,
            old,
            capacity_millicores,
            new: BTreeMap::new(),
            node: PointBuilder::default(),
            duplicates: Duplicates::default(),
            cursors: [0; Metric::COUNT],
            next_turn: 0,
        }
    }

    fn index_of(&mut self, metric: Metric, key: &ContainerKey<'_>) -> Result<usize, BadSeries> {
        let names: [&[u8]; 3] = [&key.namespace, &key.pod, &key.container];
        if let Some(at) = self.old.layout.find(names, &mut self.cursors[metric as usize]) {
            return Ok(at);
        }
        let mut owned = [Box::<str>::default(), Box::default(), Box::default()];
        for (owned, name) in owned.iter_mut().zip(names) {
            if name.len() > MAX_NAME {
                return Err(BadSeries::Name);
            }
            *owned = std::str::from_utf8(name).map_err(|_| BadSeries::Name)?.into();
        }
        if let Some(at) = self.new.get(&owned) {
            return Ok(*at);
        }
        if self.points.len() >= MAX_CONTAINERS {
            return Err(BadSeries::TooMany);
        }
        let at = self.points.len();
        self.points.push(PointBuilder::default());
        self.new.insert(owned, at);
        Ok(at)
    }

    fn take(&mut self, at: usize, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let row = &mut self.points[at];
        if row.seen == 0 {
            self.next_turn += 1;
            row.turn = self.next_turn;
        }
        let taken = row.take(metric, sample);
        if taken.is_err() {
            self.duplicates.add(at, metric, sample);
        }
        taken
    }

    /// Returns the buffer for the next batch.
    pub(super) fn into_buffer(self) -> BatchBuffer {
        BatchBuffer(self.points)
    }

    /// Returns the snapshot after this body, and the problems of its samples. Those of pods are not known here.
    pub(super) fn finish(&mut self, context: BodyContext) -> (NodeSnapshot, SampleProblems) {
        self.duplicates.sort();
        let old = &*self.old;
        let mut builder =
            SnapshotBuilder::new(old, self.capacity_millicores, &self.node, &self.duplicates, context);
        if self.new.is_empty() && self.points.iter().all(PointBuilder::is_present) {
            let points = (0..).zip(old.containers.iter().zip(&self.points));
            let containers: Box<[Measured]> = points
                .map(|(at, (measured, row))| builder.container(at, Some((at, measured)), at as usize, row))
                .collect();
            let pairs = (0..).zip(containers.iter().zip(&old.containers));
            let repeated = pairs.filter(|(_, (new, old))| new == old).map(|(at, _)| at).collect();
            return builder.finish(old.layout.clone(), containers, repeated);
        }
        let known = (0..).zip(&self.points).take(old.containers.len());
        let known = known.map(|(at, row)| (old.layout.names(at as usize), at, row));
        let new = self.new.iter().map(|([namespace, pod, container], at)| {
            let names = ContainerNames { namespace, pod, container };
            (names, u32::try_from(*at).unwrap_or(u32::MAX), &self.points[*at])
        });
        let mut points: Vec<_> = known.chain(new).filter(|(_, _, row)| row.is_present()).collect();
        points.sort_unstable_by_key(|(names, ..)| *names);
        let names: Vec<_> = points.iter().map(|(names, ..)| *names).collect();
        let mut order: Box<[u32]> = (0..).take(points.len()).collect();
        order.sort_unstable_by_key(|at| points[*at as usize].2.turn);
        let containers = (0..).zip(&points).map(|(at, (_, row_at, row))| {
            let measured = old.containers.get(*row_at as usize);
            builder.container(at, measured.map(|measured| (*row_at, measured)), *row_at as usize, row)
        });
        let containers = containers.collect();
        let layout = NodeLayout::new(&names, order, |key| {
            old.layout.row(key).map_or(context.requested_ms, |row| old.layout.appeared_ms(row))
        });
        // A pod that lost a container has changed even if its other containers did not.
        builder.finish(Arc::new(layout), containers, Box::default())
    }
}

impl SampleSink for ScrapeBatch {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let taken = self.node.take(metric, sample);
        if taken.is_err() {
            self.duplicates.add(NODE, metric, sample);
        }
        taken
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        let at = self.index_of(metric, key)?;
        self.take(at, metric, sample)
    }

    fn expected_names(&self, metric: Metric) -> Option<[&[u8]; 3]> {
        let at = self.old.layout.expected_at(self.cursors[metric as usize])?;
        Some(self.old.layout.name_bytes(at))
    }

    fn add_expected(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let cursor = &mut self.cursors[metric as usize];
        let Some(at) = self.old.layout.expected_at(*cursor) else { return Ok(()) };
        *cursor += 1;
        self.take(at, metric, sample)
    }
}
