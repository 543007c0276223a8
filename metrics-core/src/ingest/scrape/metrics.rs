//! Prometheus metrics of the scraper. The first four have metrics-server's names.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::cause::ScrapeCause;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::error::Error;
use crate::ingest::decode::{BadSeries, DecodeReport};

/// The default buckets of Prometheus in seconds, as in metrics-server.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNode {
    node: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySuccess {
    success: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

/// The metrics of all scrapes. Clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct ScrapeMetrics {
    request_duration: Family<ByNode, Histogram, Seconds>,
    requests: Family<BySuccess, Counter>,
    last_request: Family<ByNode, Gauge<f64, std::sync::atomic::AtomicU64>>,
    tick_duration: Histogram,
    failures: Family<ByReason, Counter>,
    bad_series: Family<ByReason, Counter>,
    connections: Counter,
    wire_bytes: Counter,
    body_bytes: Counter,
}

impl Default for ScrapeMetrics {
    fn default() -> Self {
        let metrics = Self {
            request_duration: Family::new_with_constructor(Seconds),
            requests: Family::default(),
            last_request: Family::default(),
            tick_duration: Histogram::new(BUCKETS),
            failures: Family::default(),
            bad_series: Family::default(),
            connections: Counter::default(),
            wire_bytes: Counter::default(),
            body_bytes: Counter::default(),
        };
        // Created at the start, so that `rate()` includes the first failure.
        for cause in ScrapeCause::ALL.iter().filter(|cause| **cause != ScrapeCause::Other) {
            drop(metrics.failures.get_or_create(&ByReason { reason: cause.as_str() }));
        }
        for reason in BadSeries::ALL {
            drop(metrics.bad_series.get_or_create(&ByReason { reason: reason.as_str() }));
        }
        for success in ["true", "false"] {
            drop(metrics.requests.get_or_create(&BySuccess { success }));
        }
        metrics
    }
}

impl ScrapeMetrics {
    /// Registers all metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_server_kubelet_request_duration_seconds",
            "Duration of requests to Kubelet API in seconds",
            self.request_duration.clone(),
        );
        registry.register(
            "metrics_server_kubelet_request",
            "Number of requests sent to Kubelet API",
            self.requests.clone(),
        );
        registry.register(
            "metrics_server_kubelet_last_request_time_seconds",
            "Time of last request performed to Kubelet API since unix epoch in seconds",
            self.last_request.clone(),
        );
        registry.register(
            "metrics_server_manager_tick_duration_seconds",
            "Time spent scraping a node and storing its samples in seconds",
            self.tick_duration.clone(),
        );
        registry.register(
            "metrics_server_scrape_failures",
            "Number of scrapes that returned no samples, by reason",
            self.failures.clone(),
        );
        registry.register(
            "metrics_server_bad_series",
            "Number of series from kubelets that were rejected, by reason",
            self.bad_series.clone(),
        );
        registry.register(
            "metrics_server_kubelet_connections",
            "Number of connections opened to kubelets",
            self.connections.clone(),
        );
        registry.register(
            "metrics_server_kubelet_wire_bytes",
            "Number of body bytes received from kubelets, before decompression",
            self.wire_bytes.clone(),
        );
        registry.register(
            "metrics_server_kubelet_body_bytes",
            "Number of body bytes received from kubelets, after decompression",
            self.body_bytes.clone(),
        );
    }

    pub(super) fn requested(&self, node: &Arc<str>, took: Duration) {
        let labels = ByNode { node: node.clone() };
        self.request_duration.get_or_create(&labels).observe(took.as_secs_f64());
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.last_request.get_or_create(&labels).set(now.as_secs_f64());
    }

    pub(super) fn scrape_finished(&self, failure: Option<&Error>, took: Duration) {
        let success = if failure.is_none() { "true" } else { "false" };
        self.requests.get_or_create(&BySuccess { success }).inc();
        if let Some(failure) = failure {
            self.failures.get_or_create(&ByReason { reason: failure.cause().as_str() }).inc();
        }
        self.tick_duration.observe(took.as_secs_f64());
    }

    pub(super) fn decoded(&self, report: &DecodeReport, wire_bytes: usize, body_bytes: usize) {
        self.wire_bytes.inc_by(wire_bytes as u64);
        self.body_bytes.inc_by(body_bytes as u64);
        for (reason, count) in BadSeries::ALL.into_iter().zip(report.bad).filter(|(_, count)| *count > 0) {
            self.bad_series.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(u64::from(count));
        }
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    /// Removes the series of a deleted node.
    pub(super) fn forget(&self, node: &Arc<str>) {
        let labels = ByNode { node: node.clone() };
        self.request_duration.remove(&labels);
        self.last_request.remove(&labels);
    }
}
