//! Checks that an operator parses what a newer version wrote.

use crds::cause::{SampleCause, ScrapeCause};
use crds::report::Report;
use crds::{MetricsPipelineStatus, ResizeMethod};
use serde_json::json;

#[test]
fn parses_values_of_a_newer_version() {
    let amounts = json!({ "cpu": "20m", "memory": "64Mi" });
    let status: MetricsPipelineStatus = serde_json::from_value(json!({
        "observedGeneration": 3,
        "fieldOfANewerVersion": {},
        "nodes": { "total": 2, "covered": 1, "summary": "1/2", "causes": [
            { "cause": "cause_of_a_newer_version", "count": 1, "nodes": ["a"] },
        ] },
        "nanny": { "applied": { "time": "2026-01-01T00:00:00Z", "method": "MethodOfANewerVersion",
            "from": amounts, "to": amounts, "reason": "r" } },
    }))
    .unwrap();
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.nodes.unwrap().causes[0].cause, "cause_of_a_newer_version");
    assert_eq!(status.nanny.unwrap().applied.unwrap().method, ResizeMethod::Other);
}

#[test]
fn codes_are_unchanged_by_a_round_trip() {
    for cause in ScrapeCause::ALL {
        let text = serde_json::to_value(cause).unwrap();
        assert_eq!(text, cause.as_str());
        assert_eq!(serde_json::from_value::<ScrapeCause>(text).unwrap(), *cause);
        assert_eq!(ScrapeCause::from_code(cause.as_str()), *cause);
    }
    for cause in SampleCause::ALL {
        assert_eq!(SampleCause::from_code(cause.as_str()), *cause);
    }
    assert_eq!(SampleCause::from_code("cause_of_a_newer_version"), SampleCause::Other);
}

#[test]
fn parses_the_reports_of_other_versions() {
    let older = json!({ "started": "2026-01-01T00:00:00Z", "now": "2026-01-01T00:00:00Z",
        "nodes": { "known": 1, "covered": 1, "failing": 0 } });
    let report: Report = serde_json::from_value(older.clone()).unwrap();
    assert!(report.samples.is_empty());
    let mut newer = older;
    newer["samples"] = json!([{ "cause": "cause_of_a_newer_version", "nodes": 2, "fieldOfANewerVersion": 1,
        "examples": [{ "node": "a", "message": "m", "since": "2026-01-01T00:00:00Z" }] }]);
    let report: Report = serde_json::from_value(newer).unwrap();
    let issues = &report.samples[0];
    assert_eq!((issues.cause.as_str(), issues.nodes, issues.count), ("cause_of_a_newer_version", 2, 0));
    assert_eq!(issues.examples[0].node, "a");
}
