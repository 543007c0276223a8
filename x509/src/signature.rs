//! Signatures of certificates and of TLS handshakes.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved};
use rustls_pki_types::CertificateDer;
use webpki::RawPublicKeyEntity;

use crate::Certificate;
use crate::certificate::public_key;
use crate::key::KeySupport;

/// The signed part of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SignedData {
    pub(crate) data: Box<[u8]>,
    /// The content of the AlgorithmIdentifier.
    pub(crate) algorithm: Box<[u8]>,
    pub(crate) signature: Box<[u8]>,
}

/// Why a signature does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    /// The algorithm, or the type or size of the key, is not supported.
    Unsupported,
    /// Another key made the signature.
    OtherKey,
}

impl SignedData {
    /// Verifies that the key of `issuer` signed the data.
    pub(crate) fn verify(&self, issuer: &Certificate) -> Result<(), SignatureError> {
        if issuer.key_support != KeySupport::Signatures {
            return Err(SignatureError::Unsupported);
        }
        let key =
            RawPublicKeyEntity::try_from(&issuer.public_key).map_err(|_| SignatureError::Unsupported)?;
        let mut result = Err(SignatureError::Unsupported);
        // Several algorithms have one identifier: ECDSA names the hash, but not the curve.
        let named = |id: &[u8]| *self.algorithm == *id;
        for algorithm in webpki::ALL_VERIFICATION_ALGS {
            if !named(algorithm.signature_alg_id().as_ref()) {
                continue;
            }
            match key.verify_signature(*algorithm, &self.data, &self.signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => result = Err(SignatureError::OtherKey),
            }
        }
        result
    }
}

/// Verifies the signature of a TLS 1.2 handshake with the certificate's key. Reads nothing else of the certificate.
pub fn verify_tls12_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = public_key(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    let (_, algorithms) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    // In TLS 1.2 a scheme does not determine the curve, so all its algorithms are tried.
    for algorithm in *algorithms {
        match key.verify_signature(*algorithm, message, signed.signature()) {
            Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(CertificateError::BadSignature.into()),
        }
    }
    Err(CertificateError::BadSignature.into())
}

/// Verifies the signature of a TLS 1.3 handshake with the certificate's key. Reads nothing else of the certificate.
pub fn verify_tls13_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = public_key(certificate).map_err(|_| CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}
