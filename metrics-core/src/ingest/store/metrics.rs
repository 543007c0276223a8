//! Prometheus metrics of the store, under metrics-server's names.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Store;

/// Gauges that are computed from the store at each scrape of `/metrics`.
pub(crate) struct StoreMetrics(Arc<Store>);

impl StoreMetrics {
    /// Returns the metrics of `store`.
    #[must_use]
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Registers `metrics_server_storage_points{type}` and `metrics_server_nodes{state}`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Self(self.0.clone())));
    }
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMetrics")
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let coverage = self.0.coverage();
        let families: [(_, _, _, &[(&str, usize)]); 2] = [
            (
                "metrics_server_storage_points",
                "Number of metrics points stored.",
                "type",
                &[("node", coverage.nodes_measured), ("container", coverage.containers_measured)],
            ),
            (
                "metrics_server_nodes",
                "Number of nodes by state: known, measured (with a rate), covered (responding, and all pods older than a minute have rates) and failing.",
                "state",
                &[
                    ("known", coverage.nodes),
                    ("measured", coverage.nodes_measured),
                    ("covered", coverage.nodes_covered),
                    ("failing", coverage.nodes_failing),
                ],
            ),
        ];
        for (name, help, label, values) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (value, count) in values {
                let labels = [(label, *value)];
                let encoder = family.encode_family(&labels)?;
                ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX)).encode(encoder)?;
            }
        }
        Ok(())
    }
}
