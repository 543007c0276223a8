//! The age of the samples that responses contain, as metrics-server reports it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Registry;

/// The number of metrics-server's buckets with an upper bound.
const BOUNDS: usize = 20;

/// A histogram of seconds. Clones share it.
///
/// The rows of a read are added at once, when it ends: adding them one by one takes longer than encoding some of them.
#[derive(Clone, Debug)]
pub(super) struct SampleAge(Arc<Histogram>);

#[derive(Debug)]
struct Histogram {
    bounds: [f64; BOUNDS],
    tally: Mutex<Tally>,
}

/// The number of ages in each bucket, and the sum of all ages.
#[derive(Clone, Debug, Default)]
struct Tally {
    buckets: [u64; BOUNDS + 1],
    sum: f64,
}

impl Default for SampleAge {
    fn default() -> Self {
        let mut bounds = [f64::INFINITY; BOUNDS];
        bounds.iter_mut().zip(exponential_buckets(1.0, 1.364, 20)).for_each(|(bound, at)| *bound = at);
        Self(Arc::new(Histogram { bounds, tally: Mutex::default() }))
    }
}

impl SampleAge {
    /// Registers `metrics_server_api_metric_freshness_seconds`, with metrics-server's buckets.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_server_api_metric_freshness_seconds",
            "Age of the samples read for responses",
            self.clone(),
        );
    }

    /// Starts a read. Its rows are added to the histogram when it is dropped.
    pub(super) fn read(&self) -> Read<'_> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Read { histogram: &self.0, now, tally: Tally::default() }
    }
}

/// One read of rows.
pub(super) struct Read<'a> {
    histogram: &'a Histogram,
    /// The time of the read, in seconds since the Unix epoch.
    now: f64,
    tally: Tally,
}

impl Read<'_> {
    /// Adds a row whose sample was taken at `timestamp_ns`, in nanoseconds since the Unix epoch.
    pub(super) fn row(&mut self, timestamp_ns: i64) {
        #[allow(clippy::cast_precision_loss)] // Precise to microseconds.
        self.add(self.now - timestamp_ns as f64 / 1e9);
    }

    fn add(&mut self, age: f64) {
        let bucket = self.histogram.bounds.iter().take_while(|bound| age > **bound).count();
        self.tally.buckets[bucket] += 1;
        self.tally.sum += age;
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let mut all = self.histogram.tally.lock();
        all.buckets.iter_mut().zip(self.tally.buckets).for_each(|(all, read)| *all += read);
        all.sum += self.tally.sum;
    }
}

impl EncodeMetric for SampleAge {
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
        fn equals_a_histogram_of_prometheus_client(
            ages in proptest::collection::vec(prop_oneof![-5_i32..700, 0_i32..3], 0..50)
        ) {
            let theirs = histogram::Histogram::new(exponential_buckets(1.0, 1.364, 20));
            let ours = SampleAge::default();
            let mut read = ours.read();
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
