//! The permission to watch the serving Secret, and no other.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

use super::{Context, Desired, role_ref, rule};
use crate::common::ManagedObject;

/// Builds the Role. It allows `list` and `watch` as well, for this name only.
pub(crate) fn role(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let mut secret = rule("", &["secrets"], &["get", "list", "watch"]);
    secret.resource_names = Some(vec![ManagedObject::ServingSecret.name().to_owned()]);
    let role = Role { metadata: context.metadata(ManagedObject::Role), rules: Some(vec![secret]) };
    Desired::new(ManagedObject::Role, &role)
}

/// Builds the binding.
pub(crate) fn binding(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let binding = RoleBinding {
        metadata: context.metadata(ManagedObject::RoleBinding),
        role_ref: role_ref("Role", ManagedObject::Role.name()),
        subjects: Some(vec![context.subject()]),
    };
    Desired::new(ManagedObject::RoleBinding, &binding)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn does_not_grant_reading_the_ca_secret() {
        let body = with_context(|_| {}, |context| super::role(context).expect("built").body);
        let rule = serde_json::json!({ "apiGroups": [""], "resources": ["secrets"],
            "resourceNames": ["metrics-core-serving"], "verbs": ["get", "list", "watch"] });
        assert_eq!(body["rules"], serde_json::json!([rule]));
    }
}
