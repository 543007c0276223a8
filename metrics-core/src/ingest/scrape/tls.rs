//! TLS towards kubelets: verification of their serving certificates, and our client certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use x509::CaBundle;

use super::error::Error;
use super::kubelet_verifier::KubeletVerifier;
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
    trust: Option<ReloadedFile<CaBundle>>,
    pins: Option<Pins>,
    identity: Option<(ReloadedFile<Vec<CertificateDer<'static>>>, ReloadedFile<PrivateKeyDer<'static>>)>,
    material: Mutex<Option<Arc<TlsMaterial>>>,
    sessions: usize,
}

/// What the configurations of all nodes have in common, and the files' content it was built from.
pub(super) struct TlsMaterial {
    roots: Option<Arc<CaBundle>>,
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
                let unusable = |error: &dyn std::fmt::Display| {
                    Error::TlsOther(format!("the client certificate of metrics-core cannot be used: {error}"))
                };
                let key = self.provider.key_provider.load_private_key(key.clone_key());
                let key = key.map_err(|error| unusable(&error))?;
                let certified = x509::certified_key(chain.to_vec(), key).map_err(|error| unusable(&error))?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
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

/// Reads a CA bundle. As in client-go, certificates that can't be used are ignored if others can.
pub(super) fn roots(pem: &[u8]) -> Result<CaBundle, String> {
    let (bundle, invalid) = CaBundle::from_pem(pem);
    if bundle.certificates().is_empty() {
        return Err(match invalid.first() {
            Some(invalid) => format!("contains no usable CA certificate: {invalid}"),
            None => "contains no PEM certificate".to_owned(),
        });
    }
    for invalid in &invalid {
        tracing::warn!("ignored a certificate in the file of --kubelet-certificate-authority: {invalid}");
    }
    Ok(bundle)
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
