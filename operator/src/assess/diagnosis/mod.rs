//! Finds one cause for each symptom, from the status that kube-apiserver reports, the reports of the metrics-core replicas
//! and other objects in the cluster. Pure.
//!
//! [`diagnose`] follows a request: does metrics-core accept kube-apiserver as the front proxy ([`front_proxy`]), does
//! kube-apiserver reach metrics-core ([`path`]), does metrics-core know the current nodes and pods ([`discovery`]), do kubelets
//! respond ([`kubelets`]), and are their samples complete and plausible ([`samples`]). A fault in an earlier step suppresses
//! the steps that it explains. If the cause is unknown, the message states what is known and what was ruled out.

mod discovery;
pub(crate) mod front_proxy;
pub(crate) mod kubelets;
mod network_policy;
pub(crate) mod path;
pub(crate) mod samples;

use std::collections::BTreeMap;

use crds::cause::{SampleCause, ScrapeCause};
use crds::{MetricsPipelineSpec, Reason};
use jiff::Timestamp;

use crate::common::normalize::quote;
use crate::observe::{Observed, Symptoms};
use crate::plan::objects::selector;

/// The input of a diagnosis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiagnosisInput<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// The desired state.
    pub spec: &'a MetricsPipelineSpec,
    /// The observed state.
    pub observed: &'a Observed,
    /// The time of the diagnosis.
    pub now: Timestamp,
}

/// The severity of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Metrics are not served because of it.
    Fault,
    /// Metrics are served, but the cause needs attention.
    Warning,
}

/// A cause with its evidence and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The machine-readable reason.
    pub reason: Reason,
    /// The severity.
    pub severity: Severity,
    /// The cause as a sentence, naming the object.
    pub summary: String,
    /// The evidence, in full sentences; may be empty.
    pub evidence: String,
    /// The remedy: commands to run, fields or flags to change.
    pub remedy: String,
}

impl Cause {
    fn new(
        reason: Reason,
        severity: Severity,
        summary: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { reason, severity, summary: summary.into(), evidence: evidence.into(), remedy: remedy.into() }
    }

    fn fault(
        reason: Reason,
        summary: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(reason, Severity::Fault, summary, evidence, remedy)
    }

    fn warning(
        reason: Reason,
        summary: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(reason, Severity::Warning, summary, evidence, remedy)
    }

    /// Returns cause, evidence and remedy as one message.
    #[must_use]
    pub(crate) fn message(&self) -> String {
        let parts = [&self.summary, &self.evidence, &self.remedy];
        parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// The causes found on the path of a metrics request, at most one for each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// metrics-core does not accept kube-apiserver as the front proxy.
    pub front_proxy: Option<Cause>,
    /// kube-apiserver does not reach the pods.
    pub path: Option<Cause>,
    /// metrics-core receives no changes from kube-apiserver.
    pub discovery: Option<Cause>,
    /// metrics-core cannot scrape kubelets.
    pub kubelets: Option<Cause>,
    /// Kubelets respond with incomplete or wrong samples.
    pub samples: Option<Cause>,
}

/// Returns the reason and a description of a cause in `status.nodes.causes`, by its code. The codes of failed scrapes and
/// of faulty samples are different but for `resource_scrape_error`, which means the same as both.
#[must_use]
pub(crate) fn name_of_code(code: &str) -> (Reason, &'static str) {
    let scrape = ScrapeCause::from_code(code);
    // An unknown code is one of samples: unknown codes of scrapes are stored as `other`.
    if scrape.as_str() == code { kubelets::name(scrape) } else { samples::name(SampleCause::from_code(code)) }
}

/// Quotes kube-apiserver without the addresses of pods, so that the text does not depend on the replica that it connected
/// to.
fn quote_apiserver(input: DiagnosisInput<'_>, message: &str) -> String {
    let mut text = message.to_owned();
    let pods = &input.observed.pods;
    let addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref());
    for address in addresses.filter(|_| pods.len() > 1) {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        for before in ["/", ">", " "] {
            text = text.replace(&format!("{before}{host}:"), &format!("{before}POD:"));
        }
    }
    quote(&text)
}

/// Returns the labels of the metrics-core pods. A NetworkPolicy may select by any of them.
fn pod_labels(input: DiagnosisInput<'_>) -> BTreeMap<String, String> {
    input.observed.pods.iter().find_map(|pod| pod.metadata.labels.clone()).unwrap_or_else(selector)
}

/// Diagnoses each step of a metrics request, in order.
#[must_use]
pub(crate) fn diagnose(input: DiagnosisInput<'_>) -> Diagnosis {
    let symptoms = &input.observed.facts.symptoms;
    let front_proxy = front_proxy::diagnose(input, symptoms);
    let explained = front_proxy.as_ref().is_some_and(|cause| cause.severity == Severity::Fault);
    Diagnosis {
        path: if explained { None } else { path::diagnose(input, symptoms) },
        discovery: discovery::diagnose(input),
        kubelets: kubelets::diagnose(input),
        samples: samples::diagnose(input),
        front_proxy,
    }
}

#[cfg(test)]
mod tests;
