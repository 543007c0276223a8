//! Collects the samples of one body and makes the node's next snapshot of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::layout::{Layout, MAX_NAME, Names};
use super::rate::{Measured, Point, Timing};
use crate::ingest::decode::{BadSeries, ContainerKey, Metric, Sample, Sink};

/// More containers than this on one node are left out. Kubernetes supports 110 pods a node, some run 500. Their names are
/// bounded by it, too: a layout has room for 16 MB of text.
const MAX_CONTAINERS: usize = 20_000;

/// What is known of a node's usage. Replaced whole.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) layout: Arc<Layout>,
    /// One for each container of the layout.
    pub(super) containers: Box<[Measured]>,
    pub(super) node: Measured,
    /// When the request began that brought it, milliseconds since the directory's origin.
    pub(super) requested_ms: u64,
    /// How many bodies went into it.
    pub(super) bodies: u32,
    /// Containers of which the last body said what the one before had said, in order. Mostly none.
    repeated: Box<[u32]>,
    /// Whether the same is true of the node itself.
    pub(super) node_repeated: bool,
}

impl Snapshot {
    /// Whether the last body said nothing new of a pod, whose containers these are.
    pub(super) fn repeats(&self, mut containers: Range<usize>) -> bool {
        !self.repeated.is_empty()
            && containers
                .all(|at| self.repeated.binary_search_by(|repeated| (*repeated as usize).cmp(&at)).is_ok())
    }

    /// Containers that have a rate.
    pub(super) fn measured_containers(&self) -> usize {
        self.containers.iter().filter(|container| container.is_measured()).count()
    }
}

/// The samples of one body, on top of the node's last snapshot. Given to [`crate::ingest::decode::decode`], then to
/// [`super::Store::put`].
#[derive(Debug)]
pub struct Intake {
    old: Arc<Snapshot>,
    /// One for each container of the old layout, then the new ones.
    rows: Vec<Row>,
    new: BTreeMap<[Box<str>; 3], usize>,
    node: Row,
    cursors: [usize; Metric::COUNT],
    touched: u32,
}

/// Room for the values of a body.
#[derive(Debug, Default)]
pub(super) struct Room(Vec<Row>);

impl Room {
    /// How many there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    point: Point,
    /// A bit for each metric that was there.
    seen: u8,
    /// When in the body it was first there.
    turn: u32,
}

impl Row {
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
            // Bounded by decode.
            Metric::StartTime => self.point.start_ns = i64::try_from(sample.value).unwrap_or(0),
        }
        Ok(())
    }

    /// Whether the container exists. Swap alone does not make one, as the peer does not read it.
    fn exists(&self) -> bool {
        self.seen & !(1 << Metric::Swap as u8) != 0
    }
}

impl Intake {
    /// On top of `old`; the room is that of an earlier intake.
    pub(super) fn new(old: Arc<Snapshot>, Room(mut rows): Room) -> Self {
        rows.clear();
        rows.resize(old.layout.containers(), Row::default());
        Self {
            rows,
            old,
            new: BTreeMap::new(),
            node: Row::default(),
            cursors: [0; Metric::COUNT],
            touched: 0,
        }
    }

    /// When the newest container sample was taken, by the node's clock.
    pub(super) fn newest_ns(&self) -> Option<i64> {
        self.rows.iter().map(|row| row.point.timestamp_ns).filter(|timestamp| *timestamp != 0).max()
    }

    fn row(&mut self, metric: Metric, key: &ContainerKey<'_>) -> Result<usize, BadSeries> {
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
        if self.rows.len() >= MAX_CONTAINERS {
            return Err(BadSeries::TooMany);
        }
        let at = self.rows.len();
        self.rows.push(Row::default());
        self.new.insert(owned, at);
        Ok(at)
    }

    fn take(&mut self, at: usize, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let row = &mut self.rows[at];
        if row.seen == 0 {
            self.touched += 1;
            row.turn = self.touched;
        }
        row.take(metric, sample)
    }

    /// Its room, for the next intake.
    pub(super) fn into_room(self) -> Room {
        Room(self.rows)
    }

    /// The snapshot after this body.
    pub(super) fn finish(&self, resolution_ns: i64, requested_ms: u64) -> Snapshot {
        let since = requested_ms.saturating_sub(self.old.requested_ms);
        let elapsed_ns = i64::try_from(since.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        let timing = Timing { resolution_ns, elapsed_ns };
        let node = self.old.node.advance(&self.node.point, timing);
        let node_repeated = node == self.old.node;
        let bodies = self.old.bodies.saturating_add(1);
        if self.new.is_empty() && self.rows.iter().all(Row::exists) {
            let rows = self.old.containers.iter().zip(&self.rows);
            let containers: Box<[Measured]> =
                rows.map(|(old, row)| old.advance(&row.point, timing)).collect();
            let pairs = (0..).zip(containers.iter().zip(&self.old.containers));
            let repeated = pairs.filter(|(_, (new, old))| new == old).map(|(at, _)| at).collect();
            let layout = self.old.layout.clone();
            return Snapshot { layout, containers, node, requested_ms, bodies, repeated, node_repeated };
        }
        let old = self.rows.iter().enumerate().take(self.old.containers.len());
        let old = old.map(|(at, row)| (self.old.layout.names(at), row, self.old.containers[at]));
        let new = self.new.iter().map(|([namespace, pod, container], at)| {
            (Names { namespace, pod, container }, &self.rows[*at], Measured::default())
        });
        let mut rows: Vec<_> = old.chain(new).filter(|(_, row, _)| row.exists()).collect();
        rows.sort_unstable_by_key(|(names, ..)| *names);
        let names: Vec<_> = rows.iter().map(|(names, ..)| *names).collect();
        let mut order: Box<[u32]> = (0..).take(rows.len()).collect();
        order.sort_unstable_by_key(|at| rows[*at as usize].1.turn);
        Snapshot {
            layout: Arc::new(Layout::new(&names, order)),
            containers: rows.iter().map(|(_, row, old)| old.advance(&row.point, timing)).collect(),
            node,
            requested_ms,
            bodies,
            // A pod that lost a container is not what it was, though the others say nothing new.
            repeated: Box::default(),
            node_repeated,
        }
    }
}

impl Sink for Intake {
    fn node(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        self.node.take(metric, sample)
    }

    fn container(&mut self, metric: Metric, key: &ContainerKey<'_>, sample: Sample) -> Result<(), BadSeries> {
        let at = self.row(metric, key)?;
        self.take(at, metric, sample)
    }

    fn expects(&self, metric: Metric) -> Option<[&[u8]; 3]> {
        let at = self.old.layout.expected(self.cursors[metric as usize])?;
        Some(self.old.layout.bytes(at))
    }

    fn expected(&mut self, metric: Metric, sample: Sample) -> Result<(), BadSeries> {
        let cursor = &mut self.cursors[metric as usize];
        let Some(at) = self.old.layout.expected(*cursor) else { return Ok(()) };
        *cursor += 1;
        self.take(at, metric, sample)
    }
}
