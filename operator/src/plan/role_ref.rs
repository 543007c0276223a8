//! What to do with a managed binding that references another role.
//!
//! A binding's roleRef is immutable (Kubernetes, "Using RBAC Authorization"), so the binding must be recreated. That is
//! safe for a managed binding: it has no data, the UID protects another binding of the same name, and a permission that is
//! missing for a moment is either one that metrics-core should not have or one that it gets back at once; kubelets and
//! metrics-core cache permissions for longer. A foreign binding never gets here: it is a `ForeignObject` and left alone.

use crds::Reason;
use kube::core::DynamicObject;
use serde_json::Value;

use super::Removal;
use super::objects::Desired;
use crate::common::Problem;

/// What to do with an existing binding.
#[derive(Debug, PartialEq)]
pub(super) enum RoleRefAction {
    /// Apply it: it references the right role.
    Apply,
    /// Delete it, to create it in the next round.
    Replace(Removal),
    /// Wait: it is being deleted, and a finalizer blocks that.
    Wait(Problem),
}

/// Compares the roles. `found` is managed by the operator.
pub(super) fn role_ref_action(
    desired: &Desired,
    found: Option<&DynamicObject>,
    namespace: &str,
) -> RoleRefAction {
    let Some(found) = found else { return RoleRefAction::Apply };
    let wanted = role(&desired.body["roleRef"]);
    let bound = role(&found.data["roleRef"]);
    let (Some(uid), false) = (found.metadata.uid.clone(), wanted == bound) else {
        return RoleRefAction::Apply;
    };
    let name = desired.object.describe(namespace);
    let kubectl = desired.object.kubectl(namespace);
    if found.metadata.deletion_timestamp.is_some() {
        let finalizers = found.metadata.finalizers.clone().unwrap_or_default().join(", ");
        return RoleRefAction::Wait(Problem::new(
            Reason::ImmutableField,
            format!(
                "{name} references {bound} instead of {wanted}, and roleRef is immutable. The operator is recreating \
                 the binding, but finalizers block its deletion ({finalizers}). Wait for their owner, or remove them \
                 with `kubectl edit {kubectl}`."
            ),
        ));
    }
    RoleRefAction::Replace(Removal {
        object: desired.object,
        uid,
        replaced: Some(format!(
            "{name} referenced {bound} instead of {wanted}. Because roleRef is immutable, the operator recreates the \
            binding."
        )),
    })
}

/// Returns kind and name of a role: `ClusterRole view`. kube-apiserver adds the group.
fn role(reference: &Value) -> String {
    let text = |key: &str| reference[key].as_str().unwrap_or("(none)");
    format!("{} {}", text("kind"), text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::ManagedObject;
    use serde_json::json;

    fn desired() -> Desired {
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "metrics-core:collector" });
        Desired::new(ManagedObject::CollectorBinding, &json!({ "roleRef": role })).expect("an object")
    }

    #[allow(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn found(role: &str, metadata: Value) -> DynamicObject {
        serde_json::from_value(json!({ "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role } }))
        .expect("an object")
    }

    #[test]
    fn applies_the_right_role_and_a_missing_binding() {
        assert_eq!(role_ref_action(&desired(), None, "ns"), RoleRefAction::Apply);
        let same = found("metrics-core:collector", json!({ "uid": "u" }));
        assert_eq!(role_ref_action(&desired(), Some(&same), "ns"), RoleRefAction::Apply);
    }

    #[test]
    fn recreates_a_binding_to_another_role() {
        let other = found("cluster-admin", json!({ "uid": "u" }));
        let RoleRefAction::Replace(removal) = role_ref_action(&desired(), Some(&other), "ns") else {
            panic!("not replaced")
        };
        assert_eq!((removal.object, removal.uid.as_str()), (ManagedObject::CollectorBinding, "u"));
        let why = removal.replaced.expect("why");
        assert!(
            why.contains("ClusterRoleBinding metrics-core:collector referenced ClusterRole cluster-admin"),
            "{why}"
        );
    }

    #[test]
    fn reports_finalizers_that_block_the_deletion() {
        let kept = found(
            "view",
            json!({ "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.example/x"] }),
        );
        let RoleRefAction::Wait(problem) = role_ref_action(&desired(), Some(&kept), "ns") else {
            panic!("not waited for")
        };
        assert_eq!(problem.reason, Reason::ImmutableField);
        let edit = "kubectl edit clusterrolebindings.rbac.authorization.k8s.io metrics-core:collector";
        assert!(
            problem.message.contains("a.example/x") && problem.message.contains(edit),
            "{}",
            problem.message
        );
    }
}
