//! TLS of the server's own port.
//!
//! A client's certificate is asked for and never refused in the handshake: [`client_certificate`] only checks that
//! the client holds its key. Whether the certificate is worth anything is decided for each request, so that a
//! refusal is an answer that can be read (401) and not a connection that breaks.

pub mod certificate;
mod client_certificate;
mod policy;
mod source;

use std::sync::Arc;

pub use policy::{Policy, PolicyError};
pub use source::{ServingCertificate, from_files, from_secret};

/// The cryptography: aws-lc-rs, as everywhere in this project.
#[must_use]
pub fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The server's configuration.
pub fn server_config(
    policy: &Policy,
    certificate: Arc<ServingCertificate>,
    http2: bool,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(policy.restrict(provider()));
    let verifier = client_certificate::AnyClientCertificate::new(provider.signature_verification_algorithms);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(policy.versions())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}
