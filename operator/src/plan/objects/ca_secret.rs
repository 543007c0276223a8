//! The Secret with the CA's certificate and key.

use super::{Context, Desired, tls_secret};
use crate::common::ManagedObject;
use crate::pki::ServingPlan;

/// The key of earlier CA certificates that are still trusted.
pub(crate) const PREVIOUS: &str = "previous.crt";

/// Builds the Secret with `tls.crt`, `tls.key`, and `previous.crt` while the CA is being replaced.
pub(crate) fn build(context: Context<'_>, certificates: &ServingPlan) -> Result<Desired, serde_json::Error> {
    let object = ManagedObject::CaSecret;
    let previous = (PREVIOUS, certificates.previous.as_str());
    let more = if certificates.previous.is_empty() { &[][..] } else { &[previous] };
    tls_secret::build(object, context.metadata(object), certificates.ca.as_ref(), more)
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use crate::pki;

    #[test]
    fn is_a_tls_secret_that_debug_does_not_show() {
        let now = jiff::Timestamp::UNIX_EPOCH + pki::BACKDATE;
        let (_, desired) = with_context(
            |_| {},
            |context| {
                let wanted = crate::plan::certificates::wanted(context.spec, context.settings);
                let plan = pki::serving::plan(&wanted, &pki::StoredServing::default(), now).expect("a plan");
                let desired = super::build(context, &plan).expect("built");
                (plan, desired)
            },
        );
        assert_eq!(desired.body["type"], "kubernetes.io/tls");
        assert_eq!(desired.body["data"].as_object().expect("data").len(), 2);
        assert_eq!(format!("{desired:?}"), "Desired(Secret metrics-core-ca by metrics-pipeline-operator)");
    }
}
