//! CA bundles.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::key::KeySupport;
use crate::{Certificate, Error, Malformed, Purpose, path};

/// The maximum number of certificates in a bundle. Public bundles have less than 200.
const MAX_CERTIFICATES: usize = 1024;

/// The certificates that are trusted for one purpose.
///
/// A CA among them is trusted to sign others. Any of them is trusted as itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaBundle {
    certificates: Vec<Certificate>,
}

/// A certificate of a bundle that can't be used. The message names its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("certificate {number} of the bundle is invalid: {cause}")]
pub struct InvalidCertificate {
    /// Its position, from 1.
    pub number: usize,
    /// The cause.
    pub cause: String,
}

impl CaBundle {
    /// Reads the certificates of a PEM text. Other text between them is ignored. Also returns what can't be used.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> (Self, Vec<InvalidCertificate>) {
        let (mut bundle, mut invalid) = (Self::default(), Vec::new());
        for (at, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let certificate = if at < MAX_CERTIFICATES {
                der.map_err(|error| error.to_string())
                    .and_then(|der| Certificate::parse(&der).map_err(|error| error.to_string()))
            } else {
                Err(format!("a bundle can have {MAX_CERTIFICATES} certificates"))
            };
            match certificate {
                Ok(certificate) => bundle.certificates.push(certificate),
                Err(cause) => invalid.push(InvalidCertificate { number: at + 1, cause }),
            }
            if at >= MAX_CERTIFICATES {
                break;
            }
        }
        (bundle, invalid)
    }

    /// Returns the certificates in their order.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Returns whether both have a public key in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.certificates
            .iter()
            .any(|one| other.certificates.iter().any(|another| one.public_key() == another.public_key()))
    }

    /// Verifies a chain, the end entity's certificate first, at `now` (seconds since the Unix epoch). Returns the end
    /// entity's certificate.
    ///
    /// The rules are those of Go's `Certificate.Verify`. Whether the certificate is for a host is not checked.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: i64,
    ) -> Result<Certificate, Error> {
        let mut parsed = Vec::with_capacity(chain.len());
        for (at, der) in chain.iter().enumerate() {
            // Go fails the handshake if one can't be parsed, also if it is not needed.
            let certificate = Certificate::parse(der);
            let certificate = certificate.and_then(|one| {
                let is_checked = one.key_support != KeySupport::Unchecked;
                if is_checked { Ok(one) } else { Err(Malformed("public key (P-224 is not supported)")) }
            });
            parsed.push(certificate.map_err(|cause| Error::Malformed { number: at + 1, cause })?);
        }
        let Some((leaf, intermediates)) = parsed.split_first() else {
            return Err(Error::NoCertificate);
        };
        path::verify(leaf, intermediates, &self.certificates, purpose, now)?;
        Ok(parsed.swap_remove(0))
    }
}

impl From<Vec<Certificate>> for CaBundle {
    fn from(certificates: Vec<Certificate>) -> Self {
        Self { certificates }
    }
}
