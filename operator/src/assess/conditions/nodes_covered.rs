//! `NodesCovered`: every selected node has metrics, and they are complete and plausible.

use crds::cause::SampleCause;
use crds::{ConditionType, Reason};
use jiff::SignedDuration;

use super::kubelets::{is_partial, is_tolerated};
use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::{Cause, Diagnosis, Severity};
use crate::common::METRICS_CORE;
use crate::observe::{Coverage, FaultySamples};

/// The grace period for new nodes: a node has metrics after two scrapes.
const NEW: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Condition {
    let of = ConditionType::NodesCovered;
    let Some(nodes) = evidence.observed.facts.coverage else {
        let message =
            "Node coverage is unknown until metrics-core reports. See KubeletsReachable for the cause.";
        let condition = Condition::new(of, ConditionStatus::Unknown, Reason::WaitingForDependency, message);
        let ready = evidence.observed.replicas.iter().any(|replica| replica.ready);
        return if ready { condition.non_blocking() } else { condition };
    };
    let condition = match &diagnosis.samples {
        Some(cause) if cause.severity == Severity::Fault => faulty(evidence, nodes, cause),
        samples => {
            let causes = diagnosis.discovery.iter().chain(samples);
            causes.fold(by_coverage(evidence, nodes, diagnosis), with_cause)
        }
    };
    let affected =
        evidence.observed.facts.faulty_samples.iter().map(affected_nodes).max().unwrap_or_default();
    let is_partial = (nodes.covered >= nodes.total || is_partial(nodes))
        && (affected == 0 || is_tolerated(affected, nodes.total));
    let is_served = condition.reason == Reason::DiscoveryStale;
    if is_partial || is_served { condition.non_blocking() } else { condition }
}

/// Adds a cause that leaves the metrics of all known nodes and pods available: as the reason if there is none yet.
fn with_cause(mut condition: Condition, cause: &Cause) -> Condition {
    if condition.reason == Reason::AsExpected {
        return Condition::cause(ConditionType::NodesCovered, cause);
    }
    condition.message.push(' ');
    condition.message.push_str(&cause.summary);
    condition
}

/// Returns how many nodes as a whole have no metrics or wrong ones because of a cause. Causes that affect single pods
/// count none: however many nodes have one, the pipeline as a whole serves metrics. A node of which no sample is served at
/// all is not covered anyway.
fn affected_nodes(samples: &FaultySamples) -> usize {
    match samples.cause {
        SampleCause::ScrapeError | SampleCause::NoContainers => samples.nodes,
        // One of the Nodes of an address is the right one.
        SampleCause::DuplicateAddress => samples.nodes / 2,
        _ => 0,
    }
}

/// Returns the condition for faulty samples.
fn faulty(evidence: Evidence<'_>, nodes: Coverage, cause: &Cause) -> Condition {
    let condition = Condition::cause(ConditionType::NodesCovered, cause);
    if nodes.covered >= nodes.total {
        return condition;
    }
    let parts = [condition.message.as_str(), &format!("{}.", counts(nodes)), &failing(evidence)].join(" ");
    Condition { message: parts.trim_end().to_owned(), ..condition }
}

fn counts(nodes: Coverage) -> String {
    format!("{} of {} nodes have metrics", nodes.covered, nodes.total)
}

/// Names the nodes that can't be scraped; an empty string if there are none.
fn failing(evidence: Evidence<'_>) -> String {
    let named: Vec<_> = evidence.observed.facts.failing.iter().map(super::named).collect();
    if named.is_empty() {
        return String::new();
    }
    format!("Failing nodes by cause: {}. See KubeletsReachable for the remedy.", named.join("; "))
}

/// Returns the condition for the number of nodes with metrics.
fn by_coverage(evidence: Evidence<'_>, nodes: Coverage, diagnosis: &Diagnosis) -> Condition {
    let of = ConditionType::NodesCovered;
    let counts = counts(nodes);
    if nodes.covered >= nodes.total {
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, format!("{counts}."));
    }
    let failing = failing(evidence);
    if !failing.is_empty() && diagnosis.kubelets.is_some() {
        let message = format!("{counts}. {failing}");
        return Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message);
    }
    let since = evidence.observed.uncovered_since;
    let long = since.is_some_and(|since| evidence.now.duration_since(since) > NEW);
    if nodes.covered > 0 && !long {
        let message = "New nodes have metrics after their second scrape.";
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    }
    if nodes.covered == 0 {
        let message = format!("{counts}. A node has metrics after its second scrape.");
        return Condition::new(of, ConditionStatus::False, Reason::Progressing, message);
    }
    let message = format!(
        "{counts}. Scrapes of the other nodes do not fail but return no samples. Compare `kubectl top nodes` with \
         `kubectl get nodes`, and run `kubectl logs deployment/{METRICS_CORE} --namespace {}`.",
        evidence.namespace
    );
    Condition::new(of, ConditionStatus::False, Reason::NodeMetricsMissing, message)
}
