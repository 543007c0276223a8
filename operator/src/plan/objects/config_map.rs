//! The ConfigMap with the CA bundle that verifies kubelets. metrics-core reloads it when it changes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{Context, Desired};
use crate::common::ManagedObject;

/// The key, and the name of the mounted file.
pub(crate) const KUBELET_CA: &str = "kubelet-ca.crt";

/// Builds a copy of the CA bundle: its source may be any ConfigMap of the namespace and any key.
pub(crate) fn build(context: Context<'_>, kubelet_ca: &str) -> Result<Desired, serde_json::Error> {
    let map = ConfigMap {
        metadata: context.metadata(ManagedObject::ConfigMap),
        data: Some(BTreeMap::from([(KUBELET_CA.to_owned(), kubelet_ca.to_owned())])),
        ..ConfigMap::default()
    };
    Desired::new(ManagedObject::ConfigMap, &map)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;

    #[test]
    fn contains_the_ca() {
        let body = with_context(|_| {}, |context| super::build(context, "PEM").expect("built").body);
        assert_eq!(body["data"], serde_json::json!({ "kubelet-ca.crt": "PEM" }));
    }
}
