//! What is new since what was last told: the events that are worth one. Pure.
//!
//! Conditions are compared with those that are stored. Of kubelets each cause is told apart from the others, once when
//! it appears and once when it is over, however many rounds it lasts and however many nodes it befalls.

use std::collections::BTreeMap;

use crds::cause::ScrapeCause;
use crds::{ConditionType, MetricsPipelineStatus, NodesWithCause, Reason};
use jiff::{SignedDuration, Timestamp};

use crate::assess::KubeletCause;
use crate::assess::diagnosis::kubelets::name;

/// A cause is over when it was not seen for so long: one that comes and goes with every other scrape is one cause.
const OVER: SignedDuration = SignedDuration::from_secs(20);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// The event's reason.
    pub reason: String,
    /// The event's action.
    pub action: &'static str,
    /// In words.
    pub note: String,
    /// The Node that it is about, where there is one.
    pub node: Option<String>,
}

/// The conditions that became something worth telling. What `kubelets` tell is not told twice.
#[must_use]
pub fn conditions(
    old: &MetricsPipelineStatus,
    new: &MetricsPipelineStatus,
    kubelets: &[KubeletCause],
) -> Vec<NewEvent> {
    let mut news = Vec::new();
    for kind in ConditionType::ALL {
        let Some(condition) = new.conditions.iter().find(|condition| condition.type_ == kind.as_str()) else {
            continue;
        };
        let is = |reason: &Reason| reason.as_str() == condition.reason;
        // The summary repeats the others, unless there is nothing else to tell.
        let own = [Reason::Conflict, Reason::InvalidSpec, Reason::Deleting, Reason::AsExpected];
        if kind == ConditionType::Ready && !own.iter().any(is) {
            continue;
        }
        let passing = [Reason::WaitingForDependency, Reason::Progressing, Reason::Pending];
        let worth = condition.status != "Unknown" && !passing.iter().any(is);
        let before = old.conditions.iter().find(|before| before.type_ == condition.type_);
        let same = before
            .is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
        let apart = kind == ConditionType::KubeletsReachable
            && kubelets.iter().any(|kubelet| is(&kubelet.cause.reason));
        if same || !worth || apart {
            continue;
        }
        let good = condition.status == "True" && is(&Reason::AsExpected);
        news.push(NewEvent {
            is_warning: !good && !is(&Reason::Deleting),
            reason: if good { condition.type_.clone() } else { condition.reason.clone() },
            action: kind.as_str(),
            note: condition.message.clone(),
            node: None,
        });
    }
    news
}

/// The causes of kubelets that were told and are not known to be over.
#[derive(Clone, Debug, Default)]
pub struct ReportedCauses {
    /// The UID of the MetricsPipeline of which they were.
    pipeline: String,
    causes: BTreeMap<ScrapeCause, OfCause>,
}

#[derive(Clone, Debug)]
struct OfCause {
    nodes: NodesWithCause,
    unseen_since: Option<Timestamp>,
}

impl ReportedCauses {
    /// What is new. `stored` are the causes in the status: an operator that was started anew takes them as told.
    pub fn kubelets(
        &mut self,
        pipeline: &str,
        stored: &[NodesWithCause],
        now: &[KubeletCause],
        at: Timestamp,
    ) -> Vec<NewEvent> {
        if self.pipeline != pipeline {
            let told = |nodes: &NodesWithCause| OfCause { nodes: nodes.clone(), unseen_since: None };
            self.causes = stored.iter().map(|nodes| (nodes.cause, told(nodes))).collect();
            pipeline.clone_into(&mut self.pipeline);
        }
        let mut news = Vec::new();
        for KubeletCause { failing, cause } in now {
            let nodes = failing.status();
            if let Some(told) = self.causes.get_mut(&failing.cause) {
                told.unseen_since = None;
                continue;
            }
            news.push(NewEvent {
                is_warning: true,
                reason: cause.reason.as_str().to_owned(),
                action: "Scrape",
                note: cause.message(),
                node: nodes.nodes.first().cloned(),
            });
            self.causes.insert(failing.cause, OfCause { nodes, unseen_since: None });
        }
        self.causes.retain(|cause, told| {
            if now.iter().any(|kubelet| kubelet.failing.cause == *cause) {
                return true;
            }
            let since = *told.unseen_since.get_or_insert(at);
            if at.duration_since(since) < OVER {
                return true;
            }
            news.push(over(&told.nodes));
            false
        });
        news
    }
}

