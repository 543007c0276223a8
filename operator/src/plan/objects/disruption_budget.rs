//! The PodDisruptionBudget that keeps a replica while nodes are drained.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Context, Desired, selector};
use crate::common::ManagedObject;

/// Builds the budget; `None` for one replica, which a budget would keep from ever being drained.
pub(crate) fn build(context: Context<'_>) -> Result<Option<Desired>, serde_json::Error> {
    if context.spec.metrics_core.replicas < 2 {
        return Ok(None);
    }
    let budget = PodDisruptionBudget {
        metadata: context.metadata(ManagedObject::DisruptionBudget),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }),
            // A replica that is not ready serves no requests; it must not block a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    Desired::new(ManagedObject::DisruptionBudget, &budget).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn exists_from_two_replicas_on() {
        let build = |replicas: i32| {
            with_context(
                |spec| spec.metrics_core.replicas = replicas,
                |context| super::build(context).expect("built"),
            )
        };
        assert!(build(1).is_none());
        assert_eq!(build(2).expect("a budget").body["spec"]["maxUnavailable"], 1);
    }
}
