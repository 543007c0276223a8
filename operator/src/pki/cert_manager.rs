//! Whether cert-manager is asked, and what it says of a Certificate (cert-manager.io/v1) and of the requests that it made
//! for it: the few fields that matter here.

use crds::{CertManagerSpec, CertificateSource, MetricsPipelineSpec};
use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;

pub use crate::common::names::CERT_MANAGER_GROUP as GROUP;

/// The Secret that cert-manager writes. It is cert-manager's and stays when the Certificate goes, as all of its do.
pub const SECRET: &str = "metrics-core-cert-manager";

/// By which revision of its Certificate a CertificateRequest was made.
const REVISION: &str = "cert-manager.io/certificate-revision";

/// What the spec asks cert-manager for, if it does.
#[must_use]
pub fn asked(spec: &MetricsPipelineSpec) -> Option<&CertManagerSpec> {
    let certificates = &spec.certificates;
    certificates.cert_manager.as_ref().filter(|_| certificates.source == CertificateSource::CertManager)
}

/// CertificateRequests, by which cert-manager has a Certificate issued.
#[must_use]
pub fn requests() -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, "v1", "CertificateRequest");
    ApiResource::from_gvk_with_plural(&kind, "certificaterequests")
}

/// How far cert-manager has come with a Certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuance {
    /// Its Secret holds what it asks for.
    Issued,
    /// So it does, but the last attempt to renew it failed.
    NotRenewed {
        /// What cert-manager says, as a part of a sentence.
        said: String,
    },
    /// Its Secret does not hold what it asks for, or nobody has looked yet.
    Waiting {
        /// Since when: the last time that anything about it changed.
        since: Option<Timestamp>,
        /// What cert-manager says, as a part of a sentence.
        said: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
    renewal_time: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
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

impl Condition {
    /// `Ready is False (Pending): Referenced issuer not found`.
    fn said(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason) };
        // As the sentence goes on.
        let message = self.message.trim().trim_end_matches('.');
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        format!("{} is {}{reason}{message}", self.r#type, self.status)
    }
}

impl Status {
    fn of(object: &DynamicObject) -> Self {
        let status = object.data.get("status").cloned();
        status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default()
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == kind)
    }
}

/// How far cert-manager has come with a Certificate that was last `applied` at a time.
#[must_use]
pub fn issuance(certificate: &DynamicObject, applied: Option<Timestamp>) -> Issuance {
    let status = Status::of(certificate);
    let ready = status.condition("Ready");
    let is_current = |condition: &&Condition| {
        let generation = certificate.metadata.generation;
        condition
            .observed_generation
            .is_none_or(|seen| generation.is_none_or(|generation| seen >= generation))
    };
    match ready.filter(is_current) {
        Some(ready) if ready.status == "True" => {
            // The condition goes when the next attempt succeeds.
            let failed = status.condition("Issuing").filter(|issuing| issuing.status == "False");
            failed.map_or(Issuance::Issued, |failed| Issuance::NotRenewed { said: failed.said() })
        }
        current => {
            let changes = status.conditions.iter().filter_map(|condition| condition.last_transition_time);
            let since = changes.chain(applied).max();
            let said = match (current, ready) {
                (Some(ready), _) => {
                    // An attempt that failed says more than that there is nothing yet.
                    let failed = status.condition("Issuing").filter(|issuing| issuing.status == "False");
                    failed.unwrap_or(ready).said()
                }
                (None, Some(_)) => "nobody has looked at it since it was changed".to_owned(),
                (None, None) => "it has no condition Ready: nobody has looked at it".to_owned(),
            };
            Issuance::Waiting { since, said }
        }
    }
}

/// When cert-manager renews what it issued.
#[must_use]
pub fn renewal_time(certificate: &DynamicObject) -> Option<Timestamp> {
    Status::of(certificate).renewal_time
}

/// What the latest request for a Certificate says, as a part of a sentence:
/// `CertificateRequest ns/metrics-core-1: Ready is False (Pending): Referenced issuer not found`.
#[must_use]
pub fn latest_request(requests: &[DynamicObject], certificate_uid: &str) -> Option<String> {
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
    let status = Status::of(request);
    // Whoever refuses it has the last word.
    let refused = ["Denied", "InvalidRequest"]
        .into_iter()
        .filter_map(|kind| status.condition(kind))
        .find(|condition| condition.status == "True");
    let said = match refused.or_else(|| status.condition("Ready")) {
        Some(condition) => condition.said(),
        None if status.condition("Approved").is_none() => "nobody has approved it".to_owned(),
        None => "it is approved, and its issuer has not answered".to_owned(),
    };
    let metadata = &request.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    Some(format!("CertificateRequest {namespace}/{name}: {said}"))
}

#[cfg(test)]
#[path = "cert_manager_tests.rs"]
mod tests;
