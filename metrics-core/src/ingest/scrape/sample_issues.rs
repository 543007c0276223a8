//! The nodes whose scrapes succeed but whose samples are incomplete or wrong, and why; for the report.
//!
//! A response shows a [`Finding`]. It becomes an issue, which is reported, once a second response within the hold
//! time shows it, too: one response of a kubelet that just started proves nothing. Findings that the store counts
//! after a minimum time only need no second response. An issue is resolved once no response has shown it for the
//! hold time, which spans two scrapes: an issue that every second response shows does not come and go.

mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::SampleCause;
use crds::report::{MAX_EXAMPLES, SampleIssue, SampleIssues};
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

pub(super) use self::message::Detail;
use crate::ingest::store::SampleProblems;

/// The time after which a node is scraped once more to confirm a finding. With the default interval, an issue is
/// reported at most 24 s after it appears, and the operator reads the report every 5 s.
pub(super) const CONFIRM_PAUSE: Duration = Duration::from_secs(8);

/// The minimum time between the first response that shows a cause and the one that confirms it. It excludes a
/// kubelet or container that is just starting.
const CONFIRMED_AFTER: Duration = Duration::from_secs(7);

/// The minimum time without a finding after which an issue is resolved, and what is added to two scrape intervals.
const MIN_HOLD: Duration = Duration::from_secs(30);
const HOLD_MARGIN: Duration = Duration::from_secs(10);

/// What a response shows of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) cause: SampleCause,
    /// The number of affected containers or pods; 1 if the whole node is affected.
    pub(super) count: u32,
    pub(super) detail: Detail,
}

impl Finding {
    /// Returns the findings of a response. `shares` is the endpoint that the node shares with another one.
    pub(super) fn all(problems: &SampleProblems, shares: Option<Detail>) -> Vec<Self> {
        let mut found: Vec<_> = SampleCause::ALL
            .iter()
            .map(|cause| (*cause, problems.count(*cause)))
            .filter(|(_, count)| *count > 0)
            .map(|(cause, count)| {
                let is_skew = cause == SampleCause::ClockSkew;
                let detail = if is_skew { Detail::Skew(problems.clock_skew_ms / 1000) } else { Detail::None };
                Self { cause, count, detail }
            })
            .collect();
        found.extend(shares.map(|detail| Self { cause: SampleCause::DuplicateAddress, count: 1, detail }));
        found
    }

    /// Returns whether a second response must confirm the finding. The counts of the other causes include a minimum
    /// time ([`SampleProblems`]).
    fn needs_confirmation(&self) -> bool {
        !matches!(
            self.cause,
            SampleCause::ZeroUsage | SampleCause::PodsMissing | SampleCause::TimestampsStalled
        )
    }
}

/// What [`SampleIssueTracker::record`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Whether another response should confirm a finding soon.
    pub(super) confirm: bool,
    /// Issues that are reported from now on, with their messages.
    pub(super) reported: Vec<(SampleCause, String)>,
    /// Issues that are resolved.
    pub(super) resolved: Vec<SampleCause>,
}

impl Recorded {
    /// Returns whether no issue is reported or resolved.
    pub(super) fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.resolved.is_empty()
    }
}

/// The issues of all nodes. Clones share their content.
#[derive(Clone, Debug)]
pub(crate) struct SampleIssueTracker {
    hold: Duration,
    nodes: Arc<Mutex<HashMap<Arc<str>, Vec<NodeIssue>>>>,
}

#[derive(Debug)]
struct NodeIssue {
    cause: SampleCause,
    /// When the first of the consecutive findings was made.
    first: Instant,
    since: Timestamp,
    /// When the last one was made.
    last: Instant,
    is_reported: bool,
    count: SteadyCount,
    detail: Detail,
}

impl Default for SampleIssueTracker {
    fn default() -> Self {
        Self::new(Duration::from_secs(15))
    }
}

impl SampleIssueTracker {
    /// Returns a tracker without issues for a scrape interval.
    #[must_use]
    pub(crate) fn new(scrape_interval: Duration) -> Self {
        let hold = scrape_interval.saturating_mul(2).saturating_add(HOLD_MARGIN).max(MIN_HOLD);
        Self { hold, nodes: Arc::default() }
    }

