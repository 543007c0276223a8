//! The entry point of the interoperability test in `e2e`. Not part of the API.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::error::Error;
use super::kubelet_verifier::KubeletVerifier;
use super::tls::{roots, server_name};

/// Verifies a kubelet's chain as mode Verify does, with the CA bundle `pem`. The error is its message.
pub fn verify_kubelet(pem: &[u8], host: &str, chain: &[CertificateDer<'_>]) -> Result<(), String> {
    let verifier = KubeletVerifier {
        provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        roots: Some(Arc::new(roots(pem)?)),
        names: Vec::new(),
        pins: None,
    };
    let (leaf, intermediates) = chain.split_first().ok_or("no certificate")?;
    let name = server_name(host).ok_or("not a host name")?;
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], UnixTime::now())
        .map(drop)
        .map_err(|error| Error::from_tls(&error).to_string())
}
