//! The nodes whose scrapes currently fail, and why; for the report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crds::cause::ScrapeCause;
use crds::report::{FailedScrape, FailedScrapes, MAX_EXAMPLES};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::Error;
use crate::telemetry::excerpt;

/// The maximum length of a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// The nodes whose last scrape failed. Only a failure, and the first success after one, updates it. Messages are
/// kept for at most [`MAX_EXAMPLES`] nodes per cause. Clones share their content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Arc<Mutex<FailureState>>);

#[derive(Debug, Default)]
struct FailureState {
    nodes: HashMap<Arc<str>, FailingNode>,
    examples: BTreeMap<ScrapeCause, Vec<ExampleNode>>,
}

#[derive(Clone, Copy, Debug)]
struct FailingNode {
    cause: ScrapeCause,
    since: Timestamp,
}

/// An example of a cause. The node stays the example while it fails for this cause, so that the report does not
/// change without a reason.
#[derive(Debug)]
struct ExampleNode {
    node: Arc<str>,
    address: Option<Box<str>>,
    message: String,
}

impl Failures {
    /// Records that a scrape of `node` failed at `address`.
    pub(super) fn record(&self, node: &Arc<str>, error: &Error, address: impl FnOnce() -> Option<Box<str>>) {
        let cause = error.cause();
        let mut state = self.0.lock();
        let FailureState { nodes, examples } = &mut *state;
        let failing =
            nodes.entry(node.clone()).or_insert_with(|| FailingNode { cause, since: Timestamp::now() });
        if failing.cause != cause {
            forget(examples, failing.cause, node);
            failing.cause = cause;
        }
        let examples = examples.entry(cause).or_default();
        let known = examples.iter_mut().find(|example| example.node == *node);
        let message = || excerpt(&error.to_string(), MAX_MESSAGE_CHARS);
        if let Some(known) = known {
            (known.address, known.message) = (address(), message());
        } else if examples.len() < MAX_EXAMPLES {
            examples.push(ExampleNode { node: node.clone(), address: address(), message: message() });
        }
    }

    /// Removes `node`, which recovered or was deleted.
    pub(super) fn resolved(&self, node: &Arc<str>) {
        let mut state = self.0.lock();
        if let Some(failing) = state.nodes.remove(node) {
            forget(&mut state.examples, failing.cause, node);
        }
    }

    /// Returns the failing nodes by cause, the most frequent first; examples are ordered by name.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<FailedScrapes> {
        let state = self.0.lock();
        let mut counts = BTreeMap::<ScrapeCause, usize>::new();
        for failing in state.nodes.values() {
            *counts.entry(failing.cause).or_default() += 1;
        }
        let mut list: Vec<FailedScrapes> = counts
            .into_iter()
            .map(|(cause, nodes)| FailedScrapes { cause, nodes, examples: state.examples_of(cause) })
            .collect();
        drop(state);
        list.sort_by_key(|failed| std::cmp::Reverse(failed.nodes));
        list
    }
}

impl FailureState {
    fn examples_of(&self, cause: ScrapeCause) -> Vec<FailedScrape> {
        let kept = self.examples.get(&cause).map(Vec::as_slice).unwrap_or_default();
        let mut examples: Vec<FailedScrape> = kept
            .iter()
            .filter_map(|example| {
                let since = self.nodes.get(&example.node)?.since;
                Some(FailedScrape {
                    node: String::from(&*example.node),
                    address: example.address.as_deref().map(str::to_owned),
                    message: example.message.clone(),
                    since,
                })
            })
            .collect();
        examples.sort_by(|a, b| a.node.cmp(&b.node));
        examples
    }
}

fn forget(examples: &mut BTreeMap<ScrapeCause, Vec<ExampleNode>>, cause: ScrapeCause, node: &Arc<str>) {
    if let Some(examples) = examples.get_mut(&cause) {
        examples.retain(|example| example.node != *node);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::cause::ScrapeCause;

    use super::Failures;
    use crate::ingest::scrape::Error;

    fn refused() -> Error {
        Error::ConnectionRefused { address: "10.0.0.1:10250".into() }
    }

    #[test]
    fn counts_nodes_by_cause_with_few_examples() {
        let failures = Failures::default();
        let names: Vec<Arc<str>> = (0..1000).map(|at| format!("n{at:03}").into()).collect();
        for name in names.iter().rev() {
            failures.record(name, &refused(), || Some("10.0.0.1:10250".into()));
        }
        failures.record(&names[5], &Error::PlainHttp, || None);
        let list = failures.list();
        let counts: Vec<_> = list.iter().map(|failed| (failed.cause, failed.nodes)).collect();
        assert_eq!(counts, [(ScrapeCause::ConnectionRefused, 999), (ScrapeCause::PlainHttp, 1)]);
        let examples = |at: usize| -> Vec<String> {
            failures.list()[at].examples.iter().map(|example| example.node.clone()).collect()
        };
        assert_eq!(examples(0), ["n997", "n998", "n999"]);
        assert_eq!(list[0].examples[0].address.as_deref(), Some("10.0.0.1:10250"));
        assert!(list[0].examples[0].message.contains("refused the connection"));
        // A node that recovers makes room for the next one that fails.
        failures.resolved(&names[998]);
        failures.record(&names[3], &refused(), || None);
        assert_eq!(examples(0), ["n003", "n997", "n999"]);
        for name in &names {
            failures.resolved(name);
        }
        assert!(failures.list().is_empty());
    }

    #[test]
    fn keeps_the_time_of_the_first_failure_when_the_cause_changes() {
        let (failures, node) = (Failures::default(), Arc::from("n"));
        failures.record(&node, &refused(), || None);
        let since = failures.list()[0].examples[0].since;
        failures.record(&node, &Error::PlainHttp, || None);
        let list = failures.list();
        assert_eq!(
            (list.len(), list[0].cause, list[0].examples[0].since),
            (1, ScrapeCause::PlainHttp, since)
        );
    }
}
