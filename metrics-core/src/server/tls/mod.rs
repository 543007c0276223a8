//! TLS of the HTTPS port.
//!
//! The server requests a client certificate and never refuses one in the handshake: [`client_certificate`] only
//! verifies that the client has its private key. Authentication verifies the certificate for each request, so that
//! the client gets a response (401) and not a failed handshake.

mod certificate;
mod client_certificate;
mod policy;
mod source;

use std::sync::Arc;

pub(crate) use certificate::Error as CertificateError;
pub use policy::{TlsPolicy, TlsPolicyError};
pub use source::{ServingCertificate, from_files, from_secret};

/// Returns the cryptography provider, aws-lc-rs.
#[must_use]
pub fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// Returns the server's TLS configuration.
pub fn server_config(
    policy: &TlsPolicy,
    certificate: Arc<ServingCertificate>,
    http2: bool,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(policy.restrict(provider()));
    let verifier = client_certificate::AnyClientCertificate::new(provider.signature_verification_algorithms);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(policy.versions())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    // A stored session holds its client's certificates. No client of this port needs resumption: kube-apiserver, kubelets
    // and Prometheus connect without a session cache.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}
