//! The report at `/report`: the problems of this process, for the operator and for humans.

use std::sync::Arc;

use crds::report::{NodeCounts, Report};
use jiff::Timestamp;

use crate::ingest::scrape::Findings;
use crate::ingest::store::Store;
use crate::server::authentication::CredentialHistory;
use crate::server::listen;
use crate::server::tls::ServingCertificate;

pub use crate::telemetry::WatchAges;

/// The sources of the report.
pub struct ReportSources {
    /// The start time of the process.
    pub started: Timestamp,
    /// The samples.
    pub store: Arc<Store>,
    /// The results of scrapes.
    pub kubelets: Findings,
    /// The metrics of connections.
    pub connections: listen::ConnectionMetrics,
    /// Recent authentication results.
    pub credentials: CredentialHistory,
    /// The serving certificate.
    pub serving: Arc<ServingCertificate>,
    /// The ages of the watches.
    pub watches: WatchAges,
}

impl ReportSources {
    /// Returns the current report. It is bounded and contains no secret.
    #[must_use]
    pub fn report(&self) -> Report {
        let credentials = &self.credentials;
        let coverage = self.store.coverage();
        let scrapes = self.kubelets.failures.list();
        let (front_proxy, anonymous) = (credentials.front_proxy(), credentials.anonymous());
        Report {
            started: self.started,
            now: Timestamp::now(),
            serving_certificate: self.serving.fingerprint(),
            nodes: NodeCounts {
                known: coverage.nodes,
                covered: coverage.nodes_served,
                pinned: self.kubelets.pins.count(),
                failing: scrapes.iter().map(|failed| failed.nodes).sum(),
            },
            scrapes,
            samples: self.kubelets.samples.list(),
            refused_credentials: credentials.refusals(),
            failed_handshakes: self.connections.failed_handshakes(),
            last_front_proxy_request: front_proxy.as_ref().map(|(at, _)| *at),
            last_front_proxy: front_proxy.map(|(_, client)| client),
            last_anonymous_request: anonymous.map(|(at, _)| at),
            last_anonymous_client: anonymous.map(|(_, client)| client.to_string()),
            watches: self.watches.list(),
        }
    }
}
