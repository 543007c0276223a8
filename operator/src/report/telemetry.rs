//! The metrics of the operator and of what it manages, in OpenMetrics.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use crds::cause::{SampleCause, ScrapeCause};
use crds::{ConditionType, MetricsPipelineStatus, NodesWithCause, Reason};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::common::quantity::nanos;
use crate::nanny::resize::{is_active, spec_resources};
use crate::pki;
use crate::plan::Sizing;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfObject {
    kind: String,
    name: String,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCondition {
    metricspipeline: String,
    r#type: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    metricspipeline: String,
    r#type: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCertificate {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSize {
    size: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

/// The metrics of the operator and of what it manages.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<OfResult, Counter<u64, AtomicU64>>,
    duration: Histogram,
    writes: Family<OfObject, Counter<u64, AtomicU64>>,
    conditions: Family<OfCondition, Gauge<i64, AtomicI64>>,
    exposed: Arc<Mutex<HashSet<OfCondition>>>,
    causes: Family<OfReason, Gauge<i64, AtomicI64>>,
    /// The labels that are exposed, to remove them when their reason is over.
    exposed_causes: Arc<Mutex<HashSet<OfReason>>>,
    expiry: Family<OfCertificate, Gauge<i64, AtomicI64>>,
    renewal: Family<OfCertificate, Gauge<i64, AtomicI64>>,
    failing_nodes: Family<OfCause, Gauge<i64, AtomicI64>>,
    signing_requests: Family<OfResult, Counter<u64, AtomicU64>>,
    leader: Gauge<i64, AtomicI64>,
    resizes: Family<OfOutcome, Counter<u64, AtomicU64>>,
    size_cpu: Family<OfSize, Gauge<f64, AtomicU64>>,
    size_memory: Family<OfSize, Gauge<i64, AtomicI64>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let telemetry = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            duration: Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0]),
            writes: Family::default(),
            conditions: Family::default(),
            exposed: Arc::default(),
            causes: Family::default(),
            exposed_causes: Arc::default(),
            expiry: Family::default(),
            renewal: Family::default(),
            failing_nodes: Family::default(),
            signing_requests: Family::default(),
            leader: Gauge::default(),
            resizes: Family::default(),
            size_cpu: Family::default(),
            size_memory: Family::default(),
        };
        let mut registry = telemetry.registry.lock();
        let own = registry.sub_registry_with_prefix("metrics_pipeline");
        own.register("operator_reconciles", "Number of reconciles, by result", telemetry.reconciles.clone());
        own.register_with_unit(
            "operator_reconcile_duration",
            "Duration of a reconcile in seconds",
            Unit::Seconds,
            telemetry.duration.clone(),
        );
        own.register("operator_writes", "Number of objects applied and deleted", telemetry.writes.clone());
        own.register(
            "operator_kubelet_signing_requests",
            "CertificateSigningRequests of kubelets, by result: approved, or the reason for not approving",
            telemetry.signing_requests.clone(),
        );
        own.register(
            "operator_leader",
            "1 if this process holds the Lease, 0 if not",
            telemetry.leader.clone(),
        );
        own.register(
            "condition",
            "Conditions of each MetricsPipeline: 1 for the current status",
            telemetry.conditions.clone(),
        );
        own.register(
            "cause",
            "Reason of each condition that is not True or has a warning: 1 for the current reason",
            telemetry.causes.clone(),
        );
        own.register_with_unit(
            "certificate_expiry_timestamp",
            "Expiry of each certificate in seconds since the Unix epoch",
            Unit::Seconds,
            telemetry.expiry.clone(),
        );
        own.register_with_unit(
            "certificate_renewal_timestamp",
            "Time at which the operator renews each certificate, in seconds since the Unix epoch",
            Unit::Seconds,
            telemetry.renewal.clone(),
        );
        own.register(
            "nanny_resizes",
            "Number of changes of the resources of metrics-core, by outcome: in_place, rollout, refused, drift",
            telemetry.resizes.clone(),
        );
        own.register(
            "nanny_cpu_cores",
            "CPU request of metrics-core: recommended, and applied to its pods",
            telemetry.size_cpu.clone(),
        );
        own.register_with_unit(
            "nanny_memory",
            "Memory request of metrics-core: recommended, and applied to its pods",
            Unit::Bytes,
            telemetry.size_memory.clone(),
        );
        own.register(
            "nodes_failing",
            "Number of nodes whose kubelet can't be scraped or returns incomplete or wrong samples, by cause",
            telemetry.failing_nodes.clone(),
        );
        drop(registry);
        telemetry
    }
}

