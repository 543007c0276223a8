//! Metrics of the budget.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{MemoryBudget, MemoryClass};

impl MemoryBudget {
    /// Registers the metrics of the budget.
    pub(crate) fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(BudgetMetrics(self.clone())));
    }
}

/// Values that are read at each scrape of `/metrics`.
#[derive(Debug)]
struct BudgetMetrics(Arc<MemoryBudget>);

impl Collector for BudgetMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let classes = || MemoryClass::ALL.into_iter().zip(self.0.classes());
        let gauge = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let total = ConstGauge::new(gauge(self.0.total()));
        let help = "Memory that all classes together may reserve, in bytes";
        total.encode(encoder.encode_descriptor(
            "metrics_core_memory_budget_total_bytes",
            help,
            None,
            total.metric_type(),
        )?)?;
        let help = "Maximum memory of a class in bytes; the sum exceeds the budget, which all classes share";
        let mut family =
            encoder.encode_descriptor("metrics_core_memory_budget_bytes", help, None, MetricType::Gauge)?;
        for (class, state) in classes() {
            ConstGauge::new(gauge(state.max)).encode(family.encode_family(&[("class", class.as_str())])?)?;
        }
        let help = "Reserved memory by class, in bytes";
        let mut family =
            encoder.encode_descriptor("metrics_core_memory_reserved_bytes", help, None, MetricType::Gauge)?;
        for (class, state) in classes() {
            let value = ConstGauge::new(gauge(state.reserved));
            value.encode(family.encode_family(&[("class", class.as_str())])?)?;
        }
        let help = "Requests for memory that were rejected, by class";
        let mut family =
            encoder.encode_descriptor("metrics_core_memory_rejected", help, None, MetricType::Counter)?;
        for (class, state) in classes() {
            let value = ConstCounter::new(state.rejected);
            value.encode(family.encode_family(&[("class", class.as_str())])?)?;
        }
        let help = "Responses that were ended because their clients read nothing and memory was short";
        let revoked = ConstCounter::new(self.0.revoked());
        revoked.encode(encoder.encode_descriptor(
            "metrics_core_memory_revoked_responses",
            help,
            None,
            revoked.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{MemoryBudget, MemoryClass};

    #[test]
    fn shows_each_class() {
        let budget = MemoryBudget::new(100_000);
        let _held = budget.try_reserve(MemoryClass::Connections, 1234);
        assert!(budget.try_reserve(MemoryClass::KubeletBodies, 99_000).is_none());
        let mut registry = Registry::default();
        budget.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for expected in [
            "metrics_core_memory_budget_total_bytes 100000\n",
            "metrics_core_memory_budget_bytes{class=\"connections\"} 35000\n",
            "metrics_core_memory_reserved_bytes{class=\"connections\"} 1234\n",
            "metrics_core_memory_rejected_total{class=\"kubelet_bodies\"} 1\n",
            "metrics_core_memory_rejected_total{class=\"responses\"} 0\n",
            "metrics_core_memory_revoked_responses_total 0\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
