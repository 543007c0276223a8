//! The verification of TLS servers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{CaBundle, Certificate, Error, Purpose, verify_tls12_handshake, verify_tls13_handshake};

/// Accepts servers whose certificate is signed by a CA of the bundle, or is in the bundle, and is for the host.
#[derive(Debug)]
pub struct ServerVerifier {
    bundle: CaBundle,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// Returns a verifier. The algorithms are those of handshakes.
    #[must_use]
    pub fn new(bundle: CaBundle, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { bundle, algorithms }
    }
}

/// Returns the error of a verification in this crate. The Display of `rustls::Error` does not show it.
#[must_use]
pub fn verification_error(error: &rustls::Error) -> Option<&Error> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => error.downcast_ref(),
        _ => None,
    }
}

impl CaBundle {
    /// Verifies the certificates of a TLS server, whatever its host. Returns its certificate. [`verification_error`] returns
    /// the error's cause.
    pub fn verify_server(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Certificate, rustls::Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend(intermediates.iter().cloned());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.verify(&chain, Purpose::Server, now)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))).into())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = self.bundle.verify_server(end_entity, intermediates, now)?;
        if certificate.is_for_host(host) {
            return Ok(ServerCertVerified::assertion());
        }
        let presented = certificate.host_names();
        Err(CertificateError::NotValidForNameContext { expected: host.to_owned(), presented }.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_handshake(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_handshake(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
