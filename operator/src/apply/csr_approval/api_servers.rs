//! Reads the names in the serving certificates of all kube-apiservers.
//!
//! The name of a load balancer, of a virtual IP or of `controlPlaneEndpoint` is in no object of the cluster, but kube-apiserver's
//! certificate contains it. So the operator makes a TLS handshake with each address of the Service `kubernetes` and with the
//! server that its client is configured for. It sends nothing over these connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Config};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::reads::within;
use crate::common::error_chain;
use crate::csr::ApiServerNames;

/// The timeout of one handshake, including the connection.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long names are used before they are read again.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The maximum count of kube-apiservers.
const MAX_SERVERS: usize = 64;

/// The namespace and the name of the EndpointSlice that kube-apiserver itself writes. Other slices of the Service `kubernetes`
/// may be of a tenant.
const NAMESPACE: &str = "default";
const SLICE: &str = "kubernetes";

/// The kube-apiservers of the cluster.
pub(crate) struct ApiServers {
    /// The host and port that the client is configured for.
    configured: (String, u16),
    /// The name that the client expects and sends (SNI), if it is not the host.
    server_name: Option<String>,
    roots: Roots,
    /// The names in the certificate of each server, as they were last read.
    known: BTreeMap<(String, u16), ApiServerNames>,
    read: Option<(Instant, ApiServerNames)>,
}

/// How the certificates are verified.
#[derive(Clone)]
enum Roots {
    /// With the CA in a file, which is read each time.
    File(PathBuf),
    /// With these CAs (DER).
    Certificates(Vec<Vec<u8>>),
    /// Not at all, as the client's configuration says.
    Unverified,
}

impl ApiServers {
    /// Returns the servers of a client's configuration.
    #[must_use]
    pub(crate) fn of(config: &Config) -> Self {
        let host = config.cluster_url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_plain = config.cluster_url.scheme_str() == Some("http");
        let port = config.cluster_url.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let roots = match (&config.root_cert_file, &config.root_cert) {
            _ if config.accept_invalid_certs => Roots::Unverified,
            (Some(file), _) => Roots::File(file.clone()),
            (None, certificates) => Roots::Certificates(certificates.clone().unwrap_or_default()),
        };
        Self {
            configured: (host, port),
            server_name: config.tls_server_name.clone(),
            roots,
            known: BTreeMap::new(),
            read: None,
        }
    }

    /// Returns the names of all servers, at most a minute old.
    ///
    /// A server that can't be reached now keeps the names that were read before. If none were, this is an error: its names are
    /// unknown, and nothing may be approved.
    pub(super) async fn names(&mut self, client: &Client) -> Result<ApiServerNames, String> {
        if let Some((at, names)) = &self.read
            && at.elapsed() < MAX_AGE
        {
            return Ok(names.clone());
        }
        let mut servers = vec![self.configured.clone()];
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
        // Without it (--endpoint-reconciler-type=none), the configured server must do.
        servers.extend(within(slices.get_opt(SLICE)).await?.iter().flat_map(addresses));
        servers.sort();
        servers.dedup();
        if servers.len() > MAX_SERVERS {
            return Err(format!("EndpointSlice {NAMESPACE}/{SLICE} has more than {MAX_SERVERS} addresses"));
        }
        let tls = self.client_config()?;
        let handshakes = servers.iter().map(|server| {
            let is_configured = *server == self.configured;
            let name = self.server_name.as_ref().filter(|_| is_configured).unwrap_or(&server.0);
            let handshake = certificate_names(server, name, tls.clone());
            async move { tokio::time::timeout(TIMEOUT, handshake).await }
        });
        let results = join_all(handshakes).await;
        self.known.retain(|server, _| servers.contains(server));
        let mut names = ApiServerNames::default();
        for (server, result) in servers.into_iter().zip(results) {
            names.add_host(&server.0);
            let why = match result {
                Ok(Ok(read)) => {
                    self.known.insert(server.clone(), read);
                    String::new()
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no response within {} s", TIMEOUT.as_secs()),
            };
            let Some(known) = self.known.get(&server) else {
                let (host, port) = server;
                return Err(format!(
                    "the names in the certificate of kube-apiserver at {host} port {port} are unknown: {why}"
                ));
            };
            names.extend(known);
        }
        if let Some(name) = &self.server_name {
            names.add_host(name);
        }
        self.read = Some((Instant::now(), names.clone()));
        Ok(names)
    }

    fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        let certificates: Option<Vec<CertificateDer<'static>>> = match &self.roots {
            Roots::Unverified => None,
            Roots::Certificates(certificates) => {
                Some(certificates.iter().map(|der| CertificateDer::from(der.clone())).collect())
            }
            Roots::File(file) => {
                let pem = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Some(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect())
            }
        };
        let roots = certificates
            .map(|certificates| {
                let mut roots = RootCertStore::empty();
                match roots.add_parsable_certificates(certificates) {
                    (0, _) => Err("the client's configuration has no CA of kube-apiserver".to_owned()),
                    _ => Ok(roots),
                }
            })
            .transpose()?;
        let provider = Arc::new(default_provider());
        let verifier = Arc::new(AnyName { roots, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// Returns the addresses of a slice, each with its HTTPS port.
fn addresses(slice: &EndpointSlice) -> Vec<(String, u16)> {
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref().is_none_or(|name| name == "https"));
    let port = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()).unwrap_or(6443);
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.map(|address| (address.clone(), port)).collect()
}

/// Returns the names in the certificate that a server presents.
async fn certificate_names(
    (host, port): &(String, u16),
    name: &str,
    config: Arc<ClientConfig>,
) -> Result<ApiServerNames, String> {
    let server = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let stream = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect(SocketAddr::new(address, *port)).await,
        Err(_) => TcpStream::connect((host.as_str(), *port)).await,
    };
    let stream = stream.map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(config).connect(server, stream).await;
    let mut stream = connected.map_err(|error| format!("TLS: {}", error_chain(&error)))?;
    let mut names = ApiServerNames::default();
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or("it presents no certificate")?;
    names.add_certificate(leaf)?;
    // So that kube-apiserver logs no error.
    _ = stream.shutdown().await;
    Ok(names)
}

/// Verifies the issuer of a certificate and that the server has its key, but not its names, which are what is to be read.
#[derive(Debug)]
struct AnyName {
    /// `None` if nothing is verified.
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
