//! Counters of what came of credentials.

use crds::cause::CredentialCause;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Method, Refusal};
use crate::telemetry::Occasional;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Users {
    method: Method,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusals {
    reason: &'static str,
}

impl EncodeLabelValue for Method {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::FrontProxy => "front_proxy",
            Self::ClientCertificate => "client_certificate",
            Self::Token => "token",
            Self::Anonymous => "anonymous",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

/// The counters. One line a cause and interval goes to the log.
#[derive(Clone, Default)]
pub struct Metrics {
    users: Family<Users, Counter>,
    refusals: Family<Refusals, Counter>,
    log: Occasional<CredentialCause>,
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_core_authenticated_requests",
            "Requests by how their user was told",
            self.users.clone(),
        );
        registry.register(
            "metrics_core_refused_credentials",
            "Credentials that were refused, by cause; the request is answered with 401",
            self.refusals.clone(),
        );
    }

    pub(super) fn success(&self, method: Method) {
        self.users.get_or_create(&Users { method }).inc();
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        self.refusals.get_or_create(&Refusals { reason: refusal.reason.as_str() }).inc();
        if let Some(more) = self.log.due(refusal.reason) {
            tracing::warn!(
                reason = refusal.reason.as_str(),
                since_last = more,
                "credential refused: {}",
                refusal.detail
            );
        }
    }
}