    /// Records the findings of a node's response at `now`.
    pub(super) fn record(&self, node: &Arc<str>, findings: Vec<Finding>, now: Instant) -> Recorded {
        let mut recorded = Recorded::default();
        let mut nodes = self.nodes.lock();
        if findings.is_empty() && !nodes.contains_key(node) {
            return recorded;
        }
        let issues = nodes.entry(node.clone()).or_default();
        issues.retain(|issue| {
            let is_held = now.saturating_duration_since(issue.last) <= self.hold;
            if !is_held && issue.is_reported {
                recorded.resolved.push(issue.cause);
            }
            is_held
        });
        for finding in findings {
            let is_certain = !finding.needs_confirmation();
            let at = issues.iter().position(|issue| issue.cause == finding.cause);
            let at = at.unwrap_or_else(|| {
                issues.push(NodeIssue::new(&finding, now));
                recorded.confirm |= !is_certain;
                issues.len() - 1
            });
            let issue = &mut issues[at];
            issue.last = now;
            issue.count.update(finding.count, now, self.hold);
            issue.detail.update(finding.detail);
            let is_confirmed = is_certain || now.saturating_duration_since(issue.first) >= CONFIRMED_AFTER;
            if !issue.is_reported && is_confirmed {
                issue.is_reported = true;
                recorded.reported.push((issue.cause, issue.message()));
            }
        }
        if issues.is_empty() {
            nodes.remove(node);
        }
        recorded
    }

    /// Removes a deleted node.
    pub(super) fn forget(&self, node: &Arc<str>) {
        self.nodes.lock().remove(node);
    }

    /// Returns the issues by cause, that of most nodes first; examples are ordered by name.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<SampleIssues> {
        self.list_at(Instant::now())
    }

    fn list_at(&self, now: Instant) -> Vec<SampleIssues> {
        let mut by_cause = BTreeMap::<SampleCause, CauseSummary<'_>>::new();
        let nodes = self.nodes.lock();
        for (node, issues) in &*nodes {
            for issue in issues {
                // A node whose scrapes fail has no new findings.
                if issue.is_reported && now.saturating_duration_since(issue.last) <= self.hold {
                    by_cause.entry(issue.cause).or_default().add(node, issue);
                }
            }
        }
        let mut list: Vec<_> = by_cause.into_iter().map(|(cause, summary)| summary.report(cause)).collect();
        drop(nodes);
        list.sort_by_key(|issues| std::cmp::Reverse(issues.nodes));
        list
    }

    /// Registers `metrics_server_sample_issue_nodes{cause}`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }
}

impl Collector for SampleIssueTracker {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let list = self.list();
        let mut family = encoder.encode_descriptor(
            "metrics_server_sample_issue_nodes",
            "Number of nodes whose kubelet responds with incomplete or wrong samples, by cause",
            None,
            MetricType::Gauge,
        )?;
        for cause in SampleCause::ALL.iter().filter(|cause| **cause != SampleCause::Other) {
            let nodes =
                list.iter().find(|issues| issues.cause == cause.as_str()).map_or(0, |found| found.nodes);
            let labels = [("cause", cause.as_str())];
            let encoder = family.encode_family(&labels)?;
            ConstGauge::new(i64::try_from(nodes).unwrap_or(i64::MAX)).encode(encoder)?;
        }
        Ok(())
    }
}

impl NodeIssue {
    fn new(finding: &Finding, now: Instant) -> Self {
        Self {
            cause: finding.cause,
            first: now,
            since: Timestamp::now(),
            last: now,
            is_reported: false,
            count: SteadyCount::new(finding.count),
            detail: finding.detail.clone(),
        }
    }

    fn message(&self) -> String {
        message::message(self.cause, self.count.shown, &self.detail)
    }
}

/// The nodes with one cause.
#[derive(Default)]
struct CauseSummary<'a> {
    nodes: usize,
    count: u64,
    /// The first nodes by name.
    examples: BTreeMap<&'a str, &'a NodeIssue>,
}

impl<'a> CauseSummary<'a> {
    fn add(&mut self, node: &'a str, issue: &'a NodeIssue) {
        self.nodes += 1;
        self.count += u64::from(issue.count.shown);
        self.examples.insert(node, issue);
        if self.examples.len() > MAX_EXAMPLES {
            self.examples.pop_last();
        }
    }

    fn report(self, cause: SampleCause) -> SampleIssues {
        let examples = self.examples.into_iter().map(|(node, issue)| SampleIssue {
            node: node.to_owned(),
            count: u64::from(issue.count.shown),
            message: issue.message(),
            since: issue.since,
        });
        SampleIssues {
            cause: cause.as_str().to_owned(),
            nodes: self.nodes,
            count: self.count,
            examples: examples.collect(),
        }
    }
}

/// A count that rises at once and falls only after it has been lower for the hold time, so that the report does not
/// change with every response.
#[derive(Debug)]
struct SteadyCount {
    shown: u32,
    /// Since when the count has been lower, and the largest count since then.
    lower: Option<(Instant, u32)>,
}

impl SteadyCount {
    fn new(count: u32) -> Self {
        Self { shown: count, lower: None }
    }

    fn update(&mut self, count: u32, now: Instant, hold: Duration) {
        if count >= self.shown {
            (self.shown, self.lower) = (count, None);
            return;
        }
        let (since, largest) =
            self.lower.map_or((now, count), |(since, largest)| (since, largest.max(count)));
        if now.saturating_duration_since(since) >= hold {
            (self.shown, self.lower) = (largest, None);
        } else {
            self.lower = Some((since, largest));
        }
    }
}
