//! cert-manager's Certificates and CertificateRequests (cert-manager.io/v1): the few fields that the operator reads.

use crds::{CertManagerSpec, CertificateSource, MetricsPipelineSpec};
use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;

pub(crate) use crate::common::names::CERT_MANAGER_GROUP as GROUP;

/// The name of the Secret that cert-manager writes. cert-manager owns it; it remains when the Certificate is deleted.
pub(crate) const SECRET: &str = "metrics-core-cert-manager";

/// The annotation with the revision of the Certificate for which a CertificateRequest was created.
const REVISION: &str = "cert-manager.io/certificate-revision";

/// Returns the spec's settings for cert-manager if cert-manager is the certificate source.
#[must_use]
pub(crate) fn requested(spec: &MetricsPipelineSpec) -> Option<&CertManagerSpec> {
    let certificates = &spec.certificates;
    certificates.cert_manager.as_ref().filter(|_| certificates.source == CertificateSource::CertManager)
}

/// Returns the API resource of CertificateRequests, which cert-manager creates to issue a Certificate.
#[must_use]
pub(crate) fn requests() -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, "v1", "CertificateRequest");
    ApiResource::from_gvk_with_plural(&kind, "certificaterequests")
}

/// The state of a Certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Issuance {
    /// The Secret contains the requested certificate.
    Issued,
    /// The Secret contains the requested certificate, but the last renewal failed.
    NotRenewed {
        /// What cert-manager reports, as a clause.
        message: String,
    },
    /// The Secret does not contain the requested certificate, or cert-manager has not processed the Certificate.
    Pending {
        /// Since when: the last change of the Certificate or of a condition.
        since: Option<Timestamp>,
        /// What cert-manager reports, as a clause.
        message: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CertManagerStatus {
    conditions: Vec<CertManagerCondition>,
    renewal_time: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertManagerCondition {
    r#type: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    last_transition_time: Option<Timestamp>,
    #[serde(default)]
    observed_generation: Option<i64>,
}

impl CertManagerCondition {
    /// Returns a clause: `Ready is False (Pending): Referenced issuer not found`.
    fn summary(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        // The clause is not the end of the sentence.
        let message = self.message.trim().trim_end_matches('.');
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        format!("{} is {}{reason}{message}", self.r#type, self.status)
    }
}

impl CertManagerStatus {
    fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status").cloned();
        status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Option<&CertManagerCondition> {
        self.conditions.iter().find(|condition| condition.r#type == kind)
    }
}

/// Returns the state of a Certificate that the operator last changed at `applied`.
#[must_use]
pub(crate) fn issuance(certificate: &DynamicObject, applied: Option<Timestamp>) -> Issuance {
    let status = CertManagerStatus::of(certificate);
    let ready = status.condition("Ready");
    let is_current = |condition: &&CertManagerCondition| {
        let generation = certificate.metadata.generation;
        condition
            .observed_generation
            .is_none_or(|seen| generation.is_none_or(|generation| seen >= generation))
    };
    match ready.filter(is_current) {
        Some(ready) if ready.status == "True" => {
            // cert-manager removes the condition when the next attempt succeeds.
            let failed = status.condition("Issuing").filter(|issuing| issuing.status == "False");
            failed.map_or(Issuance::Issued, |failed| Issuance::NotRenewed { message: failed.summary() })
        }
        current => {
            let changes = status.conditions.iter().filter_map(|condition| condition.last_transition_time);
            let since = changes.chain(applied).max();
            let message = match (current, ready) {
                (Some(ready), _) => {
                    // The failed attempt is more specific than Ready=False.
                    let failed = status.condition("Issuing").filter(|issuing| issuing.status == "False");
                    failed.unwrap_or(ready).summary()
                }
                (None, Some(_)) => "cert-manager has not processed its latest change".to_owned(),
                (None, None) => "it has no condition Ready: cert-manager has not processed it".to_owned(),
            };
            Issuance::Pending { since, message }
        }
    }
}

/// Returns when cert-manager will renew the certificate.
#[must_use]
pub(crate) fn renewal_time(certificate: &DynamicObject) -> Option<Timestamp> {
    CertManagerStatus::of(certificate).renewal_time
}

/// Returns the state of the latest request for a Certificate, as a clause:
/// `CertificateRequest ns/metrics-core-1: Ready is False (Pending): Referenced issuer not found`.
#[must_use]
pub(crate) fn latest_request(requests: &[DynamicObject], certificate_uid: &str) -> Option<String> {
    let of_it = |request: &&DynamicObject| {
        request.metadata.owner_references.iter().flatten().any(|owner| owner.uid == certificate_uid)
    };
    let age = |request: &&DynamicObject| {
        let annotations = request.metadata.annotations.as_ref();
        let revision = annotations.and_then(|annotations| annotations.get(REVISION));
        let revision = revision.and_then(|revision| revision.parse::<u64>().ok()).unwrap_or_default();
        (revision, request.metadata.creation_timestamp.as_ref().map(|time| time.0))
    };
    let request = requests.iter().filter(of_it).max_by_key(age)?;
    let status = CertManagerStatus::of(request);
    // A request that is denied or invalid is never issued, whatever its Ready condition says.
    let rejected = ["Denied", "InvalidRequest"]
        .into_iter()
        .filter_map(|kind| status.condition(kind))
        .find(|condition| condition.status == "True");
    let message = match rejected.or_else(|| status.condition("Ready")) {
        Some(condition) => condition.summary(),
        None if status.condition("Approved").is_none() => "it is not approved".to_owned(),
        None => "it is approved, but its issuer has not signed it yet".to_owned(),
    };
    let metadata = &request.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    Some(format!("CertificateRequest {namespace}/{name}: {message}"))
}

#[cfg(test)]
mod tests;
