//! kube-apiserver is known to metrics-core as the front proxy that speaks for users.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::Diagnosis;
use crate::observe::Symptoms;

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis, symptoms: &Symptoms) -> Condition {
    let of = ConditionType::AggregationLayerReady;
    if let Some(cause) = &diagnosis.front_proxy {
        return Condition::cause(of, cause);
    }
    if symptoms.accepted.is_some() || (symptoms.ours && symptoms.answered) {
        let message = "metrics-core accepts kube-apiserver as the front proxy that speaks for users.";
        return Condition::new(of, ConditionStatus::True, Reason::AsExpected, message);
    }
    let why = if symptoms.ours {
        "No request of kube-apiserver came to metrics-core yet; APIServiceAvailable says what keeps it away."
    } else if evidence.problem(&crate::common::ManagedObject::API_SERVICES).is_some() {
        "It shows once the APIServices are there; APIServiceAvailable says why they are not."
    } else {
        "It shows once kube-apiserver asks metrics-core."
    };
    Condition::new(of, ConditionStatus::Unknown, Reason::WaitingForDependency, why)
}
