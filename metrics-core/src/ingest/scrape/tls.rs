//! TLS towards kubelets: verification of their serving certificates, and our client certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::Error;
use super::pins::Pins;
use super::reload::ReloadedFile;
use super::{Credentials, KubeletTls};
use crate::ingest::discover::Node;
use crate::watched_file::Source;

/// The number of sessions that are kept for resumption where connections do not survive the scrape interval.
const MAX_SESSIONS: usize = 512;
/// The scrape interval above which connections do not survive until the next scrape: a kubelet closes a connection
/// that was idle for 90 s. Below it, connections stay open and session tickets (2 to 3 kB each) would be useless.
const MAX_KEPT_ALIVE_INTERVAL: Duration = Duration::from_secs(80);

/// Creates the TLS configurations of nodes. Files are reloaded when they change.
pub(super) struct TlsConfigs {
    provider: Arc<CryptoProvider>,
    trust: Option<ReloadedFile<RootCertStore>>,
    pins: Option<Pins>,
    identity: Option<(ReloadedFile<Vec<CertificateDer<'static>>>, ReloadedFile<PrivateKeyDer<'static>>)>,
    material: Mutex<Option<Arc<TlsMaterial>>>,
    sessions: usize,
}

/// What the configurations of all nodes have in common, and the files' content it was built from.
pub(super) struct TlsMaterial {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<(Arc<Vec<CertificateDer<'static>>>, Arc<PrivateKeyDer<'static>>)>,
    config: Arc<ClientConfig>,
}

/// The configuration of one node. It is kept while the files and the node's names are unchanged, because only the
/// verifier that saw the certificate can resume its session.
pub(super) struct NodeTls {
    pub(super) material: Arc<TlsMaterial>,
    pub(super) config: Arc<ClientConfig>,
    /// The verifier that pins keys, if keys are pinned.
    verifier: Option<Arc<KubeletVerifier>>,
}

impl NodeTls {
    /// Pins the key of the chain that `host` presented, if needed. Call it after the handshake and before any data
    /// is sent.
    pub(super) fn pin_key(&self, host: &str, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let (Some((leaf, intermediates)), Some(name)) = (chain.split_first(), server_name(host)) else {
            return Err(Error::TlsOther("the kubelet presented no certificate".into()));
        };
        let Some((pins, uid)) = &verifier.pins else { return Ok(()) };
        let ca_signed = verifier.is_ca_signed(leaf, intermediates, &name, UnixTime::now());
        pins.remember(uid, leaf, ca_signed.map_err(|error| Error::from_tls(&error))?)
            .map_err(Error::TlsPinMismatch)
    }
}

