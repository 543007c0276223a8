//! The permissions to list nodes and pods and to scrape kubelets.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};

use super::{Context, Desired, role_ref, rule};
use crate::common::ManagedObject;

/// Builds the ClusterRole. metrics-core watches nodes and pods; kubelets authorize `/metrics/resource` as
/// `nodes/metrics`.
pub(crate) fn role(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let role = ClusterRole {
        metadata: context.metadata(ManagedObject::CollectorRole),
        rules: Some(vec![
            rule("", &["nodes", "pods"], &["get", "list", "watch"]),
            rule("", &["nodes/metrics"], &["get"]),
        ]),
        ..ClusterRole::default()
    };
    Desired::new(ManagedObject::CollectorRole, &role)
}

/// Builds the binding.
pub(crate) fn binding(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let binding = ClusterRoleBinding {
        metadata: context.metadata(ManagedObject::CollectorBinding),
        role_ref: role_ref("ClusterRole", ManagedObject::CollectorRole.name()),
        subjects: Some(context.subjects()),
    };
    Desired::new(ManagedObject::CollectorBinding, &binding)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use serde_json::json;

    /// The whole list: whoever takes over metrics-core has these permissions in every namespace.
    #[test]
    fn grants_reading_of_nodes_pods_and_kubelet_metrics_and_nothing_else() {
        let body = with_context(|_| {}, |context| super::role(context).expect("built").body);
        assert_eq!(
            body["rules"],
            json!([
                { "apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list", "watch"] },
                { "apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"] },
            ])
        );
        assert_eq!(body.get("aggregationRule"), None);
    }

    #[test]
    fn binding_names_the_service_account() {
        let body = with_context(|_| {}, |context| super::binding(context).expect("built").body);
        assert_eq!(body["roleRef"]["name"], "metrics-core:collector");
        assert_eq!(body["subjects"][0]["namespace"], "metrics-system");
    }
}
