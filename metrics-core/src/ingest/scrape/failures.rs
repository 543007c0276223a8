//! Which nodes fail now, and why, for the report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crds::cause::ScrapeCause;
use crds::report::{FailedScrape, FailedScrapes, MAX_EXAMPLES};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::Error;
use crate::telemetry::excerpt;

/// The longest message.
const MESSAGE: usize = 300;

/// The nodes whose last scrape failed. Only failures, and the first success after one, touch it; words are
/// kept of [`MAX_EXAMPLES`] nodes a cause only. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<Arc<str>, Failing>,
    examples: BTreeMap<ScrapeCause, Vec<Example>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    cause: ScrapeCause,
    since: Timestamp,
}

/// A node stays an example of its cause as long as it fails for it, so that readers see no change where there
/// is none.
#[derive(Debug)]
struct Example {
    node: Arc<str>,
    address: Option<Box<str>>,
    message: String,
}

impl Failures {
    /// A scrape of `node` failed at `address`.
    pub(super) fn failed(&self, node: &Arc<str>, error: &Error, address: impl FnOnce() -> Option<Box<str>>) {
        let cause = error.cause();
        let mut state = self.0.lock();
        let State { nodes, examples } = &mut *state;
        let failing = nodes.entry(node.clone()).or_insert_with(|| Failing { cause, since: Timestamp::now() });
        if failing.cause != cause {
            forget(examples, failing.cause, node);
            failing.cause = cause;
        }
        let examples = examples.entry(cause).or_default();
        let known = examples.iter_mut().find(|example| example.node == *node);
        let message = || excerpt(&error.to_string(), MESSAGE);
        if let Some(known) = known {
            (known.address, known.message) = (address(), message());
        } else if examples.len() < MAX_EXAMPLES {
            examples.push(Example { node: node.clone(), address: address(), message: message() });
        }
    }

    /// `node` fails no more, or is gone.
    pub(super) fn over(&self, node: &Arc<str>) {
        let mut state = self.0.lock();
        if let Some(failing) = state.nodes.remove(node) {
            forget(&mut state.examples, failing.cause, node);
        }
    }

    /// The nodes that fail, by cause, the most frequent first; examples are ordered by name.
    #[must_use]
    pub fn list(&self) -> Vec<FailedScrapes> {
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

impl State {
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

fn forget(examples: &mut BTreeMap<ScrapeCause, Vec<Example>>, cause: ScrapeCause, node: &Arc<str>) {
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
        Error::Refused { address: "10.0.0.1:10250".into() }
    }

    #[test]
    fn nodes_are_counted_by_cause_with_few_examples() {
        let failures = Failures::default();
        let names: Vec<Arc<str>> = (0..1000).map(|at| format!("n{at:03}").into()).collect();
        for name in names.iter().rev() {
            failures.failed(name, &refused(), || Some("10.0.0.1:10250".into()));
        }
        failures.failed(&names[5], &Error::PlainHttp, || None);
        let list = failures.list();
        let counts: Vec<_> = list.iter().map(|failed| (failed.cause, failed.nodes)).collect();
        assert_eq!(counts, [(ScrapeCause::ConnectionRefused, 999), (ScrapeCause::PlainHttp, 1)]);
        let examples = |at: usize| -> Vec<String> {
            failures.list()[at].examples.iter().map(|example| example.node.clone()).collect()
        };
        assert_eq!(examples(0), ["n997", "n998", "n999"]);
        assert_eq!(list[0].examples[0].address.as_deref(), Some("10.0.0.1:10250"));
        assert!(list[0].examples[0].message.contains("refuses connections"));
        // One that works again makes room for the next that fails again.
        failures.over(&names[998]);
        failures.failed(&names[3], &refused(), || None);
        assert_eq!(examples(0), ["n003", "n997", "n999"]);
        for name in &names {
            failures.over(name);
        }
        assert!(failures.list().is_empty());
    }

    #[test]
    fn the_time_of_the_first_failure_outlives_a_change_of_the_cause() {
        let (failures, node) = (Failures::default(), Arc::from("n"));
        failures.failed(&node, &refused(), || None);
        let since = failures.list()[0].examples[0].since;
        failures.failed(&node, &Error::PlainHttp, || None);
        let list = failures.list();
        assert_eq!(
            (list.len(), list[0].cause, list[0].examples[0].since),
            (1, ScrapeCause::PlainHttp, since)
        );
    }
}
