//! The Secret with the front-proxy CA's certificate and key.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::ca_secret::PREVIOUS;
use super::{Context, Desired};
use crate::common::ManagedObject;
use crate::pki::front_proxy::FrontProxyPlan;

/// The keys of the next CA, which is used once kube-apiserver trusts it.
pub(crate) const NEXT: [&str; 2] = ["next.crt", "next.key"];

/// Builds the Secret with `tls.crt` and `tls.key`; `next.crt` and `next.key` while the CA is being replaced;
/// `previous.crt` while earlier ones are valid.
pub(crate) fn build(context: Context<'_>, plan: &FrontProxyPlan) -> Result<Desired, serde_json::Error> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut data = BTreeMap::from([
        ("tls.crt".to_owned(), bytes(&plan.ca.certificate)),
        ("tls.key".to_owned(), bytes(plan.ca.key.expose())),
    ]);
    if let Some(next) = &plan.next {
        let [certificate, key] = NEXT.map(str::to_owned);
        data.insert(certificate, bytes(&next.certificate));
        data.insert(key, bytes(next.key.expose()));
    }
    if !plan.previous.is_empty() {
        data.insert(PREVIOUS.to_owned(), bytes(&plan.previous));
    }
    let secret = Secret {
        metadata: super::front_proxy_secret::metadata(context, ManagedObject::FrontProxyCaSecret),
        data: Some(data),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    Desired::new(ManagedObject::FrontProxyCaSecret, &secret)
}
