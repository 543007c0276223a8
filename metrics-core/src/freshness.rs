//! How old the rows are that requests read, as metrics-server tells it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::labels::Labels;
use crate::rows::{Change, Expired, Kind, Lookup, NodeRow, Pick, PodRow, Progress, Rows};

/// Rows that note their age whenever they are read.
pub struct Observed {
    rows: Arc<dyn Rows>,
    ages: Histogram,
}

impl Observed {
    /// Registers `metrics_server_api_metric_freshness_seconds`, with metrics-server's buckets.
    #[must_use]
    pub fn new(rows: Arc<dyn Rows>, registry: &mut Registry) -> Self {
        let ages = Histogram::new(exponential_buckets(1.0, 1.364, 20));
        registry.register(
            "metrics_server_api_metric_freshness_seconds",
            "Age of the samples read for answers",
            ages.clone(),
        );
        Self { rows, ages }
    }

    fn observe(&self, now: f64, timestamp_ns: i64) {
        self.ages.observe(now - seconds(timestamp_ns));
    }
}

#[allow(clippy::cast_precision_loss)] // Microseconds are left.
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Rows for Observed {
    fn node(&self, name: &str, visit: &mut dyn FnMut(&NodeRow<'_>)) -> Lookup {
        self.rows.node(name, &mut |row| {
            self.observe(now(), row.timestamp_ns);
            visit(row);
        })
    }

    fn nodes(&self, after: Option<&str>, visit: &mut dyn FnMut(&NodeRow<'_>) -> ControlFlow<()>) {
        let now = now();
        self.rows.nodes(after, &mut |row| {
            self.observe(now, row.timestamp_ns);
            visit(row)
        });
    }

    fn pod(&self, namespace: &str, name: &str, visit: &mut dyn FnMut(&PodRow<'_>)) -> Lookup {
        self.rows.pod(namespace, name, &mut |row| {
            self.observe(now(), row.timestamp_ns);
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
        let now = now();
        self.rows.pods(namespace, after, pick, &mut |row| {
            self.observe(now, row.timestamp_ns);
            visit(row)
        });
    }

    fn left_node(&self, name: &str, labels: &Labels, visit: &mut dyn FnMut(&NodeRow<'_>)) {
        self.rows.left_node(name, labels, visit);
    }

    fn left_pod(&self, key: (&str, &str), labels: &Labels, visit: &mut dyn FnMut(&PodRow<'_>)) {
        self.rows.left_pod(key, labels, visit);
    }

    fn version(&self) -> u64 {
        self.rows.version()
    }

    // A watcher has each sample as soon as it is there: only what is asked for has an age worth telling.
    fn next_change(
        &self,
        kind: Kind,
        from: u64,
        visit: &mut dyn FnMut(Change<'_>),
    ) -> Result<Progress, Expired> {
        self.rows.next_change(kind, from, visit)
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Observed").finish_non_exhaustive()
    }
}
