//! The age of what the watches know, as metric and for the report.

use crds::report::{WatchAge, WatchTarget};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Heartbeat;

/// When kube-apiserver last confirmed what each watch knows. Clones share their heartbeats.
#[derive(Clone, Debug, Default)]
pub struct WatchAges(Vec<(WatchTarget, Heartbeat)>);

impl WatchAges {
    /// Adds a watch, and returns its heartbeat.
    pub(crate) fn add(&mut self, target: WatchTarget) -> Heartbeat {
        let heartbeat = Heartbeat::default();
        self.0.push((target, heartbeat.clone()));
        heartbeat
    }

    /// Returns the ages.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<WatchAge> {
        let ages = self.0.iter().map(|(target, heartbeat)| WatchAge {
            watch: target.as_str().to_owned(),
            age_seconds: heartbeat.age().as_secs(),
        });
        ages.collect()
    }

    /// Registers the metric. Watches that are added later are not part of it.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl Collector for WatchAges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut encoder = encoder.encode_descriptor(
            "metrics_core_discovery_age_seconds",
            "Time since kube-apiserver last confirmed what metrics-core knows, by watch",
            None,
            MetricType::Gauge,
        )?;
        for (target, heartbeat) in &self.0 {
            let labels = [("watch", target.as_str())];
            ConstGauge::new(heartbeat.age().as_secs_f64()).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shows_the_age_of_each_watch_as_metric_and_in_the_report() {
        let mut ages = WatchAges::default();
        let (nodes, _pods) = (ages.add(WatchTarget::Nodes), ages.add(WatchTarget::Pods));
        let mut registry = Registry::default();
        ages.register(&mut registry);
        tokio::time::advance(Duration::from_secs(40)).await;
        nodes.beat();
        tokio::time::advance(Duration::from_secs(7)).await;
        let listed: Vec<_> = ages.list().into_iter().map(|age| (age.watch, age.age_seconds)).collect();
        assert_eq!(listed, [("nodes".to_owned(), 7), ("pods".to_owned(), 47)]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE metrics_core_discovery_age_seconds gauge",
            "metrics_core_discovery_age_seconds{watch=\"nodes\"} 7.0",
            "metrics_core_discovery_age_seconds{watch=\"pods\"} 47.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
