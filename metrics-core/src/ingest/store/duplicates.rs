//! Series that occur more than once in a body.

use super::rate::Point;
use super::rivals::MAX_SERIES;
use super::scrape_batch::PointBuilder;
use crate::ingest::decode::{Metric, Sample};

/// The index that stands for the node itself.
pub(super) const NODE: usize = usize::MAX;

/// The samples of a body beyond the first one of their series.
#[derive(Debug, Default)]
pub(super) struct Duplicates(Vec<(usize, Metric, Sample)>);

/// The samples of one metric of a container.
#[derive(Default)]
struct Samples {
    samples: [Option<Sample>; MAX_SERIES],
    count: usize,
}

impl Samples {
    fn add(&mut self, sample: Sample) {
        if let Some(place) = self.samples.get_mut(self.count) {
            *place = Some(sample);
        }
        self.count += 1;
    }

    /// Removes repeated samples.
    fn without_equal(&self) -> Self {
        let mut rest = Self::default();
        for sample in self.samples.iter().flatten() {
            if !rest.samples.contains(&Some(*sample)) {
                rest.add(*sample);
            }
        }
        rest
    }
}

impl Duplicates {
    /// Adds a sample of the container at this index of the batch, or of [`NODE`].
    pub(super) fn add(&mut self, at: usize, metric: Metric, sample: Sample) {
        let timestamp_ns = if metric == Metric::Cpu { sample.timestamp_ns } else { 0 };
        self.0.push((at, metric, Sample { timestamp_ns, ..sample }));
    }

    /// Orders the samples by container, and those of a container as in the body.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|(at, ..)| *at);
    }

    /// Returns the different complete points of a container or of [`NODE`]. Returns `None` if the samples can't be
    /// paired, or are too many.
    ///
    /// A family lists the series in the same order as the others. So the first CPU time belongs to the first memory
    /// usage, and so on.
    pub(super) fn points(&self, at: usize, first: &PointBuilder) -> Option<Vec<Point>> {
        let mut of: [Samples; Metric::COUNT] = Default::default();
        for metric in Metric::ALL.into_iter().filter(|metric| first.has(*metric)) {
            of[metric as usize].add(first.sample(metric));
        }
        let start = self.0.partition_point(|(other, ..)| *other < at);
        for (_, metric, sample) in self.0[start..].iter().take_while(|(other, ..)| *other == at) {
            of[*metric as usize].add(*sample);
        }
        let [cpu, memory] = [Metric::Cpu, Metric::Memory].map(|metric| &of[metric as usize]);
        if cpu.count.max(memory.count) > MAX_SERIES {
            return None;
        }
        if cpu.count != memory.count {
            of = of.map(|samples| samples.without_equal());
        }
        let count = of[Metric::Cpu as usize].count;
        if of[Metric::Memory as usize].count != count {
            return None;
        }
        let mut points: Vec<Point> = Vec::with_capacity(count);
        for index in 0..count {
            let mut point = Point::default();
            // Swap and start times that can't be paired are not used.
            for metric in Metric::ALL.into_iter().filter(|metric| of[*metric as usize].count == count) {
                if let Some(sample) = of[metric as usize].samples.get(index).copied().flatten() {
                    point.set(metric, sample);
                }
            }
            let is_known = |other: &Point| {
                (other.timestamp_ns, other.cpu_ns, other.memory_bytes)
                    == (point.timestamp_ns, point.cpu_ns, point.memory_bytes)
            };
            if point.is_complete() && !points.iter().any(is_known) {
                points.push(point);
            }
        }
        Some(points)
    }
}
