//! Metrics of requests, under the names of k8s.io/apiserver.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::server::request_info::RequestInfo;

/// The labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestTotalLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    scope: &'static str,
    code: u16,
}

impl RequestLabels {
    /// Returns the labels of a request. Clients choose paths, so foreign values become empty: the number of series is
    /// bounded.
    #[must_use]
    pub(super) fn of(request: &RequestInfo) -> Self {
        let verb = match request.verb {
            known @ ("get" | "list" | "watch" | "create" | "update" | "patch" | "delete"
            | "deletecollection") => upper(known),
            "post" => "POST",
            "put" => "PUT",
            "head" => "HEAD",
            "options" => "OPTIONS",
            _ => "other",
        };
        let ours = request.is_resource_request && request.api_group == "metrics.k8s.io";
        let resource = match request.resource.as_str() {
            "nodes" if ours => "nodes",
            "pods" if ours => "pods",
            _ => "",
        };
        let version = match request.api_version.as_str() {
            "v1" if ours => "v1",
            "v1beta1" if ours => "v1beta1",
            _ => "",
        };
        let scope = match (resource, request.name.is_empty(), request.namespace.is_empty()) {
            ("", _, _) => "",
            (_, false, _) => "resource",
            (_, true, false) => "namespace",
            (_, true, true) => "cluster",
        };
        Self { verb, group: if ours { "metrics.k8s.io" } else { "" }, version, resource, scope }
    }
}

fn upper(verb: &'static str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    }
}

/// The metrics. Clones share their content.
#[derive(Clone)]
pub struct RequestMetrics {
    total: Family<RequestTotalLabels, Counter>,
    duration: Family<RequestLabels, Histogram>,
    in_flight: Gauge,
    watches: Gauge,
    rejected: Counter,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
        Self {
            total: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
            rejected: Counter::default(),
        }
    }
}

impl RequestMetrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_request",
            "Requests by verb, group, version, resource, scope and response code",
            self.total.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from the headers of a request to the last byte of its response in seconds",
            self.duration.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests in flight, without watches",
            self.in_flight.clone(),
        );
        registry.register("apiserver_longrunning_requests", "Open watches", self.watches.clone());
        registry.register(
            "metrics_core_requests_turned_away",
            "Requests rejected with 429 because too many were in flight",
            self.rejected.clone(),
        );
    }

    /// Counts the start of a request.
    pub(super) fn started(&self) {
        self.in_flight.inc();
    }

    /// Counts a request as a watch from now on.
    pub(super) fn became_watch(&self) {
        self.in_flight.dec();
        self.watches.inc();
    }

    /// Counts a request that is rejected with 429.
    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }

    /// Counts the end of a request with the code of its response.
    pub(super) fn ended(&self, labels: &RequestLabels, code: u16, took: Duration, watch: bool) {
        if watch { &self.watches } else { &self.in_flight }.dec();
        let RequestLabels { verb, group, version, resource, scope } = *labels;
        self.total.get_or_create(&RequestTotalLabels { verb, group, version, resource, scope, code }).inc();
        self.duration.get_or_create(labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::RequestLabels;
    use crate::server::request_info::RequestInfo;

    #[test]
    fn foreign_values_create_no_series() {
        let foreign = RequestInfo {
            is_resource_request: true,
            verb: "list",
            api_group: "evil.example".into(),
            api_version: "v9".into(),
            resource: "things".into(),
            ..RequestInfo::default()
        };
        let labels = RequestLabels::of(&foreign);
        assert_eq!(
            (labels.verb, labels.group, labels.version, labels.resource, labels.scope),
            ("LIST", "", "", "", "")
        );
        let pods = RequestInfo {
            api_group: "metrics.k8s.io".into(),
            api_version: "v1beta1".into(),
            resource: "pods".into(),
            namespace: "a".into(),
            ..foreign
        };
        let labels = RequestLabels::of(&pods);
        assert_eq!((labels.version, labels.resource, labels.scope), ("v1beta1", "pods", "namespace"));
    }
}
