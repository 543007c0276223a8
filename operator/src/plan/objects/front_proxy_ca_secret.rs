//! The Secret with the front-proxy CA's certificate and key.

use super::ca_secret::PREVIOUS;
use super::{Context, Desired, tls_secret};
use crate::common::ManagedObject;
use crate::pki::front_proxy::FrontProxyPlan;

/// The keys of the next CA, which is used once kube-apiserver trusts it.
pub(crate) const NEXT: [&str; 2] = ["next.crt", "next.key"];

/// Builds the Secret with `tls.crt` and `tls.key`; `next.crt` and `next.key` while the CA is being replaced;
/// `previous.crt` while earlier ones are valid.
pub(crate) fn build(context: Context<'_>, plan: &FrontProxyPlan) -> Result<Desired, serde_json::Error> {
    let object = ManagedObject::FrontProxyCaSecret;
    let mut more = Vec::new();
    if let Some(next) = &plan.next {
        let [certificate, key] = NEXT;
        more.extend([(certificate, next.certificate.as_str()), (key, next.key.expose())]);
    }
    if !plan.previous.is_empty() {
        more.push((PREVIOUS, plan.previous.as_str()));
    }
    let metadata = super::front_proxy_secret::metadata(context, object);
    tls_secret::build(object, metadata, Some(&plan.ca), &more)
}
