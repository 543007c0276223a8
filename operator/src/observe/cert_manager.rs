//! Reads the message of cert-manager's CertificateRequest while the serving certificate is not issued.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};

use crate::common::names::METRICS_CORE_SELECTOR;
use crate::pki::cert_manager::{Issuance, issuance, latest_request, requests};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum count of requests that are read; cert-manager keeps one of each Certificate.
const MAX_REQUESTS: u32 = 50;

/// Returns the message of the latest request; `None` when the Certificate is issued or no request can be read.
pub(super) async fn request(
    client: &Client,
    namespace: &str,
    certificate: Option<&DynamicObject>,
) -> Option<String> {
    let certificate = certificate.filter(|certificate| issuance(certificate, None) != Issuance::Issued)?;
    let uid = certificate.metadata.uid.as_deref()?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &requests());
    // cert-manager copies the labels of the Certificate.
    let parameters = ListParams::default().labels(METRICS_CORE_SELECTOR).limit(MAX_REQUESTS);
    let list = tokio::time::timeout(TIMEOUT, api.list(&parameters)).await.ok()?.ok()?;
    latest_request(&list.items, uid)
}
