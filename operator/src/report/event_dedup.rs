//! Deduplicates events: decides which changes are worth one. Pure.
//!
//! Conditions are compared with the stored ones. Each kubelet cause has its own events, one when it appears and one when
//! it is resolved, regardless of how long it lasts and how many nodes it affects.

use std::collections::BTreeMap;

use crds::{ConditionType, MetricsPipelineStatus, NodesWithCause, Reason};
use jiff::{SignedDuration, Timestamp};

use crate::assess::KubeletCause;
use crate::assess::diagnosis::name_of_code;

/// A cause is resolved when it has not occurred for this time. A cause that comes and goes between scrapes counts once.
const RESOLVED_AFTER: SignedDuration = SignedDuration::from_secs(20);

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewEvent {
    /// Whether the event is a warning.
    pub is_warning: bool,
    /// The event's reason.
    pub reason: String,
    /// The event's action.
    pub action: &'static str,
    /// The event's note.
    pub note: String,
    /// The related Node, if any.
    pub node: Option<String>,
}

/// Returns the events for conditions that changed status or reason. Causes in `kubelets` have events of their own.
#[must_use]
pub(super) fn conditions(
    old: &MetricsPipelineStatus,
    new: &MetricsPipelineStatus,
    kubelets: &[KubeletCause],
) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for kind in ConditionType::ALL {
        let Some(condition) = new.conditions.iter().find(|condition| condition.type_ == kind.as_str()) else {
            continue;
        };
        // They repeat the cause of another condition.
        if matches!(kind, ConditionType::Reconciling | ConditionType::Stalled) {
            continue;
        }
        let is = |reason: &Reason| reason.as_str() == condition.reason;
        // `Ready` repeats another condition's reason, except for these.
        let own = [Reason::Conflict, Reason::InvalidSpec, Reason::Deleting, Reason::AsExpected];
        if kind == ConditionType::Ready && !own.iter().any(is) {
            continue;
        }
        let transient = [Reason::WaitingForDependency, Reason::Progressing, Reason::Pending];
        let is_reportable = condition.status != "Unknown" && !transient.iter().any(is);
        let before = old.conditions.iter().find(|before| before.type_ == condition.type_);
        let is_same = before
            .is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
        let has_own_events = matches!(kind, ConditionType::KubeletsReachable | ConditionType::NodesCovered)
            && kubelets.iter().any(|kubelet| is(&kubelet.cause.reason));
        if is_same || !is_reportable || has_own_events {
            continue;
        }
        let good = condition.status == "True" && is(&Reason::AsExpected);
        events.push(NewEvent {
            is_warning: !good && !is(&Reason::Deleting),
            reason: if good { condition.type_.clone() } else { condition.reason.clone() },
            action: kind.as_str(),
            note: condition.message.clone(),
            node: None,
        });
    }
    events
}

/// The kubelet causes that were reported and are not resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct ReportedCauses {
    /// The UID of their MetricsPipeline.
    pipeline: String,
    causes: BTreeMap<String, ReportedCause>,
}

#[derive(Clone, Debug)]
struct ReportedCause {
    nodes: NodesWithCause,
    unseen_since: Option<Timestamp>,
}

impl ReportedCauses {
    /// Returns the events for new and resolved causes. `stored` are the causes in the status: after a restart of the
    /// operator they count as reported.
    pub(super) fn kubelets(
        &mut self,
        pipeline: &str,
        stored: &[NodesWithCause],
        now: &[KubeletCause],
        at: Timestamp,
    ) -> Vec<NewEvent> {
        if self.pipeline != pipeline {
            let reported =
                |nodes: &NodesWithCause| ReportedCause { nodes: nodes.clone(), unseen_since: None };
            self.causes = stored.iter().map(|nodes| (nodes.cause.clone(), reported(nodes))).collect();
            pipeline.clone_into(&mut self.pipeline);
        }
        let mut events = Vec::new();
        for KubeletCause { nodes, cause } in now {
            if let Some(reported) = self.causes.get_mut(&nodes.cause) {
                reported.unseen_since = None;
                continue;
            }
            events.push(NewEvent {
                is_warning: true,
                reason: cause.reason.as_str().to_owned(),
                action: "Scrape",
                note: cause.message(),
                node: nodes.nodes.first().cloned(),
            });
            let reported = ReportedCause { nodes: nodes.clone(), unseen_since: None };
            self.causes.insert(nodes.cause.clone(), reported);
        }
        self.causes.retain(|cause, reported| {
            if now.iter().any(|kubelet| kubelet.nodes.cause == *cause) {
                return true;
            }
            let since = *reported.unseen_since.get_or_insert(at);
            if at.duration_since(since) < RESOLVED_AFTER {
                return true;
            }
            events.push(resolved(&reported.nodes));
            false
        });
        events
    }
}

