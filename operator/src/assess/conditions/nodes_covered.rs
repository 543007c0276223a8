//! `NodesCovered`: every selected node has metrics.

use crds::{ConditionType, Reason};
use jiff::SignedDuration;

use super::kubelets::is_partial;
use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::Diagnosis;
use crate::common::METRICS_CORE;

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
    let counts = format!("{} of {} nodes have metrics", nodes.covered, nodes.total);
    if nodes.covered >= nodes.total {
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, format!("{counts}."));
    }
    let named: Vec<_> = evidence.observed.facts.failing.iter().map(super::named).collect();
    let condition = if !named.is_empty() && diagnosis.kubelets.is_some() {
        let message = format!(
            "{counts}. Failing nodes by cause: {}. See KubeletsReachable for the remedy.",
            named.join("; ")
        );
        Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message)
    } else {
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
    };
    if is_partial(nodes) { condition.non_blocking() } else { condition }
}