impl TlsConfigs {
    /// Returns the configurations for these settings. `pins` is used if `kubelet` says [`KubeletTls::Pin`].
    pub(super) fn new(
        kubelet: &KubeletTls,
        credentials: &Credentials,
        scrape_interval: Duration,
        pins: Pins,
    ) -> Self {
        let (trust, pins) = match kubelet {
            KubeletTls::Verify { ca } => (Some(ReloadedFile::new(ca.clone(), roots)), None),
            KubeletTls::Pin { ca } => (Some(ReloadedFile::new(ca.clone(), roots)), Some(pins)),
            KubeletTls::Insecure => (None, None),
        };
        let identity = match credentials {
            Credentials::ClientCertificate { cert, key } => Some((
                ReloadedFile::new(cert.clone(), certificates),
                ReloadedFile::new(key.clone(), private_key),
            )),
            Credentials::Token(_) => None,
        };
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            trust,
            pins,
            identity,
            material: Mutex::new(None),
            sessions: if scrape_interval > MAX_KEPT_ALIVE_INTERVAL { MAX_SESSIONS } else { 0 },
        }
    }

    /// Returns the configuration for `node`, which is `known` if that is still current.
    pub(super) fn for_node(&self, node: &Node, known: Option<NodeTls>) -> Result<NodeTls, Error> {
        let material = self.material()?;
        if let Some(known) = known
            && Arc::ptr_eq(&known.material, &material)
        {
            return Ok(known);
        }
        let (config, verifier) = match &material.roots {
            None => (material.config.clone(), None),
            Some(roots) => {
                let mut config = (*material.config).clone();
                let verifier = Arc::new(KubeletVerifier {
                    provider: self.provider.clone(),
                    roots: Some(roots.clone()),
                    names: node.identities.iter().filter_map(|name| server_name(name)).collect(),
                    pins: self.pins.clone().map(|pins| (pins, node.uid.clone())),
                });
                config.dangerous().set_certificate_verifier(verifier.clone());
                (Arc::new(config), self.pins.is_some().then_some(verifier))
            }
        };
        Ok(NodeTls { material, config, verifier })
    }

    /// Returns whether a new connection would use the same files' content as one opened with `material`. If the
    /// files cannot be used, such as while a key pair is being replaced, existing connections stay.
    pub(super) fn is_current(&self, material: &Arc<TlsMaterial>) -> bool {
        self.material().map_or(true, |now| Arc::ptr_eq(&now, material))
    }

    /// Requests that the client certificate is checked before the next scrape.
    pub(super) fn recheck(&self) {
        if let Some((cert, key)) = &self.identity {
            cert.recheck();
            key.recheck();
        }
    }

    fn material(&self) -> Result<Arc<TlsMaterial>, Error> {
        let roots = self.trust.as_ref().map(ReloadedFile::get).transpose()?;
        let identity = match &self.identity {
            Some((cert, key)) => Some((cert.get()?, key.get()?)),
            None => None,
        };
        let mut material = self.material.lock();
        if let Some(material) = &*material
            && is_same(material.roots.as_ref(), roots.as_ref())
            && is_same(material.identity.as_ref().map(|(a, _)| a), identity.as_ref().map(|(a, _)| a))
            && is_same(material.identity.as_ref().map(|(_, b)| b), identity.as_ref().map(|(_, b)| b))
        {
            return Ok(material.clone());
        }
        let config = self.config(identity.as_ref())?;
        let current = Arc::new(TlsMaterial { roots, identity, config: Arc::new(config) });
        *material = Some(current.clone());
        Ok(current)
    }

    fn config(
        &self,
        identity: Option<&(Arc<Vec<CertificateDer<'static>>>, Arc<PrivateKeyDer<'static>>)>,
    ) -> Result<ClientConfig, Error> {
        // Without roots this verifier accepts any certificate; with roots it is replaced for each node.
        let accept_all =
            KubeletVerifier { provider: self.provider.clone(), roots: None, names: Vec::new(), pins: None };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::TlsOther(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(accept_all));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.to_vec(), key.clone_key()).map_err(|error| {
                    Error::TlsOther(format!("the client certificate of metrics-core cannot be used: {error}"))
                })?
            }
        };
        config.resumption = match self.sessions {
            0 => Resumption::disabled(),
            sessions => Resumption::in_memory_sessions(sessions),
        };
        Ok(config)
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Returns the name to expect in a certificate: an IP address or a DNS name.
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
        return Err("contains no usable CA certificate".into());
    }
    if ignored > 0 {
        tracing::warn!(ignored, "ignored CA certificates that cannot be used");
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("contains no PEM certificate".into()) } else { Ok(certificates) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

/// Reads a bearer token that is valid in a header (RFC 6750).
pub(super) fn token(source: Source) -> ReloadedFile<String> {
    ReloadedFile::new(source, |content| {
        let token = content.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err("contains no bearer token".into());
        }
        String::from_utf8(token.to_vec()).map_err(|error| error.to_string())
    })
}

/// Accepts a certificate that is signed by a trusted CA and contains the dialled name or any of the node's own.
/// With pins, also accepts one that is not signed by a trusted CA if its key is the node's pinned one. Without
/// roots, accepts any certificate.
#[derive(Debug)]
struct KubeletVerifier {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
    names: Vec<ServerName<'static>>,
    /// The pins and the node's UID.
    pins: Option<(Pins, Box<str>)>,
}

impl KubeletVerifier {
    /// Returns whether a trusted CA signed the certificate. Fails if the certificate must be rejected whatever its
    /// key: it is not CA-signed and keys are not pinned, or it is CA-signed but expired or for another host.
    fn is_ca_signed(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(false) };
        let verified = self.verify_chain(roots, leaf, intermediates, now);
        let untrusted = match &verified {
            // The library checks time and purpose before the issuer, but an unknown issuer matters more.
            Err(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => not_after(leaf).is_some_and(|valid| {
                    let then = self.verify_chain(roots, leaf, intermediates, valid);
                    let unknown = [CertificateError::UnknownIssuer, CertificateError::BadSignature];
                    matches!(then, Err(rustls::Error::InvalidCertificate(error)) if unknown.contains(&error))
                }),
                // A self-signed CA certificate as a serving certificate, as `openssl req -x509` creates it.
                CertificateError::Other(_) => is_self_issued(leaf),
                _ => false,
            },
            _ => false,
        };
        if untrusted {
            return match self.pins {
                Some(_) => Ok(false),
                None => Err(CertificateError::UnknownIssuer.into()),
            };
        }
        verified?;
        let certificate = ParsedCertificate::try_from(leaf)?;
        verify_server_name(&certificate, dialled).or_else(|error| {
            let own = self.names.iter().any(|name| verify_server_name(&certificate, name).is_ok());
            if own { Ok(()) } else { Err(error) }
        })?;
        Ok(true)
    }

    fn verify_chain(
        &self,
        roots: &RootCertStore,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)
    }
}

/// Returns a time at which the certificate is valid: its notAfter.
fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Returns whether subject and issuer are the same.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

impl ServerCertVerifier for KubeletVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca_signed = self.is_ca_signed(end_entity, intermediates, dialled, now)?;
        if let Some((pins, uid)) = &self.pins {
            let other = |mismatch| CertificateError::Other(OtherError(Arc::new(mismatch)));
            pins.check(uid, end_entity, ca_signed).map_err(other)?;
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
