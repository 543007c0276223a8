//! Builds the clients for kube-apiserver. All of them notice a connection whose other end is gone.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::InferConfigError;
use kube::{Client, Config};
use rustls_pki_types::ServerName;

use super::lease_hold::{LeaseHold, WriteFence};

const USER_AGENT: &str = concat!("metrics-pipeline-operator/", env!("CARGO_PKG_VERSION"));

/// The timeout of a connection, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// The flow-control windows of HTTP/2, which bound what is buffered.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;

/// Notices within a minute that the other end of a connection is gone.
#[derive(Clone, Copy)]
struct Pings {
    /// An HTTP/2 ping is sent at this interval. TCP keepalive does not notice a stopped process.
    interval: Duration,
    /// The connection is closed when a ping has no response for this time. A short freeze of kube-apiserver should not
    /// restart every watch.
    timeout: Duration,
}

const PINGS: Pings = Pings { interval: Duration::from_secs(20), timeout: Duration::from_secs(15) };

/// Builds clients with one configuration.
#[derive(Clone)]
pub(super) struct Clients {
    config: Config,
    pings: Pings,
}

impl Clients {
    /// Reads the configuration from the pod or from a kubeconfig.
    pub(super) async fn infer() -> Result<Self, InferConfigError> {
        Ok(Self::new(Config::infer().await?))
    }

    fn new(mut config: Config) -> Self {
        // The audit log and API Priority and Fairness identify clients by it.
        config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
        // It is an error only if one is installed already.
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { config, pings: PINGS }
    }

    /// Returns the configuration.
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a client with connections of its own. With `hold`, it sends writes only while the Lease is held.
    pub(super) fn client(&self, hold: Option<LeaseHold>) -> Result<Client, kube::Error> {
        let config = &self.config;
        if config.proxy_url.is_some() {
            // kube is built without support for proxies, and its error says so.
            return Client::try_from(config.clone());
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // For HTTP/1.1, which has no pings: a load balancer may not speak HTTP/2.
        tcp.set_keepalive(Some(self.pings.interval));
        tcp.set_tcp_user_timeout(Some(self.pings.interval + self.pings.timeout));
        let mut tls =
            HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
        if let Some(name) = config.tls_server_name.clone() {
            let name = ServerName::try_from(name)
                .map_err(|error| kube::Error::Service(format!("tls-server-name: {error}").into()))?;
            tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        // kube's own connector speaks HTTP/1.1 only, which has no pings, and needs a connection for each watch.
        let mut connector = TimeoutConnector::new(tls.enable_all_versions().wrap_connector(tcp));
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_read_timeout(config.read_timeout);
        connector.set_write_timeout(config.write_timeout);
        let connections: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_keep_alive_interval(self.pings.interval)
            .http2_keep_alive_timeout(self.pings.timeout)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        let builder =
            ClientBuilder::new(WriteFence::new(connections, hold), config.default_namespace.clone())
                .with_layer(&config.extra_headers_layer()?);
        Ok(match config.auth_layer()? {
            Some(auth) => builder.with_layer(&auth).with_layer(&config.base_uri_layer()).build(),
            None => builder.with_layer(&config.base_uri_layer()).build(),
        })
    }
}

#[cfg(test)]
mod tests;
