//! `AggregationLayerReady`: metrics-core accepts kube-apiserver as the front proxy.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::Diagnosis;
use crate::observe::Symptoms;

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis, symptoms: &Symptoms) -> Condition {
    let of = ConditionType::AggregationLayerReady;
    if let Some(cause) = &diagnosis.front_proxy {
        return Condition::cause(of, cause);
    }
    if symptoms.accepted.is_some() || (symptoms.ours && symptoms.request_succeeded) {
        let message =
            "metrics-core accepts kube-apiserver as the front proxy and authenticates users through it.";
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    }
    let why = if symptoms.ours {
        "metrics-core has received no request from kube-apiserver yet. See APIServiceAvailable for the cause."
    } else if evidence.problem(&crate::common::ManagedObject::API_SERVICES).is_some() {
        "The status is unknown until the APIServices exist. See APIServiceAvailable for the cause."
    } else {
        "The status is unknown until kube-apiserver sends its first request to metrics-core."
    };
    Condition::new(of, ConditionStatus::Unknown, Reason::WaitingForDependency, why)
}
