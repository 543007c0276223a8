//! The permission to read ConfigMap extension-apiserver-authentication.

use k8s_openapi::api::rbac::v1::RoleBinding;

use super::{Context, Desired, role_ref};
use crate::common::ManagedObject;

/// Builds the binding to `extension-apiserver-authentication-reader` in `kube-system`.
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let binding = RoleBinding {
        metadata: context.metadata(ManagedObject::AuthReaderBinding),
        role_ref: role_ref("Role", "extension-apiserver-authentication-reader"),
        subjects: Some(context.subjects()),
    };
    Desired::new(ManagedObject::AuthReaderBinding, &binding)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn is_in_kube_system_and_names_the_account_of_the_operator_namespace() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["metadata"]["namespace"], "kube-system");
        assert_eq!(body["subjects"][0]["namespace"], "metrics-system");
    }
}
