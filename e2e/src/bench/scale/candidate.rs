//! The servers that are measured: metrics-core and metrics-server, started with equal flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::env::{BenchEnv, Process};
use crate::error::Result;
use crate::testbed::http::Connection;
use crate::testbed::pki::Subject;
use crate::testbed::tls;

/// The port on which a server listens.
const PORT: u16 = 10443;

/// The kind of a server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerKind {
    /// metrics-core.
    MetricsCore,
    /// metrics-server v0.9.0.
    MetricsServer,
}

/// A server to measure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Candidate {
    /// Its name in the report.
    pub name: String,
    /// Which server it is.
    pub kind: ServerKind,
    /// The program.
    pub program: PathBuf,
}

/// A running server.
pub struct Running {
    /// The process.
    pub process: Process,
    config: Arc<ClientConfig>,
}

impl Candidate {
    /// Starts the server in the environment.
    pub fn start(&self, env: &BenchEnv, scrape_interval: Duration) -> Result<Running> {
        let pki = env.layout.pki();
        let path = |file: &str| pki.join(file).to_string_lossy().into_owned();
        let authority = &env.authorities.cluster;
        let serving = Subject::server("metrics", &["localhost"], &[Ipv4Addr::LOCALHOST.into()]);
        authority.keep_issued(&pki, "metrics", &serving)?;
        let bench = authority.issue(&Subject::user("bench", Some("system:masters")))?;
        let kubeconfig = env.layout.admin_kubeconfig().to_string_lossy().into_owned();
        let seconds = format!("{}s", scrape_interval.as_secs());
        let port = PORT.to_string();
        let mut flags = vec![
            ("kubeconfig", kubeconfig.clone()),
            ("metric-resolution", seconds),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("kubelet-certificate-authority", path("ca.crt")),
            ("kubelet-client-certificate", path("kubelet-client.crt")),
            ("kubelet-client-key", path("kubelet-client.key")),
            ("secure-port", port),
            ("tls-cert-file", path("metrics.crt")),
            ("tls-private-key-file", path("metrics.key")),
        ];
        if self.kind == ServerKind::MetricsServer {
            flags.push(("kubelet-use-node-status-port", "true".into()));
            flags.push(("authentication-kubeconfig", kubeconfig.clone()));
            flags.push(("authorization-kubeconfig", kubeconfig));
        }
        let arguments: Vec<String> =
            flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let process = Process::start(&env.layout, &self.name, &self.program, &arguments)?;
        let config = tls::client(Some(authority.certificate()), Some(&bench))?;
        Ok(Running { process, config: Arc::new(config) })
    }
}

impl Running {
    /// Connects as a client with all permissions.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::tls(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), self.config.clone()).await
    }
}
