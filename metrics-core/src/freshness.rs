//! How old the rows are that requests read, as metrics-server tells it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;

use crate::labels::Labels;
use crate::rows::{Change, Expired, Lookup, NodeRow, Pick, PodRow, Progress, RowKind, Rows, TwoPassReader};

/// Rows that note their age whenever they are read.
pub struct Observed {
    rows: Arc<dyn Rows>,
    ages: Ages,
}

impl Observed {
    /// Registers `metrics_server_api_metric_freshness_seconds`, with metrics-server's buckets.
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>, registry: &mut Registry) -> Self {
        let ages = Ages::default();
        registry.register(
            "metrics_server_api_metric_freshness_seconds",
            "Age of the samples read for answers",
            ages.clone(),
        );
        Self { rows, ages }
    }
}

/// How many of metrics-server's buckets have a bound.
const BOUNDS: usize = 20;

/// A histogram of seconds. It is told of the rows of a read together: one by one they cost more than encoding some.
#[derive(Clone, Debug)]
struct Ages(Arc<Histogram>);

#[derive(Debug)]
struct Histogram {
    bounds: [f64; BOUNDS],
    tally: Mutex<Tally>,
}

/// How many ages lie in each bucket, and their sum.
#[derive(Clone, Debug, Default)]
struct Tally {
    buckets: [u64; BOUNDS + 1],
    sum: f64,
}

impl Default for Ages {
    fn default() -> Self {
        let mut bounds = [f64::INFINITY; BOUNDS];
        bounds.iter_mut().zip(exponential_buckets(1.0, 1.364, 20)).for_each(|(bound, at)| *bound = at);
        Self(Arc::new(Histogram { bounds, tally: Mutex::default() }))
    }
}

impl Ages {
    fn reading(&self) -> Reading<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Reading { histogram: &self.0, now, tally: Tally::default() }
    }
}

/// One read, which is told of when it is over.
struct Reading<'a> {
    histogram: &'a Histogram,
    /// Seconds since the Unix epoch.
    now: f64,
    tally: Tally,
}

impl Reading<'_> {
    fn sampled(&mut self, timestamp_ns: i64) {
        #[allow(clippy::cast_precision_loss)] // Microseconds are left.
        self.add(self.now - timestamp_ns as f64 / 1e9);
    }

    fn add(&mut self, age: f64) {
        let bucket = self.histogram.bounds.iter().take_while(|bound| age > **bound).count();
        self.tally.buckets[bucket] += 1;
        self.tally.sum += age;
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut all = self.histogram.tally.lock();
        all.buckets.iter_mut().zip(self.tally.buckets).for_each(|(all, read)| *all += read);
        all.sum += self.tally.sum;
    }
}

impl EncodeMetric for Ages {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let Tally { buckets, sum } = self.0.tally.lock().clone();
        let mut bounded = [(f64::INFINITY, 0); BOUNDS + 1];
        bounded.iter_mut().zip(self.0.bounds).for_each(|(bounded, bound)| bounded.0 = bound);
        bounded.iter_mut().zip(buckets).for_each(|(bounded, count)| bounded.1 = count);
        encoder.encode_histogram::<NoLabelSet>(sum, buckets.iter().sum(), &bounded, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Rows for Observed {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        self.rows.node(name, &mut |row| {
            self.ages.reading().sampled(row.timestamp_ns);
            visit(row);
        })
    }

    fn nodes(
        &self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let mut read = self.ages.reading();
        self.rows.nodes(after, pick, &mut |row| {
            read.sampled(row.timestamp_ns);
            visit(row)
        });
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        self.rows.pod(namespace, name, &mut |row| {
            self.ages.reading().sampled(row.timestamp_ns);
            visit(row);
        })
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let mut read = self.ages.reading();
        self.rows.pods(namespace, after, pick, &mut |row| {
            read.sampled(row.timestamp_ns);
            visit(row)
        });
    }

    fn two_pass_reader(self: Arc<Self>) -> Box<dyn TwoPassReader> {
        Box::new(ObservedTwoPassReader {
            keeper: self.rows.clone().two_pass_reader(),
            ages: self.ages.clone(),
        })
    }

    fn last_known_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>)) {
        self.rows.last_known_node(name, labels, visit);
    }

    fn last_known_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>)) {
        self.rows.last_known_pod(key, labels, visit);
    }

    fn version(&self) -> u64 {
        self.rows.version()
    }

    // A watcher has each sample as soon as it is there: only what is asked for has an age worth telling.
    fn next_change(
        &self,
        kind: RowKind,
        from: u64,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        self.rows.next_change(kind, from, visit)
    }
}

/// Of rows that are read twice, the first time is told.
struct ObservedTwoPassReader {
    keeper: Box<dyn TwoPassReader>,
    ages: Ages,
}

impl TwoPassReader for ObservedTwoPassReader {
    fn nodes(
        &mut self,
        after: Option<&str>,
        pick: &mut dyn FnMut(&str, &Labels) -> Pick,
        visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>,
    ) {
        let mut read = self.ages.reading();
        self.keeper.nodes(after, pick, &mut |row| {
            read.sampled(row.timestamp_ns);
            visit(row)
        });
    }

    fn pods(
        &mut self,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        pick: &mut dyn FnMut((&str, &str), &Labels) -> Pick,
        visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>,
    ) {
        let mut read = self.ages.reading();
        self.keeper.pods(namespace, after, pick, &mut |row| {
            read.sampled(row.timestamp_ns);
            visit(row)
        });
    }

    fn replay_nodes(&mut self, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        self.keeper.replay_nodes(visit);
    }

    fn replay_pods(&mut self, visit: &mut dyn FnMut(&PodRow<'_>) -> ControlFlow<()>) {
        self.keeper.replay_pods(visit);
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Observed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::histogram;
    use proptest::prelude::*;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    proptest! {
        #[test]
        fn is_the_histogram_that_the_library_would_make(
            ages in proptest::collection::vec(prop_oneof![-5_i32..700, 0_i32..3], 0..50)
        ) {
            let theirs = histogram::Histogram::new(exponential_buckets(1.0, 1.364, 20));
            let ours = Ages::default();
            let mut read = ours.reading();
            for age in &ages {
                theirs.observe(f64::from(*age));
                read.add(f64::from(*age));
            }
            drop(read);
            let (mut a, mut b) = (Registry::default(), Registry::default());
            a.register("ages", "Ages", theirs);
            b.register("ages", "Ages", ours);
            prop_assert_eq!(text(&a), text(&b));
        }
    }
}
