//! Which nodes have metrics and which kubelets can't be scraped, as the replicas report.

use std::collections::BTreeMap;

use crds::NodesWithCause;
use crds::cause::ScrapeCause;
use crds::report::{FailedScrape, FailedScrapes};
use jiff::{SignedDuration, Timestamp};

use super::Observed;

/// The maximum count of nodes that are named for one cause.
pub(super) const NAMED: usize = 3;

/// Transient causes on single nodes are reported only after this time; on all nodes they are reported at once.
const TRANSIENT: SignedDuration = SignedDuration::from_secs(15);

/// The nodes that can't be scraped for one cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailingNodes {
    /// The cause.
    pub cause: ScrapeCause,
    /// The count of nodes.
    pub count: usize,
    /// Up to three of them.
    pub examples: Vec<FailedScrape>,
}

impl FailingNodes {
    /// Returns the entry of `status.nodes.causes`.
    #[must_use]
    pub(crate) fn status(&self) -> NodesWithCause {
        NodesWithCause {
            cause: self.cause.as_str().to_owned(),
            count: i32::try_from(self.count).unwrap_or(i32::MAX),
            nodes: self.names(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.examples.iter().take(NAMED).map(|example| example.node.clone()).collect()
    }

    /// Returns count and names for messages: `2 nodes (a, b)`, `5 nodes (such as a, b, c)`.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        describe_nodes(self.count, &self.names())
    }
}

/// Returns the number of nodes with their names, of which there may be fewer.
pub(super) fn describe_nodes(count: usize, names: &[String]) -> String {
    let nodes = if count == 1 { "node" } else { "nodes" };
    if names.is_empty() {
        format!("{count} {nodes}")
    } else if names.len() < count {
        format!("{count} {nodes} (such as {})", names.join(", "))
    } else {
        format!("{count} {nodes} ({})", names.join(", "))
    }
}

/// Adds nodes with the same cause.
pub(super) fn join(known: &mut NodesWithCause, new: NodesWithCause) {
    known.count = known.count.saturating_add(new.count);
    known.nodes.extend(new.nodes);
    known.nodes.sort();
    known.nodes.dedup();
    known.nodes.truncate(NAMED);
}

/// Node counts as the replicas report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Nodes that should be scraped.
    pub total: usize,
    /// Nodes with metrics, from the replica with the lowest count.
    pub covered: usize,
    /// Nodes that can't be scraped, from the replica with the highest count.
    pub failing: usize,
}

/// Joins the replicas' counts; `None` when no replica reports.
pub(super) fn coverage(observed: &Observed) -> Option<Coverage> {
    let mut reports = observed.reports().map(|report| report.nodes).peekable();
    reports.peek()?;
    let all: Vec<_> = reports.collect();
    let total = all.iter().map(|nodes| nodes.known).max().unwrap_or_default();
    let covered = all.iter().map(|nodes| nodes.covered).min().unwrap_or_default();
    let failing = all.iter().map(|nodes| nodes.failing).max().unwrap_or_default();
    let total = total.max(observed.nodes.unwrap_or_default());
    Some(Coverage { total, covered: covered.min(total), failing })
}

/// Returns the nodes that can't be scraped, by cause, the largest group first. A node counts also when only one of
/// several replicas can't scrape it.
pub(super) fn failing(observed: &Observed) -> Vec<FailingNodes> {
    let mut by_cause: BTreeMap<ScrapeCause, (usize, BTreeMap<String, FailedScrape>)> = BTreeMap::new();
    for report in observed.reports() {
        let all_fail = report.nodes.failing >= report.nodes.known;
        for failed in &report.scrapes {
            // A node that is removed is no fault.
            let deleted = failed.cause == ScrapeCause::NodeDeleted;
            if deleted || failed.nodes == 0 || (!all_fail && is_transient(failed, report.now)) {
                continue;
            }
            let (count, examples) = by_cause.entry(failed.cause).or_default();
            *count = (*count).max(failed.nodes);
            for example in &failed.examples {
                examples.entry(example.node.clone()).or_insert_with(|| example.clone());
            }
        }
    }
    let mut failing: Vec<_> = by_cause
        .into_iter()
        .map(|(cause, (count, examples))| FailingNodes {
            cause,
            count: count.max(examples.len().min(NAMED)),
            examples: examples.into_values().take(NAMED).collect(),
        })
        .collect();
    failing.sort_by(|a, b| b.count.cmp(&a.count).then(a.cause.cmp(&b.cause)));
    failing
}

/// Returns whether a failure may resolve by itself. One slow response of a busy kubelet may. A connection timeout may not,
/// as the kernel accepts connections however busy the kubelet is.
fn is_transient(failed: &FailedScrapes, now: Timestamp) -> bool {
    let transient = matches!(
        failed.cause,
        ScrapeCause::ConnectionClosed | ScrapeCause::SlowResponse | ScrapeCause::Other
    );
    transient
        && failed.nodes <= failed.examples.len()
        && failed.examples.iter().all(|example| now.duration_since(example.since) < TRANSIENT)
}
