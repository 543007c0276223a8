//! A real request for metrics was answered.

use crds::{ConditionType, Reason};

use super::{Evidence, Holds, Verdict};
use crate::decide::ownership::is_ours;
use crate::observe::Served;
use crate::owned::Owned;

const REQUEST: &str = "kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes";

pub(super) fn judge(evidence: Evidence<'_>) -> Verdict {
    let of = ConditionType::MetricsServed;
    let waiting = |message: &str| Verdict::new(of, Holds::Unknown, Reason::WaitingForDependency, message);
    match (evidence.observed.object(Owned::ApiServiceV1beta1), &evidence.observed.served) {
        (Some(api_service), _) if !is_ours(api_service) => waiting(
            "Whoever owns the APIServices answers requests for metrics; APIServiceAvailable says who.",
        ),
        (None, _) | (_, Served::NotAsked) => {
            waiting("Requests for metrics are tried once the APIServices are there.")
        }
        (_, Served::Answered { nodes: 0 }) => Verdict::new(
            of,
            Holds::False,
            Reason::NoMetrics,
            format!(
                "Requests are answered, but without metrics of any node: none was scraped twice yet, or no kubelet can be \
                 scraped. See `{REQUEST}` and `kubectl logs deployment/metrics-core --namespace {}`.",
                evidence.namespace
            ),
        ),
        (_, Served::Answered { nodes }) => {
            let of_all = match evidence.observed.nodes {
                // A node that was just removed may have metrics a moment longer.
                Some(total) => format!("{} of {total} nodes have metrics.", total.min(*nodes)),
                None => format!("{nodes} nodes have metrics."),
            };
            Verdict::new(of, Holds::True, Reason::AsExpected, of_all)
        }
        (_, Served::Refused { code, message }) => Verdict::new(
            of,
            Holds::False,
            Reason::RequestFailed,
            format!(
                "A request for metrics was answered with {code}: \"{message}\". Try it with `{REQUEST}`."
            ),
        ),
        (_, Served::Failed { message }) => Verdict::new(
            of,
            Holds::False,
            Reason::RequestFailed,
            format!("A request for metrics failed: {message}. Try it with `{REQUEST}`."),
        ),
    }
}
