//! The symptoms of a fault: APIServices that are not available, failed metrics requests, and what the replicas report about
//! requests from kube-apiserver.

use crds::cause::CredentialCause;
use crds::report::{FrontProxyClient, RefusedCredential, Report};
use jiff::SignedDuration;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::{Observed, Served};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;

/// The condition `Available` of an APIService, when it is not True.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The APIService.
    pub object: ManagedObject,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub message: String,
    /// The HTTP status that kube-apiserver received from metrics-core, if the message reports one.
    pub code: Option<u16>,
}

/// All symptoms of a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symptoms {
    /// Whether the APIServices exist and are ours. If not, the other symptoms concern another metrics server.
    pub ours: bool,
    /// The first of our APIServices that is not available.
    pub unavailable: Option<Unavailable>,
    /// The error of the operator's last metrics request, if it failed.
    pub failed_request: Option<String>,
    /// The HTTP status of that request, if it had a response.
    pub failed_code: Option<u16>,
    /// Whether the operator's last metrics request succeeded.
    pub request_succeeded: bool,
    /// Whether a replica reported.
    pub reported: bool,
    /// The last client certificate that was rejected for an API request, and its age.
    pub refused: Option<(CredentialCause, RefusedCredential, SignedDuration)>,
    /// The age of the last request from an accepted front proxy.
    pub accepted: Option<SignedDuration>,
    /// The front proxy of that request.
    pub accepted_client: Option<FrontProxyClient>,
    /// The age of the last API request without credentials.
    pub anonymous: Option<SignedDuration>,
    /// The age of the last TLS alert from a client that rejected a replica's certificate.
    pub alerts: Option<SignedDuration>,
}

impl Symptoms {
    /// Derives the symptoms from the observed state.
    #[must_use]
    pub(crate) fn read(observed: &Observed) -> Self {
        let ours = observed.object(ManagedObject::ApiServiceV1beta1).is_some_and(is_ours);
        let mut symptoms = Self { ours, unavailable: unavailable(observed), ..Self::default() };
        match &observed.served {
            Served::NotRequested => {}
            Served::Succeeded { .. } => symptoms.request_succeeded = true,
            Served::ErrorResponse { code, message } => {
                symptoms.failed_request = Some(format!("{code}: \"{message}\""));
                symptoms.failed_code = Some(*code);
            }
            Served::Failed { message } => symptoms.failed_request = Some(message.clone()),
        }
        for report in observed.reports() {
            symptoms.reported = true;
            symptoms.take(report);
        }
        symptoms
    }

    /// Returns whether metrics requests fail.
    #[must_use]
    pub(crate) fn broken(&self) -> bool {
        self.ours && (self.unavailable.is_some() || self.failed_request.is_some())
    }

    /// Returns the error messages. The condition's message comes first, because it is more stable than the errors of single
    /// requests.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &str> {
        let unavailable = self.unavailable.as_ref().map(|unavailable| unavailable.message.as_str());
        [unavailable, self.failed_request.as_deref()].into_iter().flatten()
    }

    /// Returns whether a request to metrics-core had a response with this HTTP status.
    #[must_use]
    pub(crate) fn has_code(&self, code: u16) -> bool {
        let unavailable = self.unavailable.as_ref().and_then(|unavailable| unavailable.code);
        [unavailable, self.failed_code].contains(&Some(code))
    }

    /// Returns all error messages, joined by spaces.
    #[must_use]
    pub(crate) fn all_messages(&self) -> String {
        self.messages().collect::<Vec<_>>().join(" ")
    }

    fn take(&mut self, report: &Report) {
        let age = |time: jiff::Timestamp| report.now.duration_since(time);
        let is_newer =
            |known: &Option<SignedDuration>, age: SignedDuration| known.is_none_or(|known| age < known);
        for refused in &report.refused_credentials {
            if matches!(refused.cause, CredentialCause::TokenRejected | CredentialCause::TokenReviewFailed) {
                continue;
            }
            for example in refused.examples.iter().filter(|example| example.for_api) {
                let last =
                    if example.last == jiff::Timestamp::default() { refused.last } else { example.last };
                if self.refused.as_ref().is_none_or(|(_, _, known)| age(last) < *known) {
                    self.refused = Some((refused.cause, example.clone(), age(last)));
                }
            }
        }
        if let Some(time) = report.last_front_proxy_request
            && is_newer(&self.accepted, age(time))
        {
            self.accepted = Some(age(time));
            self.accepted_client.clone_from(&report.last_front_proxy);
        }
        if let Some(time) = report.last_anonymous_request
            && is_newer(&self.anonymous, age(time))
        {
            self.anonymous = Some(age(time));
        }
        for failed in report.failed_handshakes.iter().filter(|failed| failed.cause.to_string() == "alert") {
            if is_newer(&self.alerts, age(failed.last)) {
                self.alerts = Some(age(failed.last));
            }
        }
    }
}

fn unavailable(observed: &Observed) -> Option<Unavailable> {
    ManagedObject::API_SERVICES.into_iter().find_map(|object| {
        observed.object(object).filter(|object| is_ours(object))?;
        let available = observed
            .typed::<APIService>(object)?
            .status?
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition.type_ == "Available" && condition.status != "True")?;
        let message = available.message.unwrap_or_default();
        Some(Unavailable {
            object,
            reason: available.reason.unwrap_or_default(),
            code: bad_status(&message),
            message,
        })
    })
}

/// Returns the HTTP status in a message of kube-aggregator's availability check, which ends with
/// `bad status from URL: STATUS`. Other numbers in a message, such as ports, are no status.
fn bad_status(message: &str) -> Option<u16> {
    let (_, rest) = message.rsplit_once("bad status")?;
    let (_, code) = rest.rsplit_once(": ")?;
    let code = code.trim_end_matches(|end: char| end == '.' || end.is_whitespace());
    if code.len() == 3 { code.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_only_where_kube_apiserver_writes_it() {
        let url = "https://10.0.0.9:4443/apis/metrics.k8s.io/v1beta1";
        let reported = format!("failing or missing response from {url}: bad status from {url}: 401");
        assert_eq!(bad_status(&reported), Some(401));
        assert_eq!(bad_status("bad status: 403"), Some(403));
        for other in [
            "bad status from https://10.0.0.9:4443/apis: 4010",
            "bad status from https://10.0.0.9:4010/apis: EOF",
            "Get \"https://10.0.0.9:443/apis\": read tcp 10.0.0.1:40150->10.0.0.9:4443: read: connection reset by peer",
            "no response within 401 s",
            "",
        ] {
            assert_eq!(bad_status(other), None, "{other}");
        }
    }
}
