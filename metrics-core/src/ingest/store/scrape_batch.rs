//! Collects the samples of one body and computes the node's next snapshot.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::{ContainerNames, MAX_NAME, NodeLayout};
use super::rate::{Measured, Point, Timing};
use crate::ingest::decode::{BadSeries, ContainerKey, Metric, Sample, SampleSink};

/// The maximum number of containers per node; more are rejected. Kubernetes supports 110 pods per node, some
/// clusters run 500. The limit also bounds the names: a layout has room for 16 MB of text.
const MAX_CONTAINERS: usize = 20_000;

/// A node's usage at its last scrape. Replaced as a whole, never modified.
#[derive(Debug, Default)]
pub(super) struct NodeSnapshot {
    pub(super) layout: Arc<NodeLayout>,
    /// One entry per container of the layout.
    pub(super) containers: Box<[Measured]>,
    pub(super) node: Measured,
    /// When the request of the last body started, in [`Directory::now_ms`](crate::ingest::discover::Directory::now_ms).
    pub(super) requested_ms: u64,
    /// How many bodies the node has sent.
    pub(super) bodies: u32,
    /// Containers whose values in the last body equal those of the body before, in order. Mostly none.
    repeated: Box<[u32]>,
    /// The same for the node itself.
    pub(super) node_repeated: bool,
}

impl NodeSnapshot {
    /// Returns whether the last body changed nothing for a pod with these containers.
    pub(super) fn repeats(&self, mut containers: Range<usize>) -> bool {
        !self.repeated.is_empty()
            && containers
                .all(|at| self.repeated.binary_search_by(|repeated| (*repeated as usize).cmp(&at)).is_ok())
    }
}

/// The samples of one body on top of the node's last snapshot. Filled by [`crate::ingest::decode::decode`] and passed
/// to [`super::Store::put`].
#[derive(Debug)]
pub struct ScrapeBatch {
    old: Arc<NodeSnapshot>,
    /// One entry per container of the old layout, then the new containers.
    points: Vec<PointBuilder>,
    new: BTreeMap<[Box<str>; 3], usize>,
    node: PointBuilder,
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

#[derive(Clone, Copy, Debug, Default)]
struct PointBuilder {
    point: Point,
    /// A bit for each metric that the body contained.
    seen: u8,
    /// The rank of its first sample in the body, from 1.
    turn: u32,
}

impl PointBuilder {
    fn take(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let bit = 1 << metric as u8;
        if self.seen & bit != 0 {
            return Err(BadSeries::Duplicate);
        }
        self.seen |= bit;
        match metric {
            Metric::Cpu => {
                self.point.cpu_ns = sample.value;
                self.point.timestamp_ns = sample.timestamp_ns;
            }
            Metric::Memory => self.point.memory_bytes = sample.value,
            Metric::Swap => self.point.swap_bytes = Some(sample.value),
            // decode() bounds the value.
            Metric::StartTime => self.point.start_ns = i64::try_from(sample.value).unwrap_or(0),
        }
        Ok(())
    }

    /// Returns whether the body reports the container. Swap alone does not count, as metrics-server does not read
    /// it.
    fn is_present(&self) -> bool {
        self.seen & !(1 << Metric::Swap as u8) != 0
    }
}

impl ScrapeBatch {
    /// Starts a batch on top of `old` in the buffer of an earlier batch.
    pub(super) fn new(old: Arc<NodeSnapshot>, BatchBuffer(mut points): BatchBuffer) -> Self {
        points.clear();
        points.resize(old.layout.containers(), PointBuilder::default());
        Self {
            points,
            old,
            new: BTreeMap::new(),
            node: PointBuilder::default(),
            cursors: [0; Metric::COUNT],
            next_turn: 0,
        }
    }

    /// Returns when the newest container sample was taken, by the node's clock.
    pub(super) fn newest_ns(&self) -> Option<i64> {
        self.points.iter().map(|row| row.point.timestamp_ns).filter(|timestamp| *timestamp != 0).max()
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
        row.take(metric, sample)
    }

    /// Returns the buffer for the next batch.
    pub(super) fn into_buffer(self) -> BatchBuffer {
        BatchBuffer(self.points)
    }

    /// Returns the snapshot after this body.
    pub(super) fn finish(&self, interval_ns: i64, requested_ms: u64) -> NodeSnapshot {
        let since = requested_ms.saturating_sub(self.old.requested_ms);
        let elapsed_ns = i64::try_from(since.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let timing = Timing { interval_ns, elapsed_ns };
        let node = self.old.node.advance(&self.node.point, timing);
        let node_repeated = node == self.old.node;
        let bodies = self.old.bodies.saturating_add(1);
        if self.new.is_empty() && self.points.iter().all(PointBuilder::is_present) {
            let points = self.old.containers.iter().zip(&self.points);
            let containers: Box<[Measured]> =
                points.map(|(old, row)| old.advance(&row.point, timing)).collect();
            let pairs = (0..).zip(containers.iter().zip(&self.old.containers));
            let repeated = pairs.filter(|(_, (new, old))| new == old).map(|(at, _)| at).collect();
            let layout = self.old.layout.clone();
            return NodeSnapshot { layout, containers, node, requested_ms, bodies, repeated, node_repeated };
        }
        let old = self.points.iter().enumerate().take(self.old.containers.len());
        let old = old.map(|(at, row)| (self.old.layout.names(at), row, self.old.containers[at]));
        let new = self.new.iter().map(|([namespace, pod, container], at)| {
            (ContainerNames { namespace, pod, container }, &self.points[*at], Measured::default())
        });
        let mut points: Vec<_> = old.chain(new).filter(|(_, row, _)| row.is_present()).collect();
        points.sort_unstable_by_key(|(names, ..)| *names);
        let names: Vec<_> = points.iter().map(|(names, ..)| *names).collect();
        let mut order: Box<[u32]> = (0..).take(points.len()).collect();
        order.sort_unstable_by_key(|at| points[*at as usize].1.turn);
        NodeSnapshot {
            layout: Arc::new(NodeLayout::new(&names, order)),
            containers: points.iter().map(|(_, row, old)| old.advance(&row.point, timing)).collect(),
            node,
            requested_ms,
            bodies,
            // A pod that lost a container has changed even if its other containers did not.
            repeated: Box::default(),
            node_repeated,
        }
    }
}

impl SampleSink for ScrapeBatch {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.node.take(metric, sample)
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        let at = self.index_of(metric, key)?;
        self.take(at, metric, sample)
    }

    fn expected_names(&self, metric: Metric) -> Option<[&[u8]; 3]> {
        let at = self.old.layout.expected_at(self.cursors[metric as usize])?;
        Some(self.old.layout.bytes(at))
    }

    fn add_expected(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let cursor = &mut self.cursors[metric as usize];
        let Some(at) = self.old.layout.expected_at(*cursor) else { return Ok(()) };
        *cursor += 1;
        self.take(at, metric, sample)
    }
}
