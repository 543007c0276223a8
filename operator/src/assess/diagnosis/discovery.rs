//! Diagnoses replicas of metrics-core that receive no changes from kube-apiserver, from their reports.

use std::collections::BTreeSet;

use crds::Reason;
use crds::report::{Report, WatchTarget};

use super::{Cause, DiagnosisInput, Severity};
use crate::common::METRICS_CORE;
use crate::observe::ReplicaReport;

/// The maximum age in seconds. kube-apiserver confirms every half minute what a watch knows.
const MAX_AGE_SECONDS: u64 = 60;
/// The maximum count of replicas that are named.
const NAMED: usize = 3;

/// Returns the cause, if any: a fault if no replica knows the current nodes and pods, and a warning otherwise.
pub(super) fn diagnose(input: DiagnosisInput<'_>) -> Option<Cause> {
    let replicas = &input.observed.replicas;
    let reporting = || replicas.iter().filter_map(|replica| Some((replica, replica.report.as_ref().ok()?)));
    let stale: Vec<_> = reporting().filter(|(_, report)| stale(report).next().is_some()).collect();
    let (first, _) = stale.first()?;
    let targets: BTreeSet<_> = stale.iter().flat_map(|(_, report)| self::stale(report)).collect();
    let none_is_current = reporting().all(|(_, report)| self::stale(report).any(affects_metrics));
    Some(Cause {
        reason: Reason::DiscoveryStale,
        severity: if none_is_current { Severity::Fault } else { Severity::Warning },
        summary: format!(
            "metrics-core has received nothing from kube-apiserver about {} for more than a minute in {}.",
            join(targets.iter().map(|target| describe(*target))),
            pods(&stale),
        ),
        evidence: consequences(&targets),
        remedy: format!(
            "Run `kubectl logs {} --namespace {}` for the error. Check that the node of this pod reaches every \
             kube-apiserver, and that each of them responds (`kubectl get --raw /readyz`).",
            first.pod, input.namespace
        ),
    })
}

/// Returns the watches of a replica that are stale. A code of a newer metrics-core is [`None`].
fn stale(report: &Report) -> impl Iterator<Item = Option<WatchTarget>> {
    let old = report.watches.iter().filter(|watch| watch.age_seconds > MAX_AGE_SECONDS);
    old.map(|watch| WatchTarget::from_code(&watch.watch))
}

fn affects_metrics(target: Option<WatchTarget>) -> bool {
    matches!(target, Some(WatchTarget::Nodes | WatchTarget::Pods))
}

fn describe(target: Option<WatchTarget>) -> &'static str {
    match target {
        Some(WatchTarget::Nodes) => "nodes",
        Some(WatchTarget::Pods) => "pods",
        Some(WatchTarget::AuthenticationConfig) => "ConfigMap extension-apiserver-authentication",
        Some(WatchTarget::ServingCertificate) => "the serving certificate",
        None => "other objects",
    }
}

/// Returns what no longer works, in full sentences.
fn consequences(targets: &BTreeSet<Option<WatchTarget>>) -> String {
    let mut sentences: Vec<_> = targets.iter().map(|target| consequence(*target)).collect();
    sentences.dedup();
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

fn consequence(target: Option<WatchTarget>) -> &'static str {
    match target {
        Some(WatchTarget::Nodes | WatchTarget::Pods) => "New nodes and pods have no metrics there.",
        Some(WatchTarget::AuthenticationConfig) => "A renewed front-proxy CA is not accepted there.",
        Some(WatchTarget::ServingCertificate) => "A renewed serving certificate is not used there.",
        None => "",
    }
}

/// Names the pods: `pod a`, `pods a, b and 2 more`.
fn pods<T>(stale: &[(&ReplicaReport, T)]) -> String {
    let mut names: Vec<_> = stale.iter().map(|(replica, _)| replica.pod.as_str()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let noun = if names.len() == 1 { "pod" } else { "pods" };
    let suffix = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{noun} {}{suffix} of {METRICS_CORE}", names.join(", "))
}

/// Joins words: `a`, `a and b`, `a, b and c`.
fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    }
}
