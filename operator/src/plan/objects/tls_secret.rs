//! What the four Secrets with a certificate and its key have in common.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Desired;
use crate::common::ManagedObject;
use crate::pki::Pair;

/// Builds a Secret of type `kubernetes.io/tls` with a pair in `tls.crt` and `tls.key`, and further keys.
pub(super) fn build(
    object: ManagedObject,
    metadata: ObjectMeta,
    pair: Option<&Pair>,
    more: &[(&str, &str)],
) -> Result<Desired, serde_json::Error> {
    let pair = pair.map(|pair| [("tls.crt", pair.certificate.as_str()), ("tls.key", pair.key.expose())]);
    let data = pair.iter().flatten().chain(more);
    let secret = Secret {
        metadata,
        data: Some(
            data.map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect(),
        ),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    Desired::new(object, &secret)
}
