//! The Secret with the serving certificate of metrics-core.

use super::{Context, Desired, tls_secret};
use crate::common::ManagedObject;
use crate::pki::ServingPlan;

/// Builds the Secret with `tls.crt`, `tls.key`, and in `ca.crt` every CA that clients should trust.
pub(crate) fn build(context: Context<'_>, certificates: &ServingPlan) -> Result<Desired, serde_json::Error> {
    let object = ManagedObject::ServingSecret;
    let bundle = ("ca.crt", certificates.bundle.as_str());
    tls_secret::build(object, context.metadata(object), Some(&certificates.serving), &[bundle])
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use crate::pki;

    #[test]
    fn contains_the_bundle_but_not_the_ca_key() {
        let now = jiff::Timestamp::UNIX_EPOCH + pki::BACKDATE;
        let (plan, desired) = with_context(
            |_| {},
            |context| {
                let wanted = crate::plan::certificates::wanted(context.spec, context.settings);
                let plan = pki::serving::plan(&wanted, &pki::StoredServing::default(), now).expect("a plan");
                let desired = super::build(context, &plan).expect("built");
                (plan, desired)
            },
        );
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(desired.body).expect("a Secret");
        let data = secret.data.expect("data");
        assert_eq!(data["ca.crt"].0, plan.bundle.as_bytes());
        assert!(
            data.values().all(|value| value.0 != plan.ca.as_ref().expect("a CA").key.expose().as_bytes())
        );
    }
}
