//! When a changed status is written. Each write is stored in etcd, wakes every watcher of MetricsPipelines and makes the
//! operator read the object again.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::MetricsPipelineStatus;
use tokio::time::Instant;

use crate::observe::Pipeline;

/// The minimum time between two writes that only change counts and texts.
const COUNTS: Duration = Duration::from_secs(30);

/// The count of writes that change a meaning and may follow each other at once.
const BURST: u32 = 20;

/// The time in which one more such write is allowed.
const REFILL: Duration = Duration::from_secs(10);

/// Bounds the rate of status writes of each MetricsPipeline.
#[derive(Debug, Default)]
pub(super) struct StatusRate(BTreeMap<String, Written>);

#[derive(Clone, Copy, Debug)]
struct Written {
    last: Instant,
    /// The writes that were not made up for by time.
    writes: u32,
    refilled: Instant,
}

impl StatusRate {
    /// Returns whether the status should be written now. One that waits is written in a later round, if it still differs.
    pub(super) fn is_due(&mut self, pipeline: &Pipeline, status: &MetricsPipelineStatus) -> bool {
        let change = change(&pipeline.status, status);
        let Some(written) = self.0.get_mut(&pipeline.uid) else { return change != Change::None };
        written.refill();
        match change {
            Change::None => false,
            Change::Counts => written.last.elapsed() >= COUNTS,
            Change::Meaning => written.writes < BURST,
        }
    }

    /// Records a write.
    pub(super) fn written(&mut self, pipeline: &Pipeline) {
        let now = Instant::now();
        // Few MetricsPipelines exist, but their UIDs change.
        if self.0.len() > 1000 {
            self.0.retain(|_, written| now.duration_since(written.last) < COUNTS);
        }
        let written =
            self.0.entry(pipeline.uid.clone()).or_insert(Written { last: now, writes: 0, refilled: now });
        written.refill();
        written.last = now;
        written.writes = written.writes.saturating_add(1);
    }
}

impl Written {
    fn refill(&mut self) {
        let periods = self.refilled.elapsed().as_secs() / REFILL.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX).min(BURST);
        self.writes = self.writes.saturating_sub(periods);
        self.refilled = if periods == BURST { Instant::now() } else { self.refilled + REFILL * periods };
    }
}

/// What a write would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing.
    None,
    /// Counts and texts.
    Counts,
    /// More than that.
    Meaning,
}

fn change(stored: &MetricsPipelineStatus, new: &MetricsPipelineStatus) -> Change {
    if stored == new {
        Change::None
    } else if without_counts(stored) == without_counts(new) {
        Change::Counts
    } else {
        Change::Meaning
    }
}

/// Returns the status without what changes with every node that comes or goes. Whether all nodes have metrics is kept.
fn without_counts(status: &MetricsPipelineStatus) -> MetricsPipelineStatus {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    if let Some(nodes) = &mut status.nodes {
        nodes.covered = i32::from(nodes.covered >= nodes.total);
        nodes.total = 0;
        nodes.summary.clear();
        nodes.causes.sort_by(|a, b| a.cause.cmp(&b.cause));
        for cause in &mut nodes.causes {
            cause.count = 0;
            cause.nodes.clear();
        }
    }
    if let Some(recommendation) = status.nanny.as_mut().and_then(|nanny| nanny.recommendation.as_mut()) {
        recommendation.population = 0;
        recommendation.reason.clear();
    }
    status
}

#[cfg(test)]
mod tests {
    use crds::MetricsPipelineSpec;
    use serde_json::{Value, json};
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn status(changes: &[(&str, Value)]) -> MetricsPipelineStatus {
        let mut status = json!({
            "observedGeneration": 1,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "AsExpected", "message": "3 of 3",
                "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            "nodes": { "total": 3, "covered": 3, "summary": "3/3", "causes": [
                { "cause": "dns", "count": 1, "nodes": ["a"] }] },
            "nanny": { "recommendation": { "requests": { "cpu": "20m" }, "population": 3, "reason": "3 nodes" } },
        });
        for (pointer, value) in changes {
            *status.pointer_mut(pointer).expect("a field") = value.clone();
        }
        serde_json::from_value(status).expect("a status")
    }

    fn stored() -> Pipeline {
        Pipeline { status: status(&[]), ..Pipeline::for_test("a", MetricsPipelineSpec::default()) }
    }

    #[test]
    fn distinguishes_counts_and_texts_from_what_they_mean() {
        let before = status(&[]);
        assert_eq!(change(&before, &before), Change::None);
        for (pointer, value) in [
            ("/conditions/0/message", json!("4 of 4")),
            ("/nodes/causes/0/count", json!(2)),
            ("/nodes/causes/0/nodes", json!(["b"])),
            ("/nanny/recommendation/population", json!(4)),
        ] {
            assert_eq!(change(&before, &status(&[(pointer, value)])), Change::Counts, "{pointer}");
        }
        let grown =
            [("/nodes/total", json!(4)), ("/nodes/covered", json!(4)), ("/nodes/summary", json!("4/4"))];
        assert_eq!(change(&before, &status(&grown)), Change::Counts);
        for (pointer, value) in [
            ("/observedGeneration", json!(2)),
            ("/conditions/0/status", json!("False")),
            ("/conditions/0/reason", json!("NoMetrics")),
            ("/conditions/0/type", json!("Stalled")),
            ("/nodes/covered", json!(2)),
            ("/nodes/causes/0/cause", json!("timeout")),
            ("/nanny/recommendation/requests/cpu", json!("30m")),
            ("/nanny", json!(null)),
        ] {
            assert_eq!(change(&before, &status(&[(pointer, value)])), Change::Meaning, "{pointer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_that_change_every_3_s_are_written_every_30_s() {
        let (mut rate, pipeline) = (StatusRate::default(), stored());
        let mut writes = 0;
        for round in 0..100 {
            let new = status(&[("/conditions/0/message", json!(format!("{round} of 100")))]);
            if rate.is_due(&pipeline, &new) {
                rate.written(&pipeline);
                writes += 1;
            }
            advance(3 * SECOND).await;
        }
        assert_eq!(writes, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_is_written_at_once_but_not_without_end() {
        let (mut rate, pipeline) = (StatusRate::default(), stored());
        let bad = status(&[("/conditions/0/reason", json!("NoMetrics"))]);
        let mut writes = 0;
        for _ in 0..1200 {
            if rate.is_due(&pipeline, &bad) {
                rate.written(&pipeline);
                writes += 1;
            }
            advance(SECOND).await;
        }
        assert!((130..=141).contains(&writes), "{writes} in 20 min");
        assert!(!rate.is_due(&pipeline, &pipeline.status), "nothing changed");
        advance(3600 * SECOND).await;
        for _ in 0..BURST {
            assert!(rate.is_due(&pipeline, &bad));
            rate.written(&pipeline);
        }
        assert!(!rate.is_due(&pipeline, &bad));
    }
}
