//! `APIServiceAvailable`: kube-apiserver reaches metrics-core through the APIServices.

use crds::{ConditionType, Reason};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::{Condition, ConditionStatus, Evidence, kubelets};
use crate::assess::diagnosis::{Diagnosis, Severity};
use crate::common::ManagedObject;
use crate::observe::Symptoms;

/// The objects of the condition.
pub(super) const OBJECTS: [ManagedObject; 2] = ManagedObject::API_SERVICES;

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis, symptoms: &Symptoms) -> Condition {
    let of = ConditionType::APIServiceAvailable;
    if let Some(problem) = evidence.problem(&OBJECTS) {
        return Condition::problem(of, problem);
    }
    // The front proxy already explains the symptom; a second cause would be wrong.
    if let Some(cause) = diagnosis.front_proxy.as_ref().filter(|cause| cause.severity == Severity::Fault) {
        let message = format!(
            "metrics-core rejects requests from kube-apiserver ({}). See AggregationLayerReady for the remedy.",
            cause.reason
        );
        return Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message);
    }
    if let Some(cause) = &diagnosis.path {
        if cause.reason == Reason::MissingEndpoints
            && let Some(condition) = kubelets::explain_unready(evidence, diagnosis)
        {
            let message = format!(
                "{} No replica is ready because none has fresh metrics to serve. See {condition} for the cause.",
                cause.summary
            );
            return Condition::new(of, ConditionStatus::False, Reason::WaitingForDependency, message);
        }
        return Condition::cause(of, cause);
    }
    for object in ManagedObject::API_SERVICES {
        let reported = evidence
            .observed
            .typed::<APIService>(object)
            .and_then(|api_service| api_service.status?.conditions)
            .is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Available"));
        if !reported {
            let message = format!(
                "kube-apiserver has not reported yet whether {} is available.",
                object.describe(evidence.namespace)
            );
            return Condition::new(of, ConditionStatus::Unknown, Reason::Pending, message);
        }
    }
    if let Some(unavailable) = &symptoms.unavailable {
        let message = format!("{} is not available.", unavailable.object.describe(evidence.namespace));
        return Condition::new(of, ConditionStatus::False, Reason::FailedDiscoveryCheck, message);
    }
    let message = "kube-apiserver reaches metrics-core through APIServices v1beta1.metrics.k8s.io and v1.metrics.k8s.io.";
    Condition::new(of, ConditionStatus::True, Reason::AsExpected, message)
}
