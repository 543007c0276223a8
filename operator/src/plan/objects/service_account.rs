//! The identity of metrics-core.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Context, Desired};
use crate::common::ManagedObject;

/// Builds the ServiceAccount. The Deployment decides whether its token is mounted.
pub(crate) fn build(context: Context<'_>) -> Result<Desired, serde_json::Error> {
    let account = ServiceAccount {
        metadata: context.metadata(ManagedObject::ServiceAccount),
        ..ServiceAccount::default()
    };
    Desired::new(ManagedObject::ServiceAccount, &account)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn is_in_the_operators_namespace() {
        let body = with_context(|_| {}, |context| super::build(context).expect("built").body);
        assert_eq!(body["metadata"]["namespace"], "metrics-system");
        assert_eq!(body["kind"], "ServiceAccount");
    }
}
