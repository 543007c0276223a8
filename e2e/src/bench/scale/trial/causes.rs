//! The causes that metrics-core's report names.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// A cause in one report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct NamedCause {
    /// The section of the report and the cause, as `samples/clock_skew`.
    pub(super) name: String,
    /// Number of nodes, or of events in sections without nodes.
    pub(super) nodes: u64,
    /// The first example, or the message.
    pub(super) example: String,
}

/// Returns all causes of a report, whatever its sections: each is a list of objects with a `cause`.
pub(super) fn named(report: &Value) -> Vec<NamedCause> {
    let sections = report.as_object().into_iter().flatten();
    let rows = sections
        .flat_map(|(section, rows)| rows.as_array().into_iter().flatten().map(move |row| (section, row)));
    let cause = |(section, row): (&String, &Value)| {
        let example = row.get("examples").map_or(&row["message"], |examples| &examples[0]);
        Some(NamedCause {
            name: format!("{section}/{}", row["cause"].as_str()?),
            nodes: row["nodes"].as_u64().or_else(|| row["count"].as_u64()).unwrap_or_default(),
            example: example.to_string(),
        })
    };
    rows.filter_map(cause).collect()
}

/// The causes of all reports of a run.
#[derive(Debug, Default)]
pub(super) struct CauseLog(BTreeMap<String, LoggedCause>);

#[derive(Debug)]
struct LoggedCause {
    first: Duration,
    reports: u32,
    nodes: u64,
    example: String,
}

impl CauseLog {
    /// Adds the causes of a report that was read `at` this time of the run.
    pub(super) fn add(&mut self, at: Duration, causes: &[NamedCause]) {
        for cause in causes {
            let logged = self.0.entry(cause.name.clone()).or_insert_with(|| LoggedCause {
                first: at,
                reports: 0,
                nodes: 0,
                example: cause.example.clone(),
            });
            logged.reports += 1;
            logged.nodes = logged.nodes.max(cause.nodes);
        }
    }

    /// Returns a line for each cause.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(name, cause): (&String, &LoggedCause)| {
            format!(
                "{name} in {} reports, first after {:.0} s, at most {} nodes, for example {}",
                cause.reports,
                cause.first.as_secs_f64(),
                cause.nodes,
                cause.example
            )
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_causes_in_every_section() {
        let report = json!({
            "started": "now", "nodes": {"known": 3},
            "scrapes": [{"cause": "timeout", "nodes": 2, "examples": [{"node": "a"}]}],
            "samples": [{"cause": "clock_skew", "nodes": 1, "count": 7, "examples": []}],
            "failedHandshakes": [{"cause": "alert", "count": 4, "message": "why"}],
            "refusedCredentials": [],
        });
        let names: Vec<_> =
            named(&report).into_iter().map(|one| (one.name, one.nodes, one.example)).collect();
        assert_eq!(
            names,
            [
                ("failedHandshakes/alert".to_owned(), 4, "\"why\"".to_owned()),
                ("samples/clock_skew".to_owned(), 1, "null".to_owned()),
                ("scrapes/timeout".to_owned(), 2, "{\"node\":\"a\"}".to_owned()),
            ]
        );
    }

    #[test]
    fn logs_the_first_time_and_the_most_nodes() {
        let mut log = CauseLog::default();
        let of = |nodes| [NamedCause { name: "a/b".into(), nodes, example: "x".into() }];
        log.add(Duration::from_secs(5), &of(1));
        log.add(Duration::from_secs(9), &of(3));
        log.add(Duration::from_secs(10), &[]);
        assert_eq!(log.lines(), ["a/b in 2 reports, first after 5 s, at most 3 nodes, for example x"]);
    }
}