fn over(told: &NodesWithCause) -> NewEvent {
    let (reason, what) = name(told.cause);
    let names = told.nodes.join(", ");
    NewEvent {
        is_warning: false,
        reason: format!("{reason}Over"),
        action: "Scrape",
        note: format!(
            "This is over: {} ({}). It was first told of {names}.",
            uncapitalized(what),
            told.cause
        ),
        node: told.nodes.first().cloned(),
    }
}

fn uncapitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::diagnosis::Severity;
    use crds::report::FailedScrape;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn failing(cause: ScrapeCause, count: usize) -> KubeletCause {
        let example = |at: usize| FailedScrape {
            node: format!("node-{at}"),
            address: None,
            message: "words".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        };
        KubeletCause {
            failing: crate::observe::FailingNodes {
                cause,
                count,
                examples: (0..count.min(3)).map(example).collect(),
            },
            cause: crate::assess::diagnosis::Cause {
                reason: name(cause).0,
                severity: Severity::Fault,
                what: "What.".to_owned(),
                evidence: "Evidence.".to_owned(),
                remedy: "Remedy.".to_owned(),
            },
        }
    }

    fn reasons(news: &[NewEvent]) -> Vec<&str> {
        news.iter().map(|news| news.reason.as_str()).collect()
    }

    #[test]
    fn a_cause_is_told_when_it_appears_and_when_it_is_over() {
        let mut told = ReportedCauses::default();
        let refused = [failing(ScrapeCause::ConnectionRefused, 1)];
        let first = told.kubelets("u", &[], &refused, at(0));
        assert_eq!(reasons(&first), ["KubeletConnectionRefused"]);
        assert_eq!(
            (first[0].is_warning, first[0].node.as_deref(), first[0].note.as_str()),
            (true, Some("node-0"), "What. Evidence. Remedy.")
        );
        // However long it lasts, and however many nodes it befalls.
        assert_eq!(told.kubelets("u", &[], &[failing(ScrapeCause::ConnectionRefused, 5000)], at(600)), []);
        let both = [failing(ScrapeCause::ConnectionRefused, 1), failing(ScrapeCause::Dns, 2)];
        assert_eq!(reasons(&told.kubelets("u", &[], &both, at(603))), ["KubeletDNSLookupFailed"]);
        assert_eq!(told.kubelets("u", &[], &both[1..], at(606)), [], "it may come back");
        let over = told.kubelets("u", &[], &both[1..], at(626));
        assert_eq!(reasons(&over), ["KubeletRefusedOver"]);
        assert_eq!((over[0].is_warning, over[0].node.as_deref()), (false, Some("node-0")));
        assert_eq!(
            over[0].note,
            "This is over: nothing listens on the kubelet's port (refused). It was first told of node-0."
        );
        assert_eq!(
            reasons(&told.kubelets("u", &[], &both, at(630))),
            ["KubeletConnectionRefused"],
            "it is back"
        );
    }

    #[test]
    fn one_that_comes_and_goes_is_one() {
        let mut told = ReportedCauses::default();
        let mut count = 0;
        for round in 0..100 {
            let now =
                if round % 5 == 0 { vec![failing(ScrapeCause::ConnectionClosed, 1)] } else { Vec::new() };
            count += told.kubelets("u", &[], &now, at(round * 3)).len();
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn a_new_operator_takes_what_is_stored_as_told() {
        let stored = [failing(ScrapeCause::ConnectionRefused, 2).failing.status()];
        let mut told = ReportedCauses::default();
        assert_eq!(told.kubelets("u", &stored, &[failing(ScrapeCause::ConnectionRefused, 2)], at(0)), []);
        assert_eq!(told.kubelets("u", &stored, &[], at(1)), []);
        assert_eq!(reasons(&told.kubelets("u", &stored, &[], at(21))), ["KubeletRefusedOver"]);
        // Another MetricsPipeline begins anew.
        let other = told.kubelets("v", &[], &[failing(ScrapeCause::ConnectionRefused, 2)], at(22));
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
    fn conditions_are_told_when_they_change_and_causes_of_kubelets_not_twice() {
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
        let over = conditions(&bad, &good, &[]);
        assert_eq!(reasons(&over), ["Ready", "APIServiceAvailable", "KubeletsReachable"]);
        assert!(over.iter().all(|news| !news.is_warning));
    }
}
