//! A binding of ours that binds to another role.
//!
//! A binding's role can't be changed (Kubernetes, "Using RBAC Authorization"), so such a one can only be deleted and
//! made anew. That is safe to do with one that is ours: the binding carries no data, the UID keeps another one from
//! being hit, and what falls away for the moment between is either a right that metrics-core was never meant to have or
//! one that it gets back at once; kubelets and metrics-core itself remember permissions for longer. One that is
//! nobody's or somebody else's never gets here: it is a `ForeignObject` and left alone.

use crds::Reason;
use kube::core::DynamicObject;
use serde_json::Value;

use super::Removal;
use super::objects::Desired;
use crate::common::Problem;

/// What is to be done with a binding that is there.
#[derive(Debug, PartialEq)]
pub(super) enum RoleRefAction {
    /// It binds to the right role.
    Apply,
    /// It is deleted, and made anew in the next round.
    Replace(Removal),
    /// It is being deleted, and somebody keeps it from going.
    Wait(Problem),
}

/// Compares the roles. `found` is ours.
pub(super) fn course(desired: &Desired, found: Option<&DynamicObject>, namespace: &str) -> RoleRefAction {
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

/// `ClusterRole view`, for people; kube-apiserver fills in the group.
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
    fn the_right_role_and_none_at_all_are_applied() {
        assert_eq!(course(&desired(), None, "ns"), RoleRefAction::Apply);
        let same = found("metrics-core:collector", json!({ "uid": "u" }));
        assert_eq!(course(&desired(), Some(&same), "ns"), RoleRefAction::Apply);
    }

    #[test]
    fn another_role_means_another_binding() {
        let other = found("cluster-admin", json!({ "uid": "u" }));
        let RoleRefAction::Replace(removal) = course(&desired(), Some(&other), "ns") else {
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
    fn one_that_is_kept_is_told_with_the_remedy() {
        let kept = found(
            "view",
            json!({ "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.example/x"] }),
        );
        let RoleRefAction::Wait(problem) = course(&desired(), Some(&kept), "ns") else {
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
