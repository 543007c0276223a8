//! The permission to create TokenReviews and SubjectAccessReviews for the clients of metrics-core.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use super::{Context, Desired, role_ref};
use crate::common::ManagedObject;

/// Builds the binding to `system:auth-delegator` (Kubernetes, "Set up an Extension API Server").
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let binding = ClusterRoleBinding {
        metadata: context.metadata(ManagedObject::AuthDelegatorBinding),
        role_ref: role_ref("ClusterRole", "system:auth-delegator"),
        subjects: Some(context.subjects()),
    };
    Desired::new(ManagedObject::AuthDelegatorBinding, &binding)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn binds_the_role_of_kubernetes() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["roleRef"]["name"], "system:auth-delegator");
        assert_eq!(body["metadata"]["name"], "metrics-core:auth-delegator");
    }
}
