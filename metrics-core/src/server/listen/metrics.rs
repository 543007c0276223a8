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
    open: Family<StateLabels, Gauge>,
    closed: Family<CloseLabels, Counter>,
    failed: RecentEvents<HandshakeCause, FailedClient>,
    log: LogLimiter<HandshakeCause>,
    closed_log: LogLimiter<CloseCause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    cause: CloseCause,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: ConnectionState,
}

/// The state of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ConnectionState {
    /// The TLS handshake is not complete.
    Handshake,
    /// No request was authenticated.
    Unauthenticated,
    /// A request was authenticated.
    Authenticated,
    /// The client has the certificate of a front proxy.
    FrontProxy,
}

impl EncodeLabelValue for ConnectionState {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::Handshake => "handshake",
            Self::Unauthenticated => "unauthenticated",
            Self::Authenticated => "authenticated",
            Self::FrontProxy => "front_proxy",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

/// The cause for which this server closed a connection, or a stream on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CloseCause {
    /// There was no place for a new connection, or no memory for it to continue.
    TooMany,
    /// The connection was idle, and another one needed its place.
    Evicted,
    /// There was no complete request in time after the handshake.
    NoRequest,
    /// There was no request for the idle timeout.
    Idle,
    /// The client did not read a response in time.
    SlowClient,
    /// The client stopped reading a watch.
    SlowWatch,
    Memory,
}

impl EncodeLabelValue for CloseCause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::TooMany => "too_many_connections",
            Self::Evicted => "evicted",
            Self::NoRequest => "no_request",
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
            "Open connections by state: handshake, unauthenticated, authenticated or front_proxy",
            self.open.clone(),
        );
        registry.register(
            "metrics_core_closed_connections",
            "Connections, and HTTP/2 streams of responses, closed by this server, by cause",
            self.closed.clone(),
        );
    }

    /// Counts a connection that changes its state; `None` is closed.
    pub(super) fn moved(&self, from: Option<ConnectionState>, to: Option<ConnectionState>) {
        if from == to {
            return;
        }
        if let Some(state) = from {
            self.open.get_or_create(&StateLabels { state }).dec();
        }
        if let Some(state) = to {
            self.open.get_or_create(&StateLabels { state }).inc();
        }
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
            CloseCause::Idle | CloseCause::NoRequest => return,
            CloseCause::TooMany => {
                "closed a new connection: the connections that have open requests use all places or all memory"
            }
            CloseCause::Evicted => {
                "closed an idle connection: another one needs its place (metrics_core_open_connections shows how many are open)"
            }
            CloseCause::SlowClient => {
                "closed a connection or stream: its client took too long to read a response"
            }
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
