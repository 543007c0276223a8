//! The ClusterRole that lets users with the role view read metrics.

use k8s_openapi::api::rbac::v1::ClusterRole;

use super::{Context, Desired, rule};
use crate::common::ManagedObject;

/// Builds a ClusterRole that Kubernetes adds to view, edit and admin (RBAC, "Aggregated ClusterRoles").
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let mut metadata = context.metadata(ManagedObject::AggregatedReaderRole);
    let labels = metadata.labels.get_or_insert_default();
    for role in ["view", "edit", "admin"] {
        labels.insert(format!("rbac.authorization.k8s.io/aggregate-to-{role}"), "true".to_owned());
    }
    let role = ClusterRole {
        metadata,
        rules: Some(vec![rule("metrics.k8s.io", &["nodes", "pods"], &["get", "list", "watch"])]),
        ..ClusterRole::default()
    };
    Desired::new(ManagedObject::AggregatedReaderRole, &role)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn is_aggregated_to_the_roles_of_users() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"], "true");
        assert_eq!(body["rules"][0]["apiGroups"][0], "metrics.k8s.io");
    }
}
