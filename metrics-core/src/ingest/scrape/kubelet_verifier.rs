//! Verifies the serving certificates of kubelets.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use x509::CaBundle;

use super::pins::Pins;

/// Accepts a certificate that is signed by a trusted CA and contains the dialled name or any of the node's own.
/// With pins, also accepts one that is not signed by a trusted CA if its key is the node's pinned one. Without
/// roots, accepts any certificate.
#[derive(Debug)]
pub(super) struct KubeletVerifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) roots: Option<Arc<CaBundle>>,
    pub(super) names: Vec<ServerName<'static>>,
    /// The pins and the node's UID.
    pub(super) pins: Option<(Pins, Box<str>)>,
}

impl KubeletVerifier {
    /// Returns whether a trusted CA signed the certificate. Fails if the certificate must be rejected whatever its
    /// key: it is not CA-signed and keys are not pinned, or it is CA-signed but expired or for another host.
    pub(super) fn is_ca_signed(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        dialled: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(false) };
        let certificate = match roots.verify_server(leaf, intermediates, now) {
            Ok(certificate) => certificate,
            Err(error) if self.pins.is_some() && is_unknown_issuer(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        if certificate.is_for_host(dialled) || self.names.iter().any(|name| certificate.is_for_host(name)) {
            return Ok(true);
        }
        Err(CertificateError::NotValidForNameContext {
            expected: dialled.to_owned(),
            presented: certificate.host_names(),
        }
        .into())
    }
}

fn is_unknown_issuer(error: &rustls::Error) -> bool {
    matches!(x509::verification_error(error), Some(x509::Error::UnknownIssuer { .. }))
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
        x509::verify_tls12_handshake(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        x509::verify_tls13_handshake(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
