//! `Stalled`: the pipeline is not Ready and will not become Ready without help. True is abnormal (kstatus).

use crds::{ConditionType, Reason};
use jiff::{SignedDuration, Timestamp};

use super::{Condition, ConditionStatus};
use crate::observe::Pipeline;

/// A cause that lasts this long needs help. A registry that fails once or a pod that waits for another one to terminate does
/// not: tools that read `Stalled` give up at once.
const LASTING: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn evaluate(ready: &Condition, is_stalled: bool) -> Condition {
    let of = ConditionType::Stalled;
    if is_stalled {
        return Condition::new(of, ConditionStatus::True, ready.reason, ready.message.clone());
    }
    let message = if ready.needs_help() {
        format!("The cause that Ready reports has lasted for less than {} s.", LASTING.as_secs())
    } else {
        "No cause needs help.".to_owned()
    };
    Condition::new(of, ConditionStatus::False, Reason::AsExpected, message)
}

/// Since when a MetricsPipeline is not Ready for a cause that needs help.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultTimer(Option<Fault>);

#[derive(Clone, Debug)]
struct Fault {
    uid: String,
    generation: i64,
    since: Timestamp,
}

impl FaultTimer {
    /// Returns whether a cause has lasted. It begins anew with each generation: the change may remove it.
    pub(crate) fn is_lasting(&mut self, pipeline: &Pipeline, needs_help: bool, now: Timestamp) -> bool {
        if !needs_help {
            self.0 = None;
            return false;
        }
        let is_same = |fault: &Fault| fault.uid == pipeline.uid && fault.generation == pipeline.generation;
        let since = match self.0.take().filter(is_same) {
            Some(fault) => fault.since,
            // After a restart of the operator.
            None if was_stalled(pipeline) => now - LASTING,
            None => now,
        };
        self.0 = Some(Fault { uid: pipeline.uid.clone(), generation: pipeline.generation, since });
        now.duration_since(since) >= LASTING
    }
}

/// Whether the stored status says that the current generation is stalled.
fn was_stalled(pipeline: &Pipeline) -> bool {
    pipeline.status.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::Stalled.as_str()
            && condition.status == ConditionStatus::True.as_str()
            && condition.observed_generation == Some(pipeline.generation)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::MetricsPipelineSpec;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_cause_needs_help_once_it_has_lasted_for_30_s() {
        let mut timer = FaultTimer::default();
        let mut pipeline = Pipeline::for_test("a", MetricsPipelineSpec::default());
        assert!(!timer.is_lasting(&pipeline, true, at(0)));
        assert!(!timer.is_lasting(&pipeline, true, at(29)));
        assert!(timer.is_lasting(&pipeline, true, at(30)));
        assert!(!timer.is_lasting(&pipeline, false, at(31)), "it is over");
        assert!(!timer.is_lasting(&pipeline, true, at(32)), "another one");
        assert!(timer.is_lasting(&pipeline, true, at(62)));
        pipeline.generation += 1;
        assert!(!timer.is_lasting(&pipeline, true, at(63)), "a new generation may remove it");
        let other = Pipeline::for_test("b", MetricsPipelineSpec::default());
        assert!(!timer.is_lasting(&other, true, at(120)));
    }

    #[test]
    fn a_restarted_operator_continues_a_stall() {
        let mut pipeline = Pipeline::for_test("a", MetricsPipelineSpec::default());
        let stored = serde_json::json!({ "conditions": [{ "type": "Stalled", "status": "True", "reason": "R",
            "message": "m", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        pipeline.status = serde_json::from_value(stored).expect("a status");
        assert!(FaultTimer::default().is_lasting(&pipeline, true, at(0)));
        assert!(!FaultTimer::default().is_lasting(&pipeline, false, at(0)));
        pipeline.generation = 2;
        assert!(!FaultTimer::default().is_lasting(&pipeline, true, at(0)), "of an earlier generation");
    }
}
