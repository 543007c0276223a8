//! The Secret with the front-proxy client certificate, for the control-plane nodes.

use crds::FrontProxyDeletion;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Context, Desired, tls_secret};
use crate::common::ManagedObject;
use crate::pki::front_proxy::FrontProxyPlan;

/// Builds the Secret: `tls.crt` and `tls.key` for `--proxy-client-…-file`, `ca.crt` for `--requestheader-client-ca-file`.
pub(crate) fn build(context: Context<'_>, plan: &FrontProxyPlan) -> Result<Desired, serde_json::Error> {
    let object = ManagedObject::FrontProxySecret;
    let bundle = ("ca.crt", plan.bundle.as_str());
    tls_secret::build(object, metadata(context, object), Some(&plan.client), &[bundle])
}

/// A Secret that is kept on deletion has no owner reference, as the garbage collector would delete it.
pub(super) fn metadata(context: Context<'_>, object: ManagedObject) -> ObjectMeta {
    let metadata = context.metadata(object);
    match context.spec.certificates.front_proxy.on_deletion {
        FrontProxyDeletion::Keep => ObjectMeta { owner_references: None, ..metadata },
        FrontProxyDeletion::Delete => metadata,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;
    use crate::observe::Observed;
    use crate::plan::front_proxy;

    #[test]
    fn kept_secrets_have_no_owner() {
        for (on_deletion, owned) in [(FrontProxyDeletion::Keep, false), (FrontProxyDeletion::Delete, true)] {
            let bodies = with_context(
                |spec| spec.certificates.front_proxy.on_deletion = on_deletion,
                |context| {
                    let now = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
                    let plan = front_proxy::plan(context.spec, context.settings, &Observed::default(), now);
                    let plan = plan.expect("a plan");
                    let ca = super::super::front_proxy_ca_secret::build(context, &plan).expect("built");
                    [build(context, &plan).expect("built").body, ca.body]
                },
            );
            for body in bodies {
                assert_eq!(body["metadata"].get("ownerReferences").is_some(), owned, "{}", body["metadata"]);
                assert!(body["metadata"]["labels"].is_object());
            }
        }
    }
}
