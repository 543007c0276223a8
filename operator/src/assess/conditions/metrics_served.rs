//! A real request for metrics was answered.

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
                "Whoever owns the APIServices answers requests for metrics; APIServiceAvailable says who.",
            );
        }
        (None, _) | (_, Served::NotAsked) => {
            return waiting(
                ConditionStatus::Unknown,
                "Requests for metrics are tried once the APIServices are there.",
            );
        }
        (_, Served::Answered { nodes: 0 }) if fault(&diagnosis.kubelets) => {
            return waiting(
                ConditionStatus::False,
                "Requests are answered, but without metrics of any node; KubeletsReachable says why.",
            );
        }
        (_, Served::Answered { nodes: 0 }) => {
            return Condition::new(
                of,
                ConditionStatus::False,
                Reason::NoMetrics,
                format!(
                    "Requests are answered, but without metrics of any node: none was scraped twice yet, or no kubelet can be \
                     scraped. See `{REQUEST}` and `kubectl logs deployment/metrics-core --namespace {}`.",
                    evidence.namespace
                ),
            );
        }
        (_, Served::Answered { nodes }) => {
            let total = evidence.observed.facts.coverage.map(|nodes| nodes.total).or(evidence.observed.nodes);
            let of_all = match total {
                // A node that was just removed may have metrics a moment longer.
                Some(total) => format!("{} of {total} nodes have metrics.", total.min(*nodes)),
                None => format!("{nodes} nodes have metrics."),
            };
            return Condition::new(of, ConditionStatus::True, Reason::AsExpected, of_all);
        }
        (_, Served::Refused { code, message }) => {
            format!("A request for metrics was answered with {code}: \"{}\".", quote(message))
        }
        (_, Served::Failed { message }) => format!("A request for metrics failed: {}.", quote(message)),
    };
    if fault(&diagnosis.front_proxy) {
        return waiting(ConditionStatus::False, "Requests for metrics fail; AggregationLayerReady says why.");
    }
    if diagnosis.path.is_some() {
        return waiting(ConditionStatus::False, "Requests for metrics fail; APIServiceAvailable says why.");
    }
    Condition::new(
        of,
        ConditionStatus::False,
        Reason::RequestFailed,
        format!("{failed} Try it with `{REQUEST}`."),
    )
}
