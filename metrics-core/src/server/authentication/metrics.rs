//! Metrics of authentication.

use crds::cause::CredentialCause;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Method, Refusal};
use crate::telemetry::LogLimiter;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: Method,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
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

/// The counters. Rejected credentials are also logged, with a rate limit. Clones share their content.
#[derive(Clone, Default)]
pub struct CredentialMetrics {
    users: Family<MethodLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    log: LogLimiter<CredentialCause>,
}

impl CredentialMetrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_core_authenticated_requests",
            "Authenticated requests by authentication method",
            self.users.clone(),
        );
        registry.register(
            "metrics_core_refused_credentials",
            "Rejected credentials by reason; the response is 401",
            self.refusals.clone(),
        );
    }

    pub(super) fn authenticated(&self, method: Method) {
        self.users.get_or_create(&MethodLabels { method }).inc();
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        self.refusals.get_or_create(&ReasonLabels { reason: refusal.reason.as_str() }).inc();
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
