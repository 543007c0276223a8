//! Metrics of requests, under the names of k8s.io/apiserver.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::server::request_info::RequestInfo;

/// What a request was, of few values each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    scope: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Total {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    scope: &'static str,
    code: u16,
}

impl RequestLabels {
    /// Clients choose paths, so all that is not ours becomes empty.
    #[must_use]
    pub fn of(request: &RequestInfo) -> Self {
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

/// The metrics.
#[derive(Clone)]
pub struct RequestMetrics {
    total: Family<Total, Counter>,
    duration: Family<RequestLabels, Histogram>,
    in_flight: Gauge,
    watches: Gauge,
    turned_away: Counter,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
        Self {
            total: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
            turned_away: Counter::default(),
        }
    }
}

impl RequestMetrics {
    /// Adds them to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_request",
            "Requests by what they asked for and the code of the answer",
            self.total.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from a request's headers to the last byte of its answer, in seconds",
            self.duration.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being answered, but for watches",
            self.in_flight.clone(),
        );
        registry.register("apiserver_longrunning_requests", "Open watches", self.watches.clone());
        registry.register(
            "metrics_core_requests_turned_away",
            "Requests answered with 429 as too many were being answered",
            self.turned_away.clone(),
        );
    }

    /// A request has begun; watches are counted apart.
    pub fn begun(&self, watch: bool) {
        self.open(watch).inc();
    }

    fn open(&self, watch: bool) -> &Gauge {
        if watch { &self.watches } else { &self.in_flight }
    }

    /// A request was turned away with 429.
    pub fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A request has ended, with its answer's code.
    pub fn ended(&self, labels: &RequestLabels, code: u16, took: Duration, watch: bool) {
        self.open(watch).dec();
        let RequestLabels { verb, group, version, resource, scope } = *labels;
        self.total.get_or_create(&Total { verb, group, version, resource, scope, code }).inc();
        self.duration.get_or_create(labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::RequestLabels;
    use crate::server::request_info::RequestInfo;

    #[test]
    fn what_clients_invent_makes_no_series() {
        let invented = RequestInfo {
            is_resource_request: true,
            verb: "list",
            api_group: "evil.example".into(),
            api_version: "v9".into(),
            resource: "things".into(),
            ..RequestInfo::default()
        };
        let labels = RequestLabels::of(&invented);
        assert_eq!(
            (labels.verb, labels.group, labels.version, labels.resource, labels.scope),
            ("LIST", "", "", "", "")
        );
        let pods = RequestInfo {
            api_group: "metrics.k8s.io".into(),
            api_version: "v1beta1".into(),
            resource: "pods".into(),
            namespace: "a".into(),
            ..invented
        };
        let labels = RequestLabels::of(&pods);
        assert_eq!((labels.version, labels.resource, labels.scope), ("v1beta1", "pods", "namespace"));
    }
}
