//! `MetricsServed`: a metrics request through kube-apiserver succeeded.

use crds::{ConditionType, Reason};

use super::{Condition, ConditionStatus, Evidence};
use crate::assess::diagnosis::{Diagnosis, Severity};
use crate::common::ManagedObject;
use crate::common::normalize::quote;
use crate::common::ownership::is_ours;
use crate::observe::Served;

const REQUEST: &str = "kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes";

pub(super) fn evaluate(evidence: Evidence<'_>, diagnosis: &Diagnosis) -> Condition {
    let of = ConditionType::MetricsServed;
    let waiting = |status: ConditionStatus, message: &str| {
        Condition::new(of, status, Reason::WaitingForDependency, message)
    };
    let fault = |cause: &Option<crate::assess::diagnosis::Cause>| {
        cause.as_ref().is_some_and(|cause| cause.severity == Severity::Fault)
    };
    let failed = match (evidence.observed.object(ManagedObject::ApiServiceV1beta1), &evidence.observed.served)
    {
        (Some(api_service), _) if !is_ours(api_service) => {
            return waiting(
                ConditionStatus::Unknown,
                "Another metrics server owns the APIServices and serves metrics requests. See APIServiceAvailable for \
                its name.",
            );
        }
        (None, _) | (_, Served::NotRequested) => {
            return waiting(
                ConditionStatus::Unknown,
                "The operator sends a metrics request once the APIServices exist.",
            );
        }
        (_, Served::Succeeded { nodes: 0 }) if fault(&diagnosis.kubelets) => {
            return waiting(
                ConditionStatus::False,
                "Metrics requests succeed but return no nodes. See KubeletsReachable for the cause.",
            );
        }
        (_, Served::Succeeded { nodes: 0 }) => {
            return Condition::new(
                of,
                ConditionStatus::False,
                Reason::NoMetrics,
                format!(
                    "Metrics requests succeed but return no nodes: no node has been scraped twice yet, or no kubelet \
                     can be scraped. Run `{REQUEST}` and `kubectl logs deployment/metrics-core --namespace {}`.",
                    evidence.namespace
                ),
            );
        }
        (_, Served::Succeeded { nodes }) => {
            let total = evidence.observed.facts.coverage.map(|nodes| nodes.total).or(evidence.observed.nodes);
            let of_all = match total {
                // A node that was just deleted may still have metrics.
                Some(total) => format!("{} of {total} nodes have metrics.", total.min(*nodes)),
                None => format!("{nodes} nodes have metrics."),
            };
            return Condition::new(of, ConditionStatus::True, Reason::AsExpected, of_all);
        }
        (_, Served::ErrorResponse { code, message }) => {
            format!("A metrics request returned HTTP status {code}: \"{}\".", quote(message))
        }
        (_, Served::Failed { message }) => format!("A metrics request failed: {}.", quote(message)),
    };
    if fault(&diagnosis.front_proxy) {
        return waiting(
            ConditionStatus::False,
            "Metrics requests fail. See AggregationLayerReady for the cause.",
        );
    }
    if diagnosis.path.is_some() {
        return waiting(
            ConditionStatus::False,
            "Metrics requests fail. See APIServiceAvailable for the cause.",
        );
    }
    Condition::new(
        of,
        ConditionStatus::False,
        Reason::RequestFailed,
        format!("{failed} Run `{REQUEST}` to reproduce it."),
    )
}
