//! What cert-manager says of the request that it made for the serving certificate, while that is of interest.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};

use crate::common::METRICS_CORE;
use crate::pki::cert_manager::{Issuance, issuance, latest_request, requests};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Requests beyond this many are not looked at; cert-manager keeps one of each Certificate.
const MAX_REQUESTS: u32 = 50;

/// The latest request's words; `None` when the Certificate is issued, or there is no request that can be read.
pub(super) async fn request(
    client: &Client,
    namespace: &str,
    certificate: Option<&DynamicObject>,
) -> Option<String> {
    let certificate = certificate.filter(|certificate| issuance(certificate, None) != Issuance::Issued)?;
    let uid = certificate.metadata.uid.as_deref()?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &requests());
    // cert-manager copies the labels of the Certificate.
    let labels = format!("app.kubernetes.io/name={METRICS_CORE}");
    let parameters = ListParams::default().labels(&labels).limit(MAX_REQUESTS);
    let list = tokio::time::timeout(TIMEOUT, api.list(&parameters)).await.ok()?.ok()?;
    latest_request(&list.items, uid)
}
