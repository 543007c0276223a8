//! Reads which certificate each replica of metrics-core serves, with a TLS handshake.
//!
//! It is read only while a CA is being replaced. The old CA is dropped when every replica is proven to serve a certificate
//! of the new one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use x509::{CaBundle, ServerVerifier};

use super::replicas::serving_port;
use crate::common::error_chain;
use crate::pki::Certificate;

/// The timeout of one handshake, including the connection.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The certificate that every replica must serve before the old CA is dropped.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedCertificate {
    /// The DNS name that the certificate must contain.
    pub server: String,
    /// The serving certificate.
    pub certificate: Certificate,
    /// The new CA, the only one that is trusted.
    pub ca: Certificate,
}

/// The certificates that the replicas serve.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The certificate that they should serve.
    pub certificate: Certificate,
    /// The replicas.
    pub replicas: Vec<Replica>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// Whether it is ready, and so receives requests.
    pub ready: bool,
    /// What it serves.
    pub seen: Seen,
}

/// What a replica serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The expected certificate, and it is signed by the new CA.
    Expected,
    /// Another certificate.
    Other,
    /// Unknown: the handshake failed.
    Nothing(String),
}

impl Proof {
    /// Returns the certificate if every replica serves it: each ready pod presented it, and no pod that is not ready, but may
    /// be soon, presented another one.
    #[must_use]
    pub(crate) fn proven(&self, pods: &[Pod]) -> Option<&Certificate> {
        self.lack(pods).is_none().then_some(&self.certificate)
    }

    /// Returns what the proof lacks, for messages.
    #[must_use]
    pub(crate) fn lack(&self, pods: &[Pod]) -> Option<String> {
        let replicas: Vec<_> = pods.iter().filter_map(Target::of).collect();
        if !replicas.iter().any(|target| target.ready) {
            return Some("no replica is ready".to_owned());
        }
        replicas.iter().find_map(|target| {
            let seen = self.replicas.iter().find(|replica| replica.uid == target.uid).map(|one| &one.seen);
            match seen {
                Some(Seen::Other) => Some(format!("pod {} still serves another certificate", target.pod)),
                Some(Seen::Nothing(why)) if target.ready => {
                    Some(format!("the serving certificate of pod {} is unknown: {why}", target.pod))
                }
                None if target.ready => Some(format!("pod {} has not been checked yet", target.pod)),
                Some(Seen::Expected | Seen::Nothing(_)) | None => None,
            }
        })
    }
}

/// A pod that may serve.
struct Target {
    pod: String,
    uid: String,
    address: SocketAddr,
    ready: bool,
}

impl Target {
    /// Returns `None` for a pod that terminates: it receives no new connections.
    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        if pod.metadata.deletion_timestamp.is_some() || status.phase.as_deref() != Some("Running") {
            return None;
        }
        let ready =
            status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
        Some(Self {
            pod: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            // A rollout that changes the port may not complete, and its previous pods serve on their own port.
            address: SocketAddr::new(status.pod_ip.as_deref()?.parse::<IpAddr>().ok()?, serving_port(pod)?),
            ready,
        })
    }
}

/// Reads the certificate of every replica concurrently.
pub(super) async fn read(pods: &[Pod], expected: &ExpectedCertificate) -> Proof {
    let mut handshakes = JoinSet::new();
    for target in pods.iter().filter_map(Target::of) {
        let expected = expected.clone();
        handshakes.spawn(async move {
            let address = target.address;
            let handshake = handshake(address, &expected.server, &expected.certificate, &expected.ca);
            let seen = match tokio::time::timeout(TIMEOUT, handshake).await {
                Ok(Ok(seen)) => seen,
                Ok(Err(why)) => Seen::Nothing(why),
                Err(_) => Seen::Nothing(format!("{address} did not respond within {} s", TIMEOUT.as_secs())),
            };
            Replica { pod: target.pod, uid: target.uid, ready: target.ready, seen }
        });
    }
    let mut replicas = handshakes.join_all().await;
    replicas.sort_by(|a, b| a.pod.cmp(&b.pod));
    Proof { certificate: expected.certificate.clone(), replicas }
}

async fn handshake(
    address: SocketAddr,
    server: &str,
    certificate: &Certificate,
    ca: &Certificate,
) -> Result<Seen, String> {
    let name = ServerName::try_from(server.to_owned()).map_err(|error| error.to_string())?;
    let ca = x509::Certificate::parse(ca.der()).map_err(|error| format!("the CA cannot be used: {error}"))?;
    let provider = Arc::new(default_provider());
    let verifier = ServerVerifier::new(CaBundle::from(vec![ca]), provider.signature_verification_algorithms);
    let shown = Arc::new(Shown { verifier, leaf: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(shown.clone())
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let leaf = shown.leaf.lock().take();
    match (leaf, connected) {
        (Some(leaf), Ok(_)) if leaf == *certificate.der() => Ok(Seen::Expected),
        (Some(leaf), _) if leaf != *certificate.der() => Ok(Seen::Other),
        (_, Err(error)) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let why = tls.and_then(x509::verification_error).map(ToString::to_string);
            Err(format!("TLS with {address}: {}", why.unwrap_or_else(|| error_chain(&error))))
        }
        (_, Ok(_)) => Err(format!("TLS with {address}: the server presented no certificate")),
    }
}

/// Verifies as kube-apiserver does, and keeps the certificate that it verified or rejected.
#[derive(Debug)]
struct Shown {
    verifier: ServerVerifier,
    leaf: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.leaf.lock() = Some(end_entity.clone().into_owned());
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
