//! Which nodes have incomplete or wrong samples, as the replicas report.

use std::collections::BTreeMap;

use crds::NodesWithCause;
use crds::cause::SampleCause;
use crds::report::SampleIssue;

use super::Observed;
use super::kubelets::{NAMED, describe_nodes};

/// The maximum length of a code of a newer metrics-core.
const MAX_CODE: usize = 63;

/// The nodes whose samples are incomplete or wrong for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultySamples {
    /// The cause's code, also one that this version does not know.
    pub code: String,
    /// The cause.
    pub cause: SampleCause,
    /// The number of nodes.
    pub nodes: usize,
    /// The number of affected containers or pods, from the replica with the highest number.
    pub count: u64,
    /// Up to three nodes.
    pub examples: Vec<SampleIssue>,
}

impl FaultySamples {
    /// Returns the entry of `status.nodes.causes`.
    #[must_use]
    pub(crate) fn status(&self) -> NodesWithCause {
        NodesWithCause {
            cause: self.code.clone(),
            count: i32::try_from(self.nodes).unwrap_or(i32::MAX),
            nodes: self.names(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.examples.iter().map(|example| example.node.clone()).collect()
    }

    /// Returns numbers and names for messages: `5 containers on 2 nodes (a, b)`, `1 node (a)`.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        let nodes = describe_nodes(self.nodes, &self.names());
        match (self.unit(), self.count) {
            (Some((one, _)), 1) => format!("1 {one} on {nodes}"),
            (Some((_, several)), count) => format!("{count} {several} on {nodes}"),
            (None, _) => nodes,
        }
    }

    /// Returns what the number counts, if not nodes.
    const fn unit(&self) -> Option<(&'static str, &'static str)> {
        match self.cause {
            SampleCause::ZeroUsage
            | SampleCause::TimestampsStalled
            | SampleCause::ImplausibleUsage
            | SampleCause::DuplicateSeries => Some(("container", "containers")),
            SampleCause::PodsMissing => Some(("pod", "pods")),
            SampleCause::ScrapeError
            | SampleCause::NoContainers
            | SampleCause::ClockSkew
            | SampleCause::DuplicateAddress
            | SampleCause::Other => None,
        }
    }
}

/// Returns the nodes with incomplete or wrong samples, by cause, the largest group first. A node counts also when only
/// one of several replicas reports it.
pub(super) fn faulty(observed: &Observed) -> Vec<FaultySamples> {
    let mut by_code: BTreeMap<String, FaultySamples> = BTreeMap::new();
    for issues in observed.reports().flat_map(|report| &report.samples).filter(|issues| issues.nodes > 0) {
        let code = code(&issues.cause);
        let known = by_code.entry(code.clone()).or_insert_with(|| FaultySamples {
            cause: SampleCause::from_code(&code),
            code,
            nodes: 0,
            count: 0,
            examples: Vec::new(),
        });
        known.nodes = known.nodes.max(issues.nodes);
        known.count = known.count.max(issues.count);
        for example in &issues.examples {
            if known.examples.iter().all(|other| other.node != example.node) {
                known.examples.push(example.clone());
            }
        }
    }
    let mut faulty: Vec<_> = by_code.into_values().collect();
    for samples in &mut faulty {
        samples.examples.sort_by(|a, b| a.node.cmp(&b.node));
        samples.examples.truncate(NAMED);
        samples.nodes = samples.nodes.max(samples.examples.len());
    }
    faulty.sort_by(|a, b| b.nodes.cmp(&a.nodes).then(a.code.cmp(&b.code)));
    faulty
}

/// Returns the code if it has the form of one. It is shown in the status.
fn code(code: &str) -> String {
    let is_code = (1..=MAX_CODE).contains(&code.len())
        && code.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if is_code { code.to_owned() } else { SampleCause::Other.as_str().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::observe::ReplicaReport;

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn replica(samples: Value) -> ReplicaReport {
        let mut report = json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:10:00Z",
            "nodes": { "known": 9, "covered": 9, "failing": 0 } });
        if !samples.is_null() {
            report["samples"] = samples;
        }
        ReplicaReport {
            pod: "metrics-core-1".to_owned(),
            uid: "u".to_owned(),
            ready: true,
            report: Ok(Arc::new(serde_json::from_value(report).expect("a report"))),
            failures: 0,
        }
    }

    fn issues(cause: &str, nodes: usize, count: u64, names: &[&str]) -> Value {
        let examples: Vec<_> = names
            .iter()
            .map(|name| json!({ "node": name, "count": 1, "message": "m", "since": "2026-01-01T00:00:00Z" }))
            .collect();
        json!({ "cause": cause, "nodes": nodes, "count": count, "examples": examples })
    }

    #[test]
    fn joins_the_reports_of_all_replicas() {
        let observed = Observed {
            replicas: vec![
                replica(json!([
                    issues("zero_usage", 2, 5, &["b", "d"]),
                    issues("cause_of_a_newer_version", 1, 1, &["z"]),
                ])),
                // A version before this section existed.
                replica(Value::Null),
                replica(json!([
                    issues("zero_usage", 3, 4, &["a", "b", "c"]),
                    issues("clock_skew", 1, 1, &["b"]),
                    issues("Not a code!", 1, 1, &["b"]),
                ])),
            ],
            ..Observed::default()
        };
        let faulty = faulty(&observed);
        let described: Vec<_> = faulty.iter().map(|one| (one.code.as_str(), one.describe())).collect();
        assert_eq!(
            described,
            [
                ("zero_usage", "5 containers on 3 nodes (a, b, c)".to_owned()),
                ("cause_of_a_newer_version", "1 node (z)".to_owned()),
                ("clock_skew", "1 node (b)".to_owned()),
                ("other", "1 node (b)".to_owned()),
            ]
        );
        let status = faulty[1].status();
        assert_eq!((status.cause.as_str(), status.count), ("cause_of_a_newer_version", 1));
    }

    #[test]
    fn names_few_of_many_nodes() {
        let names = ["a", "b", "c"];
        let observed = Observed {
            replicas: vec![replica(json!([issues("pods_missing", 40, 1, &names)]))],
            ..Observed::default()
        };
        assert_eq!(faulty(&observed)[0].describe(), "1 pod on 40 nodes (such as a, b, c)");
    }
}
