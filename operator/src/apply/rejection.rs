//! What an error response of kube-apiserver to a write means, and what to do about it.

use crds::Reason;
use kube::core::Status;

use super::in_flight::PATIENCE;
use crate::common::Problem;
use crate::common::normalize::normalize;

/// Returns the problem that an error response describes. kube-apiserver returns 403 both for a missing permission and for
/// an object that admission rejects.
pub(super) fn problem(name: &str, kubectl: &str, verb: &str, status: &Status) -> Problem {
    let reported = normalize(&status.message);
    let is_rbac = reported.contains(" cannot ") || reported.contains("attempting to grant RBAC permissions");
    if status.is_forbidden() && is_rbac {
        return Problem::new(
            Reason::PermissionMissing,
            format!(
                "{name} cannot be {verb} because the operator lacks a permission: kube-apiserver returned \"{reported}\". \
                 Restore it: run `helm upgrade` with the chart of this version.",
            ),
        );
    }
    // apimachinery's validation (422): "field is immutable", and RBAC's own "cannot change roleRef".
    if status.code == 422 && (reported.contains("immutable") || reported.contains("cannot change roleRef")) {
        return Problem::new(
            Reason::ImmutableField,
            format!(
                "{name} cannot be {verb} because an immutable field has another value: kube-apiserver returned \"{reported}\". Run \
                 `kubectl delete {kubectl}`; the operator then recreates it.",
            ),
        );
    }
    Problem::new(
        Reason::ApplyFailed,
        format!("{name} cannot be {verb}: kube-apiserver returned \"{reported}\". The operator retries."),
    )
}

/// Returns the problem of a write without a response.
pub(super) fn no_response(name: &str, verb: &str) -> Problem {
    Problem::new(
        Reason::ApplyFailed,
        format!(
            "{name} cannot be {verb}: kube-apiserver did not respond within {} s. An admission webhook may hang: check the \
             Services of the webhooks that match this object (`kubectl get \
             validatingwebhookconfigurations,mutatingwebhookconfigurations`). The operator retries; other objects are not \
             affected.",
            PATIENCE.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_a_missing_permission_from_a_rejected_object() {
        let forbidden = |message: &str| {
            problem("Role ns/a", "roles a", "applied", &Status::failure(message, "Forbidden").with_code(403))
        };
        let missing =
            forbidden("roles is forbidden: User \"x\" cannot patch resource \"roles\" in API group \"\"");
        assert_eq!(missing.reason, Reason::PermissionMissing);
        assert!(missing.message.contains("cannot patch resource \"roles\""), "{}", missing.message);
        assert_eq!(forbidden("exceeded quota: q").reason, Reason::ApplyFailed);
    }
}
