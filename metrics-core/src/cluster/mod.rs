//! The clients for kube-apiserver, and the credentials for it and for kubelets: from the pod or from a kubeconfig.
//!
//! [`Cluster`] builds every client, so that all of them notice when kube-apiserver no longer responds. The kernel does
//! not: it acknowledges packets for a stopped process, and retransmits for 16 minutes to a host that has disappeared.
//!
//! - Each step of a request has a timeout: the connection, the response head, each pause in the body ([`deadlines`]).
//! - HTTP/2 connections have pings. HTTP/1.1 has none, and behind a proxy pings end at the proxy. Every watch is
//!   therefore short: kube-apiserver ends it after 30 s, and the next one resumes where it ended.
//! - A connection that is slow to respond gets no new requests ([`connections`]).
//! - Responses date what a watch knows: [`Cluster::dated`].

mod connections;
mod deadlines;
#[cfg(test)]
pub(crate) mod fake_apiserver;
mod identity;
mod kubeconfig;
#[cfg(test)]
mod tests;
mod watch_backoff;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use kube::Config;
use kube::client::ConfigExt;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tower::{Service, ServiceBuilder};

use self::connections::{ConnectTimeout, Connections};
use self::deadlines::Deadlines;
pub(crate) use self::kubeconfig::for_kubelets;
pub(crate) use self::watch_backoff::WatchBackoff;
use crate::telemetry::Heartbeat;

/// An error of connecting to kube-apiserver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig is invalid.
    #[error("kubeconfig {}: {problem}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The cause.
        problem: String,
    },
    /// The process runs outside a pod and without a kubeconfig.
    #[error(
        "the process does not run in a pod ({0}) and --kubeconfig is not set; set it, or mount a service account token"
    )]
    NotInCluster(String),
    /// The configuration is not usable for a client.
    #[error("can't create a client for kube-apiserver: {0}")]
    Client(String),
}

/// kube-apiserver with one set of credentials. Clones and clients share their connections.
#[derive(Clone)]
pub(crate) struct Cluster {
    config: Config,
    connections: Arc<Connections>,
}

impl Cluster {
    /// Reads the credentials of the pod or of a kubeconfig, and starts the task that reloads a client certificate from
    /// files. Does not connect.
    pub(crate) async fn new(kubeconfig: Option<&Path>, tasks: &mut JoinSet<()>) -> Result<Self, Error> {
        let (config, identity) = match kubeconfig {
            None => {
                let config = Config::incluster().map_err(|error| Error::NotInCluster(error.to_string()))?;
                (config, None)
            }
            Some(path) => kubeconfig::for_apiserver(path).await?,
        };
        let mut tls = config.rustls_client_config().map_err(client_error)?;
        let reloaded = identity.map(|files| identity::reload(files, &mut tls)).transpose()?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let mut connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = &config.tls_server_name {
            let name = rustls::pki_types::ServerName::try_from(name.clone()).map_err(client_error)?;
            connector = connector.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
        }
        let cluster = Self::with_connector(config, connector.enable_all_versions().wrap_connector(http));
        if let Some(identity) = reloaded {
            tasks.spawn(identity::follow(identity, cluster.connections.clone()));
        }
        // Invalid tokens and headers are reported at the start.
        cluster.service(None)?;
        Ok(cluster)
    }

    fn with_connector<C>(config: Config, connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        ConnectTimeout<C>: Connect,
    {
        Self { config, connections: Arc::new(Connections::new(connector)) }
    }

    /// Returns a client.
    pub(crate) fn client(&self) -> Result<kube::Client, Error> {
        self.service(None)
    }

    /// Returns a client for one watch. `view` beats whenever kube-apiserver confirms what the watch knows: with an event, a
    /// bookmark, a complete list, or the regular end of a watch.
    pub(crate) fn dated(&self, view: &Heartbeat) -> Result<kube::Client, Error> {
        self.service(Some(view.clone()))
    }

    /// Registers the metrics of the connections.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.connections.register(registry);
    }

    fn service(&self, view: Option<Heartbeat>) -> Result<kube::Client, Error> {
        let service = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .option_layer(self.config.auth_layer().map_err(client_error)?)
            .layer(self.config.extra_headers_layer().map_err(client_error)?)
            .service(Deadlines::new(self.connections.clone(), view));
        Ok(kube::Client::new(service, self.config.default_namespace.clone()))
    }
}

fn client_error(error: impl std::error::Error) -> Error {
    Error::Client(error_chain(&error))
}

/// Returns the messages of an error and its causes, without repetitions.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
