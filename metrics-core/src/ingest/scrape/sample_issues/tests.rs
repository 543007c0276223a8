use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::SampleCause;
use crds::report::SampleIssues;
use prometheus_client::registry::Registry;

use super::{CONFIRM_PAUSE, Detail, Finding, Recorded, SampleIssueTracker};
use crate::ingest::store::SampleProblems;

/// A node at the default scrape interval: findings must be held for 40 s.
struct Node {
    tracker: SampleIssueTracker,
    name: Arc<str>,
    start: Instant,
}

impl Node {
    fn new() -> Self {
        Self { tracker: SampleIssueTracker::default(), name: "n".into(), start: Instant::now() }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn responds(&self, second: u64, problems: SampleProblems) -> Recorded {
        self.tracker.record(&self.name, Finding::all(&problems, None), self.at(second))
    }

    /// The causes in the report.
    fn causes(&self, second: u64) -> Vec<String> {
        self.tracker.list_at(self.at(second)).into_iter().map(|issues| issues.cause).collect()
    }

    fn only(&self, second: u64) -> SampleIssues {
        let list = self.tracker.list_at(self.at(second));
        assert_eq!(list.len(), 1, "{list:?}");
        list[0].clone()
    }
}

const GOOD: SampleProblems = SampleProblems {
    scrape_error: false,
    containers: 5,
    zero_usage: 0,
    timestamps_stalled: 0,
    pods_absent: 0,
    pods_missing: 0,
    duplicate_series: 0,
    implausible_usage: 0,
    clock_skew_ms: 0,
};
const ERROR: SampleProblems = SampleProblems { scrape_error: true, ..GOOD };

#[test]
fn a_finding_is_reported_once_a_second_response_confirms_it() {
    let node = Node::new();
    let first = node.responds(0, ERROR);
    assert!(first.confirm && first.is_empty() && node.causes(0).is_empty());
    let second = node.responds(CONFIRM_PAUSE.as_secs(), ERROR);
    assert!(!second.confirm);
    let message = "the kubelet could not collect all metrics (resource_scrape_error 1)";
    assert_eq!(second.reported, [(SampleCause::ScrapeError, message.to_owned())]);
    let issues = node.only(8);
    assert_eq!((issues.cause.as_str(), issues.nodes, issues.count), ("resource_scrape_error", 1, 1));
    assert_eq!((issues.examples[0].node.as_str(), issues.examples[0].message.as_str()), ("n", message));
    assert!(node.responds(23, ERROR).is_empty(), "it is reported once");
}

#[test]
fn a_single_response_of_a_kubelet_that_starts_is_no_issue() {
    let node = Node::new();
    node.responds(0, ERROR);
    // Confirmed too soon to be a second finding, then good.
    assert!(node.responds(3, ERROR).is_empty());
    node.responds(15, GOOD);
    node.responds(60, GOOD);
    assert!(node.causes(60).is_empty() && node.tracker.nodes.lock().is_empty());
    // Long after the first one, this is not its confirmation.
    node.responds(75, ERROR);
    assert!(node.causes(75).is_empty());
}

#[test]
fn an_issue_of_every_second_response_does_not_come_and_go() {
    let node = Node::new();
    for round in 0..20 {
        let recorded = node.responds(round * 15, if round % 2 == 0 { ERROR } else { GOOD });
        assert!(recorded.resolved.is_empty());
        assert_eq!(recorded.reported.len(), usize::from(round == 2), "round {round}");
        if round >= 2 {
            assert_eq!(node.causes(round * 15 + 14), ["resource_scrape_error"]);
        }
    }
}

#[test]
fn an_issue_is_resolved_after_the_hold_time() {
    let node = Node::new();
    node.responds(0, ERROR);
    node.responds(8, ERROR);
    assert!(node.responds(15, GOOD).is_empty() && node.responds(30, GOOD).is_empty());
    assert_eq!(node.causes(48), ["resource_scrape_error"]);
    assert!(node.causes(49).is_empty(), "40 s after the last finding");
    assert_eq!(node.responds(49, GOOD).resolved, [SampleCause::ScrapeError]);
    assert!(node.tracker.nodes.lock().is_empty());
}

#[test]
fn a_longer_scrape_interval_is_held_for_two_scrapes() {
    let node = Node { tracker: SampleIssueTracker::new(Duration::from_secs(60)), ..Node::new() };
    for second in [0, 60, 120] {
        node.responds(second, ERROR);
    }
    node.responds(180, GOOD);
    assert_eq!(node.causes(240), ["resource_scrape_error"]);
    assert!(node.causes(251).is_empty());
}

#[test]
fn counts_that_include_a_minimum_time_need_no_confirmation() {
    for (problems, cause) in [
        (SampleProblems { zero_usage: 2, ..GOOD }, SampleCause::ZeroUsage),
        (SampleProblems { timestamps_stalled: 2, ..GOOD }, SampleCause::TimestampsStalled),
        (SampleProblems { pods_missing: 2, pods_absent: 3, ..GOOD }, SampleCause::PodsMissing),
    ] {
        let node = Node::new();
        let recorded = node.responds(0, problems);
        assert!(!recorded.confirm);
        assert_eq!(recorded.reported.iter().map(|(cause, _)| *cause).collect::<Vec<_>>(), [cause]);
        assert_eq!(node.only(0).count, 2);
        assert!(node.only(0).examples[0].message.contains("2 "), "{:?}", node.only(0));
    }
}

#[test]
fn a_count_falls_only_after_the_hold_time() {
    let node = Node::new();
    let zero = |count| SampleProblems { zero_usage: count, ..GOOD };
    for (second, count, shown) in [(0, 3, 3), (15, 5, 5), (30, 4, 5), (45, 2, 5), (60, 2, 5), (75, 2, 4)] {
        node.responds(second, zero(count));
        assert_eq!(node.only(second).count, shown, "at {second} s");
    }
}

#[test]
fn the_message_of_a_skew_changes_only_with_the_skew() {
    let node = Node::new();
    let skew = |ms| SampleProblems { clock_skew_ms: ms, ..GOOD };
    let message = |second| node.only(second).examples[0].message.clone();
    node.responds(0, skew(-3_600_000));
    node.responds(15, skew(-3_615_000));
    assert_eq!(message(15), "the node's clock is 60 min behind the clock of metrics-core");
    node.responds(30, skew(-3_800_000));
    assert_eq!(message(30), "the node's clock is 60 min behind the clock of metrics-core");
    node.responds(45, skew(90_000));
    assert_eq!(message(45), "the node's clock is 90 s ahead of the clock of metrics-core");
    assert!(Finding::all(&skew(59_000), None).is_empty(), "within the bound");
}

#[test]
fn lists_few_examples_by_name_and_the_most_frequent_cause_first() {
    let tracker = SampleIssueTracker::default();
    let now = Instant::now();
    let names: Vec<Arc<str>> = (0..1000).map(|at| format!("n{at:03}").into()).collect();
    for name in names.iter().rev() {
        let zero = Finding::all(&SampleProblems { zero_usage: 2, ..GOOD }, None);
        assert_eq!(tracker.record(name, zero, now).reported.len(), 1);
    }
    let shared =
        || Detail::SharedEndpoint { endpoint: "10.0.0.1:10250/metrics/resource".into(), other: "b".into() };
    for second in [0, 15] {
        tracker.record(&names[7], Finding::all(&GOOD, Some(shared())), now + Duration::from_secs(second));
    }
    let list = tracker.list_at(now + Duration::from_secs(15));
    let counts: Vec<_> = list.iter().map(|one| (one.cause.as_str(), one.nodes, one.count)).collect();
    assert_eq!(counts, [("zero_usage", 1000, 2000), ("duplicate_address", 1, 1)]);
    let examples: Vec<_> = list[0].examples.iter().map(|example| example.node.as_str()).collect();
    assert_eq!(examples, ["n000", "n001", "n002"]);
    assert_eq!(
        list[1].examples[0].message,
        "Node b has the same address, port and path (10.0.0.1:10250/metrics/resource)"
    );
    tracker.forget(&names[0]);
    let examples = tracker.list_at(now)[0].examples.clone();
    assert_eq!(examples[0].node, "n001");
}

#[test]
fn metrics_have_one_series_per_cause() {
    let node = Node::new();
    let mut registry = Registry::default();
    node.tracker.register(&mut registry);
    node.responds(0, SampleProblems { zero_usage: 9, ..GOOD });
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(series.len(), SampleCause::ALL.len() - 1, "{text}");
    assert!(series.contains(&"metrics_server_sample_issue_nodes{cause=\"zero_usage\"} 1"), "{text}");
    assert!(series.contains(&"metrics_server_sample_issue_nodes{cause=\"no_containers\"} 0"), "{text}");
}

#[test]
fn every_cause_has_a_message_of_its_own() {
    let messages: std::collections::BTreeSet<String> =
        SampleCause::ALL.iter().map(|cause| super::message::message(*cause, 1, &Detail::None)).collect();
    assert_eq!(messages.len(), SampleCause::ALL.len());
}
