//! Reads the report of each replica of metrics-core at the pod's address, not through the aggregation layer, which may be
//! what is broken. A replica receives one credential: the [`ReportToken`], which opens nothing but the report.

use std::sync::Arc;
use std::time::Duration;

use crds::report::{AUDIENCE, PATH, Report};
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509::{CaBundle, ServerVerifier};

use super::report_token::{ReportToken, TokenError};
use crate::common::error_chain;
use crate::common::names::PORT_NAME;

/// The timeout from the connection to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of a report; its own limits keep it below about 30 KiB.
const MAX_REPORT: usize = 256 * 1024;

/// The maximum count of replicas that are polled; the spec allows 16.
const MAX_REPLICAS: usize = 16;

/// The report of a running pod of metrics-core.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaReport {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Its last report, or why there is none.
    pub report: Result<Arc<Report>, ReportError>,
    /// The count of consecutive failures.
    pub failures: u32,
}

/// Why a replica has no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    /// The operator has no token that it may send.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// The timeout expired.
    #[error("no response within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The replica's certificate was not signed by the CA that the APIServices trust, or has another name.
    #[error("its serving certificate is not accepted: {0}")]
    Untrusted(String),
    /// metrics-core does not accept the token.
    #[error("HTTP status 401: it does not accept the operator's token, whose audience is {AUDIENCE}")]
    Unauthorized,
    /// The operator lacks the permission.
    #[error("HTTP status 403: the operator has no permission to get {PATH}")]
    Forbidden,
    /// The response is another error.
    #[error("HTTP status {0}")]
    Refused(u16),
    /// The response is not a report.
    #[error("its report is invalid: {0}")]
    Unusable(String),
}

/// The TLS configuration of the client, created once for each CA bundle. It keeps sessions, so that repeated polls need no
/// full handshake.
#[derive(Default)]
pub(super) struct Trust {
    pem: String,
    config: Option<Arc<ClientConfig>>,
}

impl Trust {
    fn config(&mut self, pem: &str) -> Result<Arc<ClientConfig>, ReportError> {
        if let Some(config) = &self.config
            && self.pem == pem
        {
            return Ok(config.clone());
        }
        let (bundle, _) = CaBundle::from_pem(pem.as_bytes());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = ServerVerifier::new(bundle, provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ReportError::Connection(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::in_memory_sessions(MAX_REPLICAS);
        let config = Arc::new(config);
        (self.pem, self.config) = (pem.to_owned(), Some(config.clone()));
        Ok(config)
    }
}

/// Polls every running pod concurrently. A pod keeps its last report after a first failure.
pub(super) async fn read(
    pods: &[Pod],
    before: &[ReplicaReport],
    namespace: &str,
    ca: &str,
    trust: &mut Trust,
    token: &ReportToken,
) -> Vec<ReplicaReport> {
    let credentials =
        token.read().map_err(ReportError::from).and_then(|token| Ok((token, trust.config(ca)?)));
    let name = format!("metrics-core.{namespace}.svc");
    let polls = pods.iter().filter_map(running).take(MAX_REPLICAS).map(|running| {
        let (credentials, name) = (&credentials, &name);
        async move {
            let known = before.iter().find(|replica| replica.uid == running.uid);
            let report = match credentials {
                Ok((token, config)) => {
                    let report = poll_one(&running.address, running.port, name, token, config.clone());
                    tokio::time::timeout(TIMEOUT, report).await.unwrap_or(Err(ReportError::Timeout))
                }
                Err(error) => Err(error.clone()),
            };
            let failures = if report.is_ok() { 0 } else { known.map_or(0, |known| known.failures) + 1 };
            let report = match (report, known) {
                (Err(ReportError::Timeout | ReportError::Connection(_)), Some(known))
                    if failures < 2 && known.report.is_ok() =>
                {
                    known.report.clone()
                }
                (report, _) => report.map(Arc::new),
            };
            ReplicaReport { pod: running.name, uid: running.uid, ready: running.ready, report, failures }
        }
    });
    join_all(polls).await
}

struct Running {
    name: String,
    uid: String,
    address: String,
    port: u16,
    ready: bool,
}

fn running(pod: &Pod) -> Option<Running> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || status.phase.as_deref() != Some("Running") {
        return None;
    }
    let conditions = status.conditions.iter().flatten();
    Some(Running {
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone()?,
        address: status.pod_ip.clone()?,
        port: serving_port(pod)?,
        ready: conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True"),
    })
}

/// Returns the port that a pod serves on. During a rollout that changes the port, the pods differ.
pub(super) fn serving_port(pod: &Pod) -> Option<u16> {
    let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.ports.iter().flatten());
    let port = ports.into_iter().find(|port| port.name.as_deref() == Some(PORT_NAME))?.container_port;
    u16::try_from(port).ok()
}

async fn poll_one(
    address: &str,
    port: u16,
    name: &str,
    token: &str,
    config: Arc<ClientConfig>,
) -> Result<Report, ReportError> {
    let connection = |error: &(dyn std::error::Error + 'static)| ReportError::Connection(error_chain(error));
    let ip: std::net::IpAddr = address.parse().map_err(|error| connection(&error))?;
    let stream = TcpStream::connect((ip, port)).await.map_err(|error| connection(&error))?;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| connection(&error))?;
    let stream = TlsConnector::from(config).connect(server, stream).await.map_err(|error| tls(&error))?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| connection(&error))?;
    let exchange = async {
        let request = http::Request::get(PATH)
            .header(http::header::HOST, name)
            .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
            .header(http::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| connection(&error))?;
        let response = sender.send_request(request).await.map_err(|error| connection(&error))?;
        let code = response.status().as_u16();
        match code {
            200 => {}
            401 => return Err(ReportError::Unauthorized),
            403 => return Err(ReportError::Forbidden),
            _ => return Err(ReportError::Refused(code)),
        }
        let body = Limited::new(response.into_body(), MAX_REPORT)
            .collect()
            .await
            .map_err(|error| ReportError::Unusable(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| ReportError::Unusable(error_chain(&error)))
    };
    let mut driver = std::pin::pin!(driver);
    let mut exchange = std::pin::pin!(exchange);
    // The connection ends with the response.
    tokio::select! {
        biased;
        response = &mut exchange => response,
        ended = &mut driver => match ended {
            Err(error) => Err(connection(&error)),
            Ok(()) => exchange.await,
        },
    }
}

fn tls(error: &std::io::Error) -> ReportError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(why) = tls.and_then(x509::verification_error) {
        return ReportError::Untrusted(why.to_string());
    }
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => ReportError::Untrusted(why.to_string()),
        _ => ReportError::Connection(error_chain(error)),
    }
}

#[cfg(test)]
mod tests;
