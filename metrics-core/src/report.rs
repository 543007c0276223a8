//! The report: what goes wrong for this process, put together of what each part keeps of it.

use std::sync::Arc;

use crds::report::{NodeCounts, Report};
use jiff::Timestamp;

use crate::ingest::scrape::Findings;
use crate::ingest::store::Store;
use crate::server::authentication::Evidence;
use crate::server::listen;
use crate::server::tls::ServingCertificate;

/// What the report is made of.
pub struct Sources {
    /// When the process started.
    pub started: Timestamp,
    /// The samples.
    pub store: Arc<Store>,
    /// How kubelets fare.
    pub kubelets: Findings,
    /// Connections.
    pub connections: listen::Metrics,
    /// What became of credentials.
    pub credentials: Evidence,
    /// The certificate that is served.
    pub serving: Arc<ServingCertificate>,
}

impl Sources {
    /// The report of this moment; bounded, and without a secret.
    #[must_use]
    pub fn write(&self) -> Report {
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
            refused_credentials: credentials.refusals(),
            failed_handshakes: self.connections.failed_handshakes(),
            last_front_proxy_request: front_proxy.as_ref().map(|(at, _)| *at),
            last_front_proxy: front_proxy.map(|(_, client)| client),
            last_anonymous_request: anonymous.map(|(at, _)| at),
            last_anonymous_client: anonymous.map(|(_, client)| client.to_string()),
        }
    }
}
