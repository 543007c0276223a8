//! One cause for each symptom: joins what kube-apiserver says, what the replicas of metrics-core tell of
//! themselves, and what stands in the cluster. Pure.
//!
//! The way of a request is judged in its order: is kube-apiserver known as the front proxy ([`front_proxy`]),
//! does it get through to metrics-core ([`path`]), do kubelets answer ([`kubelets`]). A later part is never
//! blamed for what an earlier one explains. What can't be known is not guessed: then the message says what is
//! known and what was ruled out.

pub mod front_proxy;
pub mod kubelets;
mod network_policy;
pub mod path;

use std::collections::BTreeMap;

use crds::{MetricsPipelineSpec, Reason};
use jiff::Timestamp;

use crate::common::normalize::quote;
use crate::observe::{Observed, Symptoms};
use crate::plan::objects::selector;

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosisInput<'a> {
    /// The operator's namespace.
    pub namespace: &'a str,
    /// What was asked for.
    pub spec: &'a MetricsPipelineSpec,
    /// What is there.
    pub observed: &'a Observed,
    /// The time of the judgement.
    pub now: Timestamp,
}

/// How bad a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing works because of it.
    Fault,
    /// It works, but somebody should look.
    Warning,
}

/// A cause: what it is, what shows it, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In a word.
    pub reason: Reason,
    /// How bad.
    pub severity: Severity,
    /// The cause as a sentence, naming the object.
    pub what: String,
    /// What shows it, as a sentence; may be empty.
    pub evidence: String,
    /// What to run, and what to ask whom.
    pub remedy: String,
}

impl Cause {
    fn new(
        reason: Reason,
        severity: Severity,
        what: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { reason, severity, what: what.into(), evidence: evidence.into(), remedy: remedy.into() }
    }

    fn fault(
        reason: Reason,
        what: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(reason, Severity::Fault, what, evidence, remedy)
    }

    fn warning(
        reason: Reason,
        what: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(reason, Severity::Warning, what, evidence, remedy)
    }

    /// Cause, evidence, remedy.
    #[must_use]
    pub fn message(&self) -> String {
        let parts = [&self.what, &self.evidence, &self.remedy];
        parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// What is wrong on the way from a kubelet to the client, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Between kube-apiserver and whom metrics-core believes.
    pub front_proxy: Option<Cause>,
    /// Between kube-apiserver and the pods.
    pub path: Option<Cause>,
    /// Between metrics-core and the kubelets.
    pub kubelets: Option<Cause>,
}

/// What kube-apiserver says, the same whichever of several replicas it happened to ask.
fn said(facts: DiagnosisInput<'_>, words: &str) -> String {
    let mut said = words.to_owned();
    let pods = &facts.observed.pods;
    let addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref());
    for address in addresses.filter(|_| pods.len() > 1) {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        for before in ["/", ">", " "] {
            said = said.replace(&format!("{before}{host}:"), &format!("{before}POD:"));
        }
    }
    quote(&said)
}

/// The labels of the pods of metrics-core: those they bear, as a policy may select by any of them.
fn pod_labels(facts: DiagnosisInput<'_>) -> BTreeMap<String, String> {
    facts.observed.pods.iter().find_map(|pod| pod.metadata.labels.clone()).unwrap_or_else(selector)
}

/// Judges the way of a request, in its order.
#[must_use]
pub fn diagnose(facts: DiagnosisInput<'_>) -> Diagnosis {
    let symptoms = &facts.observed.facts.symptoms;
    let front_proxy = front_proxy::diagnose(facts, symptoms);
    let explained = front_proxy.as_ref().is_some_and(|cause| cause.severity == Severity::Fault);
    Diagnosis {
        path: if explained { None } else { path::diagnose(facts, symptoms) },
        kubelets: kubelets::diagnose(facts),
        front_proxy,
    }
}

#[cfg(test)]
mod tests;
