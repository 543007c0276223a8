//! Checks that an operator parses what a newer version wrote.

use crds::cause::ScrapeCause;
use crds::{MetricsPipelineStatus, ResizeMethod};
use serde_json::json;

#[test]
fn parses_unknown_values_as_other() {
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
    assert_eq!(status.nodes.unwrap().causes[0].cause, ScrapeCause::Other);
    assert_eq!(status.nanny.unwrap().applied.unwrap().method, ResizeMethod::Other);
}

#[test]
fn codes_are_unchanged_by_a_round_trip() {
    for cause in ScrapeCause::ALL {
        let text = serde_json::to_value(cause).unwrap();
        assert_eq!(text, cause.as_str());
        assert_eq!(serde_json::from_value::<ScrapeCause>(text).unwrap(), *cause);
    }
}