impl Telemetry {
    /// Counts a reconcile.
    pub(crate) fn reconciled(&self, good: bool, took: Duration) {
        let result = if good { "success" } else { "error" };
        self.reconciles.get_or_create(&OfResult { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a write.
    pub(crate) fn wrote(&self, object: crate::common::ManagedObject, verb: &'static str) {
        let labels = OfObject { kind: object.resource().kind, name: object.name().to_owned(), verb };
        self.writes.get_or_create(&labels).inc();
    }

    /// Counts a kubelet's CertificateSigningRequest.
    pub(crate) fn signing_request(&self, result: &'static str) {
        self.signing_requests.get_or_create(&OfResult { result }).inc();
    }

    /// Sets whether this process holds the Lease.
    pub(crate) fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts a change of resources.
    pub(crate) fn resized(&self, outcome: &'static str) {
        self.resizes.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// Sets the recommended size, and the largest one that a pod requests.
    pub(crate) fn sizes(&self, sizing: &Sizing, pods: &[Pod]) {
        let Some(recommended) = &sizing.recommended else {
            self.size_cpu.clear();
            self.size_memory.clear();
            return;
        };
        let recommended = (Some(recommended.size.cpu), i64::try_from(recommended.size.memory).ok());
        let of = |pod: &Pod, key: &str, unit: i128| {
            let amount = spec_resources(pod)?.requests.as_ref()?.get(key)?;
            nanos(&amount.0).map(|amount| amount / unit)
        };
        let most = |key: &str, unit: i128| {
            pods.iter().filter(|pod| is_active(pod)).filter_map(|pod| of(pod, key, unit)).max()
        };
        let applied = (
            most("cpu", 1_000_000).and_then(|cpu| u64::try_from(cpu).ok()),
            most("memory", 1_000_000_000).and_then(|memory| i64::try_from(memory).ok()),
        );
        for (size, (cpu, memory)) in [("recommended", recommended), ("applied", applied)] {
            if let Some(cpu) = cpu.and_then(|cpu| u32::try_from(cpu).ok()) {
                self.size_cpu.get_or_create(&OfSize { size }).set(f64::from(cpu) / 1000.0);
            }
            if let Some(memory) = memory {
                self.size_memory.get_or_create(&OfSize { size }).set(memory);
            }
        }
    }

    /// Removes the conditions of every MetricsPipeline but these, and the certificates when there is none: an alert on their
    /// expiry must not outlive them.
    pub(crate) fn keep_only<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names: BTreeSet<&str> = names.collect();
        if names.is_empty() {
            self.expiry.clear();
            self.renewal.clear();
            self.size_cpu.clear();
            self.size_memory.clear();
            self.failing_nodes.clear();
        }
        self.exposed.lock().retain(|labels| {
            let keep = names.contains(labels.metricspipeline.as_str());
            if !keep {
                self.conditions.remove(labels);
            }
            keep
        });
        self.exposed_causes.lock().retain(|labels| {
            let keep = names.contains(labels.metricspipeline.as_str());
            if !keep {
                self.causes.remove(labels);
            }
            keep
        });
    }

    /// Sets the conditions of a MetricsPipeline.
    pub(crate) fn conditions(&self, name: &str, status: &MetricsPipelineStatus) {
        for condition in &status.conditions {
            for one in ["True", "False", "Unknown"] {
                let labels = OfCondition {
                    metricspipeline: name.to_owned(),
                    r#type: condition.type_.clone(),
                    status: one,
                };
                self.conditions.get_or_create(&labels).set(i64::from(condition.status == one));
                self.exposed.lock().insert(labels);
            }
        }
        self.causes(name, status);
    }

    /// Sets the reasons of a MetricsPipeline's conditions, except reasons without a cause: AsExpected, those of conditions that
    /// wait for another one, and progress. Reasons are an enumeration, so the cardinality is bounded.
    fn causes(&self, name: &str, status: &MetricsPipelineStatus) {
        const NO_CAUSE: [Reason; 4] =
            [Reason::AsExpected, Reason::WaitingForDependency, Reason::Progressing, Reason::Pending];
        const SUMMARIES: [ConditionType; 3] =
            [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled];
        let now: HashSet<_> = status
            .conditions
            .iter()
            // These repeat the reason of another condition.
            .filter(|condition| !SUMMARIES.iter().any(|summary| summary.as_str() == condition.type_))
            .filter(|condition| NO_CAUSE.iter().all(|reason| reason.as_str() != condition.reason))
            .map(|condition| OfReason {
                metricspipeline: name.to_owned(),
                r#type: condition.type_.clone(),
                reason: condition.reason.clone(),
            })
            .collect();
        let mut caused = self.exposed_causes.lock();
        caused.retain(|labels| {
            let keep = labels.metricspipeline != name || now.contains(labels);
            if !keep {
                self.causes.remove(labels);
            }
            keep
        });
        for labels in now {
            self.causes.get_or_create(&labels).set(1);
            caused.insert(labels);
        }
    }

    /// Sets when certificates expire and are renewed.
    pub(crate) fn certificates(
        &self,
        plan: Option<&pki::ServingPlan>,
        front_proxy: Option<&pki::front_proxy::FrontProxyPlan>,
    ) {
        let certificates = [
            ("ca", plan.map(|plan| &plan.ca_certificate)),
            ("serving", plan.map(|plan| &plan.serving_certificate)),
            ("front_proxy_ca", front_proxy.map(|plan| &plan.ca_certificate)),
            ("front_proxy", front_proxy.map(|plan| &plan.client_certificate)),
        ];
        for (certificate, value) in certificates {
            let labels = OfCertificate { certificate };
            let is_foreign =
                !certificate.starts_with("front_proxy") && plan.is_some_and(|plan| plan.ca.is_none());
            if let Some(value) = value {
                self.expiry.get_or_create(&labels).set(value.not_after.as_second());
                if is_foreign {
                    self.renewal.remove(&labels);
                } else {
                    self.renewal.get_or_create(&labels).set(value.renewal_time().as_second());
                }
            } else if certificate.starts_with("front_proxy") {
                // Not requested. Certificates that could not be planned stay, to be alerted on.
                self.expiry.remove(&labels);
                self.renewal.remove(&labels);
            }
        }
    }

    /// Sets the count of nodes by cause. The cardinality is bounded: codes that this version does not know are `other`.
    pub(crate) fn failing_nodes(&self, causes: &[NodesWithCause]) {
        self.failing_nodes.clear();
        for nodes in causes {
            let scrape = ScrapeCause::from_code(&nodes.cause).as_str();
            let is_scrape = scrape == nodes.cause;
            let cause = if is_scrape { scrape } else { SampleCause::from_code(&nodes.cause).as_str() };
            self.failing_nodes.get_or_create(&OfCause { cause }).inc_by(i64::from(nodes.count));
        }
    }

    /// Encodes all metrics as text.
    #[must_use]
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        _ = encode(&mut text, &self.registry.lock());
        text
    }
}

#[cfg(test)]
mod tests;
