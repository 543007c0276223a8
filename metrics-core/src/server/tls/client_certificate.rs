//! The client certificate in the handshake: any is accepted if the client has its private key.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// The maximum size of a client's chain in bytes. The server holds it as long as the connection, and holds as many as
/// there are clients. A chain of three RSA-4096 certificates has about 5 KiB.
const MAX_CHAIN_BYTES: usize = 16 << 10;
/// The maximum number of certificates in a client's chain.
const MAX_CHAIN_LENGTH: usize = 10;

/// A chain that is too long to hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "the chain of the client certificate has {certificates} certificates and {bytes} bytes; the maximum is \
     {MAX_CHAIN_LENGTH} and {MAX_CHAIN_BYTES}"
)]
struct ChainTooLong {
    bytes: usize,
    certificates: usize,
}

/// Accepts every certificate whose private key signed the handshake.
///
/// The server sends no list of acceptable CAs, so that a client presents its certificate whatever CA signed it. Only
/// the public key is read: clients whose certificate is invalid otherwise must get a response, too.
#[derive(Debug)]
pub(super) struct AnyClientCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClientCertificate {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = leaf.len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
        if bytes > MAX_CHAIN_BYTES || intermediates.len() >= MAX_CHAIN_LENGTH {
            let too_long = ChainTooLong { bytes, certificates: 1 + intermediates.len() };
            return Err(CertificateError::Other(OtherError(Arc::new(too_long))).into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        x509::verify_tls12_handshake(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        x509::verify_tls13_handshake(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
