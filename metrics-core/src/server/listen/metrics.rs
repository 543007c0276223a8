//! Counters of connections and handshakes.

use std::net::{IpAddr, SocketAddr};

use crds::cause::HandshakeCause;
use crds::report::FailedHandshakes;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::handshake::meaning;
use crate::telemetry::{Occasional, Recent, excerpt};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// `done`, or the cause of the failure.
    outcome: &'static str,
}

/// The client of a handshake that failed, and what the TLS library said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Client {
    address: IpAddr,
    detail: String,
}

/// The longest text about a failure.
const MESSAGE: usize = 300;

/// The counters. One line a cause and interval goes to the log.
#[derive(Clone, Default)]
pub struct Metrics {
    handshakes: Family<Outcome, Counter>,
    open: Gauge,
    closed: Family<Closed, Counter>,
    failed: Recent<HandshakeCause, Client>,
    log: Occasional<HandshakeCause>,
    closed_log: Occasional<Close>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    cause: Close,
}

/// Why a connection, or a watch on it, was closed from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Close {
    TooMany,
    Idle,
    SlowClient,
    SlowWatch,
}

impl EncodeLabelValue for Close {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let text = match self {
            Self::TooMany => "too_many_connections",
            Self::Idle => "idle",
            Self::SlowClient => "slow_client",
            Self::SlowWatch => "slow_watch",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_core_tls_handshakes",
            "Connections by how their TLS handshake ended",
            self.handshakes.clone(),
        );
        registry.register(
            "metrics_core_open_connections",
            "Open connections, those in their handshake included",
            self.open.clone(),
        );
        registry.register(
            "metrics_core_closed_connections",
            "Connections that this side closed, and watches that it broke off, by cause",
            self.closed.clone(),
        );
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn opened(&self) -> Open {
        self.open.inc();
        Open(self.open.clone())
    }

    pub(super) fn handshake_done(&self) {
        self.handshakes.get_or_create(&Outcome { outcome: "done" }).inc();
    }

    pub(super) fn handshake_failed(&self, cause: HandshakeCause, peer: SocketAddr, detail: &str) {
        self.handshakes.get_or_create(&Outcome { outcome: cause.as_str() }).inc();
        let address = peer.ip().to_canonical();
        self.failed.note(cause, Client { address, detail: excerpt(detail, MESSAGE) });
        let Some(more) = self.log.due(cause) else { return };
        let meaning = meaning(cause);
        if cause == HandshakeCause::Closed {
            tracing::debug!(%cause, peer = %address, since_last = more, "no TLS handshake: {meaning}");
        } else {
            tracing::info!(%cause, peer = %address, since_last = more, "no TLS handshake: {meaning}{detail}");
        }
    }

    /// The handshakes that failed in the last five minutes, by cause, latest first.
    #[must_use]
    pub fn failed_handshakes(&self) -> Vec<FailedHandshakes> {
        let failed = self.failed.list().into_iter().map(|failed| {
            let last = failed.examples.first().map(|(last, _)| last);
            let detail = last.map_or("", |last| last.detail.as_str());
            FailedHandshakes {
                cause: failed.cause,
                count: failed.count,
                last: failed.last,
                client: last.map(|last| last.address.to_string()),
                message: excerpt(&format!("{}{detail}", meaning(failed.cause)), MESSAGE),
            }
        });
        failed.collect()
    }

    pub(super) fn closed(&self, cause: Close) {
        self.closed.get_or_create(&Closed { cause }).inc();
        let text = match cause {
            Close::Idle => return,
            Close::TooMany => "a connection was refused: too many are open",
            Close::SlowClient => "a connection was closed: its client took too long to read an answer",
            Close::SlowWatch => "a watch was broken off: its client took nothing for too long",
        };
        if let Some(more) = self.closed_log.due(cause) {
            tracing::warn!(since_last = more, "{text}");
        }
    }
}

pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