fn resolved(reported: &NodesWithCause) -> NewEvent {
    let (reason, what) = name_of_code(&reported.cause);
    NewEvent {
        is_warning: false,
        reason: format!("{reason}Resolved"),
        action: "Scrape",
        note: format!(
            "Resolved: {what} ({}). First reported for {}.",
            reported.cause,
            node_list(&reported.nodes)
        ),
        node: reported.nodes.first().cloned(),
    }
}

fn node_list(names: &[String]) -> String {
    let nodes = if names.len() == 1 { "node" } else { "nodes" };
    format!("{nodes} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::diagnosis::Severity;
    use crds::cause::ScrapeCause;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn failing(cause: ScrapeCause, count: usize) -> KubeletCause {
        affected(cause.as_str(), count)
    }

    fn affected(code: &str, count: usize) -> KubeletCause {
        KubeletCause {
            nodes: NodesWithCause {
                cause: code.to_owned(),
                count: i32::try_from(count).expect("a count"),
                nodes: (0..count.min(3)).map(|at| format!("node-{at}")).collect(),
            },
            cause: crate::assess::diagnosis::Cause {
                reason: name_of_code(code).0,
                severity: Severity::Fault,
                summary: "What.".to_owned(),
                evidence: "Evidence.".to_owned(),
                remedy: "Remedy.".to_owned(),
            },
        }
    }

    fn reasons(events: &[NewEvent]) -> Vec<&str> {
        events.iter().map(|event| event.reason.as_str()).collect()
    }

    #[test]
    fn reports_a_cause_when_it_appears_and_when_it_is_resolved() {
        let mut reported = ReportedCauses::default();
        let refused = [failing(ScrapeCause::ConnectionRefused, 1)];
        let first = reported.kubelets("u", &[], &refused, at(0));
        assert_eq!(reasons(&first), ["KubeletConnectionRefused"]);
        assert_eq!(
            (first[0].is_warning, first[0].node.as_deref(), first[0].note.as_str()),
            (true, Some("node-0"), "What. Evidence. Remedy.")
        );
        // Not again while it lasts, nor for more nodes.
        assert_eq!(
            reported.kubelets("u", &[], &[failing(ScrapeCause::ConnectionRefused, 5000)], at(600)),
            []
        );
        let both = [failing(ScrapeCause::ConnectionRefused, 1), failing(ScrapeCause::Dns, 2)];
        assert_eq!(reasons(&reported.kubelets("u", &[], &both, at(603))), ["KubeletDNSLookupFailed"]);
        assert_eq!(reported.kubelets("u", &[], &both[1..], at(606)), [], "not resolved yet");
        let resolved = reported.kubelets("u", &[], &both[1..], at(626));
        assert_eq!(reasons(&resolved), ["KubeletConnectionRefusedResolved"]);
        assert_eq!((resolved[0].is_warning, resolved[0].node.as_deref()), (false, Some("node-0")));
        assert_eq!(
            resolved[0].note,
            "Resolved: Connections to the kubelet's port are refused (connection_refused). First reported for node node-0."
        );
        assert_eq!(
            reasons(&reported.kubelets("u", &[], &both, at(630))),
            ["KubeletConnectionRefused"],
            "it occurs again"
        );
    }

    #[test]
    fn reports_an_intermittent_cause_once() {
        let mut reported = ReportedCauses::default();
        let mut count = 0;
        for round in 0..100 {
            let now =
                if round % 5 == 0 { vec![failing(ScrapeCause::ConnectionClosed, 1)] } else { Vec::new() };
            count += reported.kubelets("u", &[], &now, at(round * 3)).len();
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn reports_causes_of_samples_once_and_unknown_ones_by_their_code() {
        let mut reported = ReportedCauses::default();
        let now = [affected("clock_skew", 1), affected("cause_of_a_newer_version", 2)];
        let first = reported.kubelets("u", &[], &now, at(0));
        assert_eq!(reasons(&first), ["KubeletClockSkew", "KubeletSamplesFaulty"]);
        assert_eq!(first[1].node.as_deref(), Some("node-0"));
        assert_eq!(reported.kubelets("u", &[], &now, at(600)), []);
        assert_eq!(reported.kubelets("u", &[], &[], at(610)), []);
        let resolved = reported.kubelets("u", &[], &[], at(640));
        let notes: Vec<_> = resolved.iter().map(|event| event.note.as_str()).collect();
        assert!(notes[0].contains("(cause_of_a_newer_version)"), "{notes:?}");
        assert_eq!(reasons(&resolved), ["KubeletSamplesFaultyResolved", "KubeletClockSkewResolved"]);
    }

    #[test]
    fn a_restarted_operator_does_not_report_stored_causes_again() {
        let stored = [failing(ScrapeCause::ConnectionRefused, 2).nodes];
        let mut reported = ReportedCauses::default();
        assert_eq!(reported.kubelets("u", &stored, &[failing(ScrapeCause::ConnectionRefused, 2)], at(0)), []);
        assert_eq!(reported.kubelets("u", &stored, &[], at(1)), []);
        assert_eq!(
            reasons(&reported.kubelets("u", &stored, &[], at(21))),
            ["KubeletConnectionRefusedResolved"]
        );
        // Another MetricsPipeline starts without reported causes.
        let other = reported.kubelets("v", &[], &[failing(ScrapeCause::ConnectionRefused, 2)], at(22));
        assert_eq!(reasons(&other), ["KubeletConnectionRefused"]);
    }

    fn status(conditions: &[(ConditionType, &str, Reason)]) -> MetricsPipelineStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({ "type": kind.as_str(), "status": status, "reason": reason.as_str(), "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" })
            })
            .collect();
        serde_json::from_value(json!({ "conditions": conditions })).expect("a status")
    }

    #[test]
    fn reports_changed_conditions_but_not_kubelet_causes_twice() {
        use ConditionType::{APIServiceAvailable, KubeletsReachable, NodesCovered, Ready};
        let good = status(&[
            (Ready, "True", Reason::AsExpected),
            (APIServiceAvailable, "True", Reason::AsExpected),
            (KubeletsReachable, "True", Reason::AsExpected),
        ]);
        let bad = status(&[
            (Ready, "False", Reason::KubeletConnectionRefused),
            (APIServiceAvailable, "False", Reason::BlockedByNetworkPolicy),
            (KubeletsReachable, "False", Reason::KubeletConnectionRefused),
            (NodesCovered, "False", Reason::WaitingForDependency),
        ]);
        let refused = [failing(ScrapeCause::ConnectionRefused, 1)];
        assert_eq!(reasons(&conditions(&good, &bad, &refused)), ["BlockedByNetworkPolicy"]);
        assert_eq!(
            reasons(&conditions(&good, &bad, &[])),
            ["BlockedByNetworkPolicy", "KubeletConnectionRefused"]
        );
        assert_eq!(conditions(&bad, &bad, &[]), []);
        let stalled = status(&[
            (ConditionType::Reconciling, "True", Reason::Progressing),
            (ConditionType::Stalled, "True", Reason::BlockedByNetworkPolicy),
        ]);
        assert_eq!(conditions(&good, &stalled, &[]), []);
        let skewed = status(&[(NodesCovered, "True", Reason::KubeletClockSkew)]);
        assert_eq!(conditions(&good, &skewed, &[affected("clock_skew", 1)]), []);
        let resolved = conditions(&bad, &good, &[]);
        assert_eq!(reasons(&resolved), ["Ready", "APIServiceAvailable", "KubeletsReachable"]);
        assert!(resolved.iter().all(|event| !event.is_warning));
    }
}
