//! kube-apiserver finds metrics-core behind the APIServices.

use crds::{ConditionType, Reason};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::{Evidence, Holds, Verdict};
use crate::owned::Owned;

pub(super) fn judge(evidence: Evidence<'_>) -> Verdict {
    let of = ConditionType::APIServiceAvailable;
    if let Some(problem) = evidence.problem(&Owned::API_SERVICES) {
        return Verdict::problem(of, problem);
    }
    for object in Owned::API_SERVICES {
        let name = object.describe(evidence.namespace);
        let available = evidence
            .observed
            .typed::<APIService>(object)
            .and_then(|api_service| api_service.status?.conditions)
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "Available");
        let Some(available) = available else {
            let message = format!("kube-apiserver has not judged {name} yet.");
            return Verdict::new(of, Holds::Unknown, Reason::Pending, message);
        };
        if available.status == "True" {
            continue;
        }
        let says = available.message.as_deref().unwrap_or_default();
        let word = available.reason.as_deref().unwrap_or_default();
        let (reason, remedy) = match word {
            "ServiceNotFound"
            | "EndpointsNotFound"
            | "MissingEndpoints"
            | "ServicePortError"
            | "ServiceAccessError"
            | "EndpointsAccessError" => {
                (Reason::NoEndpoints, "DeploymentAvailable says why no pod is ready.".to_owned())
            }
            _ => (
                Reason::FailedDiscoveryCheck,
                format!(
                    "kube-apiserver must reach the pods on port {} (a firewall, a NetworkPolicy, or \
                     spec.metricsCore.scheduling.hostNetwork where it has no route to pods) and be known to them as the front proxy.",
                    evidence.spec.metrics_core.secure_port
                ),
            ),
        };
        let message = format!("{name} is not available: kube-apiserver says {word} \"{says}\". {remedy}");
        return Verdict::new(of, Holds::False, reason, message);
    }
    let message = "kube-apiserver finds metrics-core behind v1beta1.metrics.k8s.io and v1.metrics.k8s.io.";
    Verdict::new(of, Holds::True, Reason::AsExpected, message)
}
