//! Client certificates of X.509 version 1, as `openssl x509 -req` makes them without an extension file.
//!
//! They have no extensions, so all there is to verify is the issuer's name, its signature and the time. Go and
//! with it Kubernetes accept them; webpki does not read them.

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// Whether the certificate is of version 1.
pub(super) fn is(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.version() == X509Version::V1)
}

/// What is wrong with such a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Unreadable,
    UnknownIssuer,
    Expired,
    NotYetValid,
}

/// Verifies that one of `issuers` signed it directly, at `now` (seconds since the Unix epoch).
pub(super) fn verify<'a>(
    certificate: &CertificateDer<'_>,
    mut issuers: impl Iterator<Item = &'a CertificateDer<'static>>,
    now: i64,
) -> Result<(), Flaw> {
    let (_, leaf) = X509Certificate::from_der(certificate).map_err(|_| Flaw::Unreadable)?;
    if !issuers.any(|issuer| signed(&leaf, issuer)) {
        return Err(Flaw::UnknownIssuer);
    }
    let validity = leaf.validity();
    if now > validity.not_after.timestamp() {
        Err(Flaw::Expired)
    } else if now < validity.not_before.timestamp() {
        Err(Flaw::NotYetValid)
    } else {
        Ok(())
    }
}

fn signed(leaf: &X509Certificate<'_>, issuer: &CertificateDer<'_>) -> bool {
    let Ok((_, issuer)) = X509Certificate::from_der(issuer) else { return false };
    if issuer.subject().as_raw() != leaf.issuer().as_raw() {
        return false;
    }
    // The algorithm stands in the signed part and beside it; a difference is an attempt to confuse.
    if leaf.signature_algorithm != leaf.tbs_certificate.signature {
        return false;
    }
    let key = SubjectPublicKeyInfoDer::from(issuer.public_key().raw);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
    // An algorithm that does not fit the key fails; those that fit differ in their hash, and only that of the
    // signature verifies.
    webpki::ALL_VERIFICATION_ALGS.iter().any(|algorithm| {
        key.verify_signature(*algorithm, leaf.tbs_certificate.as_ref(), &leaf.signature_value.data).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::{Flaw, is, verify};

    /// Made by `openssl`: a CA (valid until 2126), and a certificate of version 1 that it signed (CN=aggregator,
    /// valid until 2126). The keys were thrown away.
    const CA: &str = include_str!("testdata/version1-ca.crt");
    const LEAF: &str = include_str!("testdata/version1.crt");
    const OTHER_CA: &str = include_str!("testdata/version1-other-ca.crt");
    const IN_2030: i64 = 1_893_456_000;
    const IN_2200: i64 = 7_258_118_400;

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn issuer_signature_and_time_are_verified() {
        let (ca, other, leaf) = (der(CA), der(OTHER_CA), der(LEAF));
        assert!(is(&leaf) && !is(&ca));
        assert_eq!(verify(&leaf, [&other, &ca].into_iter(), IN_2030), Ok(()));
        assert_eq!(verify(&leaf, [&ca].into_iter(), IN_2200), Err(Flaw::Expired));
        assert_eq!(verify(&leaf, [&ca].into_iter(), 0), Err(Flaw::NotYetValid));
        assert_eq!(
            verify(&leaf, [&other].into_iter(), IN_2030),
            Err(Flaw::UnknownIssuer),
            "same name, other key"
        );
        assert_eq!(verify(&leaf, std::iter::empty(), IN_2030), Err(Flaw::UnknownIssuer));
        let mut forged = leaf.to_vec();
        let at = forged.windows(10).position(|window| window == b"aggregator").unwrap();
        forged[at..at + 10].copy_from_slice(b"aggregatex");
        assert_eq!(verify(&forged.into(), [&ca].into_iter(), IN_2030), Err(Flaw::UnknownIssuer));
    }
}
