use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::observe::Observed;
use crate::plan::MaintainPlan;
use crate::settings::Settings;

/// Returns the condition `minutes` after the last step of the replacement of a CA began.
fn after(rollover: Rollover, minutes: i64) -> Condition {
    let (spec, observed) = (MetricsPipelineSpec::default(), Observed::default());
    let issued: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let mut certificates =
        crate::plan::certificates::plan(&spec, &Settings::default(), &observed, issued).expect("a plan");
    certificates.rollover = rollover;
    let plan = MaintainPlan { certificates: Some(certificates), ..MaintainPlan::default() };
    evaluate(Evidence {
        namespace: "ns",
        spec: &spec,
        observed: &observed,
        generation: 1,
        rolled_out_generation: Some(1),
        plan: &plan,
        failed: &BTreeMap::new(),
        now: issued + SignedDuration::from_mins(minutes),
    })
}

#[test]
fn reports_a_replacement_of_the_ca_that_does_not_finish() {
    for rollover in [Rollover::Trusting, Rollover::Retiring] {
        let condition = after(rollover, 9);
        assert_eq!((condition.status, condition.reason), (ConditionStatus::True, Reason::Progressing));
        let condition = after(rollover, 11);
        assert_eq!((condition.status, condition.reason), (ConditionStatus::True, Reason::CARotationStalled));
        assert!(condition.message.contains("longer than 10 min"), "{}", condition.message);
    }
    let message = after(Rollover::Retiring, 11).message;
    assert!(message.contains("kubectl rollout restart deployment/metrics-core --namespace ns"), "{message}");
    assert!(message.contains("the replicas have not been checked yet"), "{message}");
    let settled = after(Rollover::Settled, 11);
    assert_eq!((settled.status, settled.reason), (ConditionStatus::True, Reason::AsExpected));
}
