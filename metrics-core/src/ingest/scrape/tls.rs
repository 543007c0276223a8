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
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::Error;
use super::pins::Pins;
use super::reload::Reloaded;
use super::{Credentials, KubeletTls};
use crate::ingest::discover::Node;

/// Sessions kept for resumption …
const SESSIONS: usize = 512;
/// … where connections will not outlive the pause between two scrapes: a kubelet closes one that rested for 90 s. Else
/// they are opened once, and tickets would be kept for nothing (2 to 3 kB each).
const REST: Duration = Duration::from_secs(80);

/// Makes TLS configurations for nodes. Files are read again when they change.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    trust: Option<Reloaded<RootCertStore>>,
    pins: Option<Pins>,
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
    pub(super) base: Arc<Base>,
    pub(super) config: Arc<ClientConfig>,
    /// Where keys are pinned, what settles them.
    verifier: Option<Arc<Verifier>>,
}

impl NodeTls {
    /// The handshake is done in which `host` showed this chain: pins its key, if it is one to be pinned. To be called
    /// before anything is sent.
    pub(super) fn settle(&self, host: &str, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let (Some((leaf, intermediates)), Some(name)) = (chain.split_first(), server_name(host)) else {
            return Err(Error::TlsOther("the kubelet showed no certificate".into()));
        };
        let Some((pins, uid)) = &verifier.pins else { return Ok(()) };
        let vouched = verifier.vouched(leaf, intermediates, &name, UnixTime::now());
        pins.remember(uid, leaf, vouched.map_err(|error| Error::of_tls(&error))?)
            .map_err(Error::TlsPinMismatch)
    }
}

impl Tls {
    /// With `pins` kubelets that no CA vouches for are told by their keys, if `kubelet` says so.
    pub(super) fn new(
        kubelet: &KubeletTls,
        credentials: &Credentials,
        resolution: Duration,
        pins: Pins,
    ) -> Self {
        let (trust, pins) = match kubelet {
            KubeletTls::Verify { ca_file } => (Some(Reloaded::new(ca_file.clone(), roots)), None),
            KubeletTls::Pin { ca_file } => (Some(Reloaded::new(ca_file.clone(), roots)), Some(pins)),
            KubeletTls::Insecure => (None, None),
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
            pins,
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
        let (config, verifier) = match &base.roots {
            None => (base.config.clone(), None),
            Some(roots) => {
                let mut config = (*base.config).clone();
                let verifier = Arc::new(Verifier {
                    provider: self.provider.clone(),
                    roots: Some(roots.clone()),
                    names: node.identities.iter().filter_map(|name| server_name(name)).collect(),
                    pins: self.pins.clone().map(|pins| (pins, node.uid.clone())),
                });
                config.dangerous().set_certificate_verifier(verifier.clone());
                (Arc::new(config), self.pins.is_some().then_some(verifier))
            }
        };
        Ok(NodeTls { base, config, verifier })
    }

    /// Whether a connection that was made with this would be made with the same now. While files can't be used, as one of
    /// a pair that is being replaced, it is.
    pub(super) fn holds(&self, base: &Arc<Base>) -> bool {
        self.base().map_or(true, |now| Arc::ptr_eq(&now, base))
    }

    /// Reads the client certificate again before the next scrape.
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
        let anyone = Verifier { provider: self.provider.clone(), roots: None, names: Vec::new(), pins: None };
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
/// with pins, one for which nobody vouches and whose key is the node's; without roots, any certificate.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
    names: Vec<ServerName<'static>>,
    /// The pins, and the UID of the node.
    pins: Option<(Pins, Box<str>)>,
}

impl Verifier {
    /// Whether a CA vouches for the certificate. An error if it must not be accepted whatever its key: no CA
    /// vouches for it and keys are not pinned, or one does and it is expired or another's.
    fn vouched(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(false) };
        let verified = self.verify_chain(roots, leaf, intermediates, now);
        let stranger = match &verified {
            // Time and purpose are looked at before the issuer: what matters more is that there is none.
            Err(rustls::Error::InvalidCertificate(error)) => match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => validity(leaf).is_some_and(|valid| {
                    let then = self.verify_chain(roots, leaf, intermediates, valid);
                    let unknown = [CertificateError::UnknownIssuer, CertificateError::BadSignature];
                    matches!(then, Err(rustls::Error::InvalidCertificate(error)) if unknown.contains(&error))
                }),
                // A CA's own certificate, as `openssl req -x509` makes them: nobody else vouches for it.
                CertificateError::Other(_) => is_self_issued(leaf),
                _ => false,
            },
            _ => false,
        };
        if stranger {
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

/// A time at which the certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Whether the certificate names itself as its issuer.
fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
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
        let vouched = self.vouched(end_entity, intermediates, dialled, now)?;
        if let Some((pins, uid)) = &self.pins {
            let other = |mismatch| CertificateError::Other(OtherError(Arc::new(mismatch)));
            pins.check(uid, end_entity, vouched).map_err(other)?;
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
