//! Metrics of connections and handshakes.

use std::net::{IpAddr, SocketAddr};

use crds::cause::HandshakeCause;
use crds::report::FailedHandshakes;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handshake::meaning;
use crate::telemetry::{LogLimiter, RecentEvents, excerpt};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    /// `done`, or the cause of the failure.
    outcome: &'static str,
}

/// The client of a failed handshake, and the error of the TLS library.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FailedClient {
    address: IpAddr,
    detail: String,
}

/// The maximum length of a failure message in characters.
const MAX_MESSAGE: usize = 300;

/// The metrics. Failures are also logged, with a rate limit. Clones share their content.
#[derive(Clone, Default)]
pub struct ConnectionMetrics {
    handshakes: Family<HandshakeLabels, Counter>,
    open: Gauge,
    closed: Family<CloseLabels, Counter>,
    failed: RecentEvents<HandshakeCause, FailedClient>,
    log: LogLimiter<HandshakeCause>,
    closed_log: LogLimiter<CloseCause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    cause: CloseCause,
}

/// The cause for which this server closed a connection, or a watch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CloseCause {
    TooMany,
    Idle,
    SlowClient,
    SlowWatch,
    Memory,
}

impl EncodeLabelValue for CloseCause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::TooMany => "too_many_connections",
            Self::Idle => "idle",
            Self::SlowClient => "slow_client",
            Self::SlowWatch => "slow_watch",
            Self::Memory => "memory",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl ConnectionMetrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_core_tls_handshakes",
            "TLS handshakes by outcome: done, or the cause of the failure",
            self.handshakes.clone(),
        );
        registry.register(
            "metrics_core_open_connections",
            "Open connections, including those in a TLS handshake",
            self.open.clone(),
        );
        registry.register(
            "metrics_core_closed_connections",
            "Connections and watches closed by this server, by cause",
            self.closed.clone(),
        );
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn opened(&self) -> OpenGuard {
        self.open.inc();
        OpenGuard(self.open.clone())
    }

    pub(super) fn handshake_done(&self) {
        self.handshakes.get_or_create(&HandshakeLabels { outcome: "done" }).inc();
    }

    pub(super) fn handshake_failed(&self, cause: HandshakeCause, client: SocketAddr, detail: &str) {
        self.handshakes.get_or_create(&HandshakeLabels { outcome: cause.as_str() }).inc();
        let address = client.ip().to_canonical();
        self.failed.record(cause, FailedClient { address, detail: excerpt(detail, MAX_MESSAGE) });
        let Some(more) = self.log.due(cause) else { return };
        let meaning = meaning(cause);
        if cause == HandshakeCause::Closed {
            tracing::debug!(%cause, client = %address, since_last = more, "TLS handshake failed: {meaning}");
        } else {
            tracing::info!(%cause, client = %address, since_last = more, "TLS handshake failed: {meaning}{detail}");
        }
    }

    /// Returns the failed handshakes of the last five minutes by cause, latest first.
    #[must_use]
    pub(crate) fn failed_handshakes(&self) -> Vec<FailedHandshakes> {
        let failed = self.failed.list().into_iter().map(|failed| {
            let last = failed.examples.first().map(|(last, _)| last);
            let detail = last.map_or("", |last| last.detail.as_str());
            FailedHandshakes {
                cause: failed.cause,
                count: failed.count,
                last: failed.last,
                client: last.map(|last| last.address.to_string()),
                message: excerpt(&format!("{}{detail}", meaning(failed.cause)), MAX_MESSAGE),
            }
        });
        failed.collect()
    }

    pub(super) fn closed(&self, cause: CloseCause) {
        self.closed.get_or_create(&CloseLabels { cause }).inc();
        let text = match cause {
            CloseCause::Idle => return,
            CloseCause::TooMany => "closed a new connection: too many connections are open",
            CloseCause::SlowClient => "closed a connection: its client took too long to read a response",
            CloseCause::SlowWatch => "closed a watch: its client stopped reading",
            CloseCause::Memory => {
                "ended a response: its client stopped reading, and memory for other responses was short"
            }
        };
        if let Some(more) = self.closed_log.due(cause) {
            tracing::warn!(since_last = more, "{text}");
        }
    }
}

pub(super) struct OpenGuard(Gauge);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
