//! TLS towards kubelets: whom to trust, and who we are.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::error::Error;
use super::reload::Reloaded;
use super::{Credentials, KubeletTls};
use crate::discover::Node;

/// Sessions kept for resumption …
const SESSIONS: usize = 512;
/// … where connections will not outlive the pause between two scrapes: a kubelet closes one that rested for 90 s. Else
/// they are opened once, and tickets would be kept for nothing (2 to 3 kB each).
const REST: Duration = Duration::from_secs(80);

/// Makes TLS configurations for nodes. Files are read again when they change.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Option<Reloaded<RootCertStore>>,
    identity: Option<(Reloaded<Vec<CertificateDer<'static>>>, Reloaded<PrivateKeyDer<'static>>)>,
    base: Mutex<Option<Arc<Base>>>,
    sessions: usize,
}

/// What the configurations of all nodes have in common, and what it was made of.
pub(super) struct Base {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<(Arc<Vec<CertificateDer<'static>>>, Arc<PrivateKeyDer<'static>>)>,
    config: Arc<ClientConfig>,
}

/// The configuration of one node. Kept as long as the files and the node's names do not change: a session
/// is resumed only by the verifier that saw its certificate.
pub(super) struct NodeTls {
    base: Arc<Base>,
    pub(super) config: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(kubelet: &KubeletTls, credentials: &Credentials, resolution: Duration) -> Self {
        let trust = match kubelet {
            KubeletTls::Verify { ca_file } => Some(Reloaded::new(ca_file.clone(), roots)),
            KubeletTls::Insecure => None,
        };
        let identity = match credentials {
            Credentials::ClientCertificate { cert, key } => {
                Some((Reloaded::new(cert.clone(), certificates), Reloaded::new(key.clone(), key_of)))
            }
            Credentials::TokenFile(_) => None,
        };
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            trust,
            identity,
            base: Mutex::new(None),
            sessions: if resolution > REST { SESSIONS } else { 0 },
        }
    }

    /// The configuration for `node`: `known` if it still holds.
    pub(super) fn for_node(&self, node: &Node, known: Option<NodeTls>) -> Result<NodeTls, Error> {
        let base = self.base()?;
        if let Some(known) = known
            && Arc::ptr_eq(&known.base, &base)
        {
            return Ok(known);
        }
        let config = match &base.roots {
            None => base.config.clone(),
            Some(roots) => {
                let mut config = (*base.config).clone();
                config.dangerous().set_certificate_verifier(Arc::new(Verifier {
                    provider: self.provider.clone(),
                    roots: Some(roots.clone()),
                    names: node.identities.iter().filter_map(|name| server_name(name)).collect(),
                }));
                Arc::new(config)
            }
        };
        Ok(NodeTls { base, config })
    }

    /// Reads the client certificate again before the next connection.
    pub(super) fn expire(&self) {
        if let Some((cert, key)) = &self.identity {
            cert.expire();
            key.expire();
        }
    }

    fn base(&self) -> Result<Arc<Base>, Error> {
        let roots = self.trust.as_ref().map(Reloaded::get).transpose()?;
        let identity = match &self.identity {
            Some((cert, key)) => Some((cert.get()?, key.get()?)),
            None => None,
        };
        let mut base = self.base.lock();
        if let Some(base) = &*base
            && same(base.roots.as_ref(), roots.as_ref())
            && same(base.identity.as_ref().map(|(a, _)| a), identity.as_ref().map(|(a, _)| a))
            && same(base.identity.as_ref().map(|(_, b)| b), identity.as_ref().map(|(_, b)| b))
        {
            return Ok(base.clone());
        }
        let config = self.config(identity.as_ref())?;
        let fresh = Arc::new(Base { roots, identity, config: Arc::new(config) });
        *base = Some(fresh.clone());
        Ok(fresh)
    }

    fn config(
        &self,
        identity: Option<&(Arc<Vec<CertificateDer<'static>>>, Arc<PrivateKeyDer<'static>>)>,
    ) -> Result<ClientConfig, Error> {
        // Without roots this one accepts any certificate; with them it is replaced for each node.
        let anyone = Verifier { provider: self.provider.clone(), roots: None, names: Vec::new() };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::TlsOther(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.to_vec(), key.clone_key())
                .map_err(|error| Error::TlsOther(format!("our client certificate: {error}")))?,
        };
        config.resumption = match self.sessions {
            0 => Resumption::disabled(),
            sessions => Resumption::in_memory_sessions(sessions),
        };
        Ok(config)
    }
}

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// The name to expect in a certificate: an address, with or without brackets, or a DNS name.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Some(ServerName::IpAddress(address.into())),
        Err(_) => ServerName::try_from(host.to_owned()).ok(),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates(pem)?);
    if added == 0 {
        return Err("holds no usable CA certificate".into());
    }
    if ignored > 0 {
        tracing::warn!(ignored, "some CA certificates cannot be used");
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("holds no PEM certificate".into()) } else { Ok(certificates) }
}

fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

/// A bearer token, fit for a header (RFC 6750).
pub(super) fn token(path: PathBuf) -> Reloaded<String> {
    Reloaded::new(path, |content| {
        let token = content.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err("holds no bearer token".into());
        }
        String::from_utf8(token.to_vec()).map_err(|error| error.to_string())
    })
}

/// Accepts a certificate that the roots vouch for and that bears the name dialled or any of the node's own;
/// without roots, any certificate.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
    names: Vec<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        verify_server_name(&certificate, dialled).or_else(|error| {
            let own = self.names.iter().any(|name| verify_server_name(&certificate, name).is_ok());
            if own { Ok(()) } else { Err(error) }
        })?;
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
