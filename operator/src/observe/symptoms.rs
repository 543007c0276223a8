//! What shows from outside that something is wrong, and what the replicas saw of kube-apiserver.

use crds::cause::CredentialCause;
use crds::report::{FrontProxyClient, RefusedCredential, Report};
use jiff::SignedDuration;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::{Observed, Served};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;

/// What kube-apiserver says of an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Which.
    pub object: ManagedObject,
    /// `Available`'s reason.
    pub reason: String,
    /// `Available`'s message.
    pub message: String,
}

/// What shows from outside, and what the replicas saw.
#[derive(Clone, Debug, Default)]
pub struct Symptoms {
    /// Whether the APIServices are there and ours: else nothing of what follows concerns us.
    pub ours: bool,
    /// What kube-apiserver says against an APIService of ours.
    pub unavailable: Option<Unavailable>,
    /// What went wrong with a request for metrics.
    pub failed_request: Option<String>,
    /// Whether a request for metrics was answered.
    pub answered: bool,
    /// Whether any replica told what it sees.
    pub reported: bool,
    /// The last client certificate that was refused for a request to the API, and how long ago.
    pub refused: Option<(CredentialCause, RefusedCredential, SignedDuration)>,
    /// How long ago a front proxy was last accepted.
    pub accepted: Option<SignedDuration>,
    /// The front proxy of that request.
    pub accepted_client: Option<FrontProxyClient>,
    /// How long ago a request for the API came without any credential.
    pub anonymous: Option<SignedDuration>,
    /// Clients that refused the replicas' certificate lately, and how long ago the last one was.
    pub alerts: Option<SignedDuration>,
}

impl Symptoms {
    /// Reads them.
    #[must_use]
    pub fn read(observed: &Observed) -> Self {
        let ours = observed.object(ManagedObject::ApiServiceV1beta1).is_some_and(is_ours);
        let mut symptoms = Self { ours, unavailable: unavailable(observed), ..Self::default() };
        match &observed.served {
            Served::NotAsked => {}
            Served::Answered { .. } => symptoms.answered = true,
            Served::Refused { code, message } => {
                symptoms.failed_request = Some(format!("{code}: \"{message}\""));
            }
            Served::Failed { message } => symptoms.failed_request = Some(message.clone()),
        }
        for report in observed.reports() {
            symptoms.reported = true;
            symptoms.take(report);
        }
        symptoms
    }

    /// Whether requests do not get through.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.ours && (self.unavailable.is_some() || self.failed_request.is_some())
    }

    /// What was said against it: what lasts first, as the answers to single requests differ from one to the next.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        let unavailable = self.unavailable.as_ref().map(|said| said.message.as_str());
        [unavailable, self.failed_request.as_deref()].into_iter().flatten()
    }

    /// All of that.
    #[must_use]
    pub fn all_messages(&self) -> String {
        self.messages().collect::<Vec<_>>().join(" ")
    }

    fn take(&mut self, report: &Report) {
        let age = |time: jiff::Timestamp| report.now.duration_since(time);
        let sooner = |now: &Option<SignedDuration>, then: SignedDuration| now.is_none_or(|now| then < now);
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
            && sooner(&self.accepted, age(time))
        {
            self.accepted = Some(age(time));
            self.accepted_client.clone_from(&report.last_front_proxy);
        }
        if let Some(time) = report.last_anonymous_request
            && sooner(&self.anonymous, age(time))
        {
            self.anonymous = Some(age(time));
        }
        for failed in report.failed_handshakes.iter().filter(|failed| failed.cause.to_string() == "alert") {
            if sooner(&self.alerts, age(failed.last)) {
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
        Some(Unavailable {
            object,
            reason: available.reason.unwrap_or_default(),
            message: available.message.unwrap_or_default(),
        })
    })
}
