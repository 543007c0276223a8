//! A client certificate for kube-apiserver in files that are replaced at run time.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use zeroize::Zeroize;

use super::Error;
use super::connections::Connections;
use crate::watched_file;

const FILES_INTERVAL: Duration = Duration::from_secs(10);

/// The files of a client certificate and its key.
pub(super) type IdentityFiles = [PathBuf; 2];

/// The client certificate that new connections present.
#[derive(Clone, Debug)]
pub(super) struct ReloadedIdentity {
    files: IdentityFiles,
    current: Arc<ArcSwap<CertifiedKey>>,
}

impl ResolvesClientCert for ReloadedIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Makes `tls` present the certificate in the files, as it is when a connection opens.
pub(super) fn reload(files: IdentityFiles, tls: &mut ClientConfig) -> Result<ReloadedIdentity, Error> {
    let [certificate, key] = &files;
    let read = |path| watched_file::read_one(path).map_err(|error| Error::Client(error.to_string()));
    let pair = parse(&read(certificate)?, &read(key)?);
    let pair = pair.map_err(|error| Error::Client(format!("{}: {error}", certificate.display())))?;
    let identity = ReloadedIdentity { files, current: Arc::new(ArcSwap::from_pointee(pair)) };
    tls.client_auth_cert_resolver = Arc::new(identity.clone());
    Ok(identity)
}

/// Reads the files again when they change. Open connections are replaced then, because kube-apiserver verifies for each
/// request the certificate with which its connection was opened.
pub(super) async fn follow(identity: ReloadedIdentity, connections: Arc<Connections>) {
    let ReloadedIdentity { files, current } = identity;
    let ended = watched_file::follow(files, FILES_INTERVAL, move |[path, _], contents| {
        let pair = contents.map_err(|error| error.to_string()).and_then(|[certificate, mut key]| {
            let pair = parse(&certificate, &key);
            key.zeroize();
            pair
        });
        match pair {
            Ok(pair) if pair.cert == current.load().cert => {}
            Ok(pair) => {
                current.store(Arc::new(pair));
                connections.replace_current();
                tracing::info!(file = %path.display(), "reloaded the client certificate for kube-apiserver");
            }
            Err(error) => tracing::error!(
                file = %path.display(),
                "the client certificate for kube-apiserver is invalid; the last valid one remains in use: {error}"
            ),
        }
    });
    match ended.await {}
}

fn parse(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("contains no PEM certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("private key: {error}"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| error.to_string())
}
