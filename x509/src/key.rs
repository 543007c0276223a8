//! Public keys of certificates (RFC 5280, section 4.1.2.7), with the checks of Go's `x509.ParseCertificate`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ParsedPublicKey,
    VerificationAlgorithm,
};

use crate::der::{Reader, SEQUENCE};

/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 3279, section 2.3.1).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-dsa, 1.2.840.10040.4.1 (RFC 3279, section 2.3.2).
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480, section 2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// id-X25519 and id-Ed25519, 1.3.101.110 and 1.3.101.112 (RFC 8410, section 3).
const X25519: &[u8] = &[0x2b, 0x65, 0x6e];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const P224: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x21];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// NULL, in DER.
const NULL: &[u8] = &[0x05, 0x00];

/// What a well-formed public key can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySupport {
    /// Verifying signatures.
    Signatures,
    /// Nothing here. It can't be an issuer's key.
    Unsupported,
    /// Nothing here, and whether its point is on the curve is unknown (P-224).
    Unchecked,
}

impl KeySupport {
    /// Reads the content of a SubjectPublicKeyInfo. `None` if it is malformed.
    ///
    /// Keys of unknown algorithms are not malformed, but elliptic curves must be known, as in Go.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let algorithm = AlgorithmIdentifier::read(reader.content(SEQUENCE)?)?;
        let (unused, key) = reader.bit_string()?;
        if unused != 0 || !reader.is_empty() {
            return None;
        }
        let is_supported = match algorithm.identifier {
            RSA if algorithm.parameters == NULL => rsa(key)?,
            EC => return elliptic_curve(algorithm.parameters, key),
            ED25519 if algorithm.parameters.is_empty() && key.len() == 32 => true,
            X25519 if algorithm.parameters.is_empty() && key.len() == 32 => false,
            DSA => dsa(algorithm.parameters, key).map(|()| false)?,
            RSA | ED25519 | X25519 => return None,
            _ => false,
        };
        Some(if is_supported { Self::Signatures } else { Self::Unsupported })
    }
}

/// An AlgorithmIdentifier (RFC 5280, section 4.1.1.2).
pub(crate) struct AlgorithmIdentifier<'a> {
    identifier: &'a [u8],
    /// In DER. Empty if absent.
    parameters: &'a [u8],
}

impl<'a> AlgorithmIdentifier<'a> {
    /// Reads the content of an AlgorithmIdentifier.
    pub(crate) fn read(content: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let identifier = reader.object_identifier()?;
        let parameters = if reader.is_empty() { &[] } else { reader.any()?.bytes };
        reader.is_empty().then_some(Self { identifier, parameters })
    }
}

/// Returns whether an RSA key (RFC 8017, appendix A.1.1) can be used. The limits of the exponent are those of Go; the
/// verification of a signature limits the modulus.
fn rsa(key: &[u8]) -> Option<bool> {
    let mut outer = Reader::new(key);
    let mut numbers = outer.nested(SEQUENCE)?;
    let (_, exponent) = (positive(&mut numbers)?, positive(&mut numbers)?);
    if !numbers.is_empty() || !outer.is_empty() || exponent.len() > 8 {
        return None;
    }
    let exponent = exponent.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Some(exponent % 2 == 1 && (3..1 << 31).contains(&exponent))
}

fn dsa(parameters: &[u8], key: &[u8]) -> Option<()> {
    positive(&mut Reader::new(key))?;
    let mut numbers = Reader::new(parameters).nested(SEQUENCE)?;
    for _ in 0..3 {
        positive(&mut numbers)?;
    }
    Some(())
}

/// Reads a positive integer.
fn positive<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    reader.integer().filter(|bytes| *bytes != [0] && bytes[0] & 0x80 == 0)
}

/// Checks a point of a curve that has a name, uncompressed (RFC 5480, section 2.2).
fn elliptic_curve(parameters: &[u8], key: &[u8]) -> Option<KeySupport> {
    let (size, algorithm): (_, Option<&'static dyn VerificationAlgorithm>) =
        match Reader::new(parameters).object_identifier()? {
            P224 => (28, None),
            P256 => (32, Some(&ECDSA_P256_SHA256_ASN1)),
            P384 => (48, Some(&ECDSA_P384_SHA384_ASN1)),
            P521 => (66, Some(&ECDSA_P521_SHA512_ASN1)),
            _ => return None,
        };
    if key.len() != 1 + 2 * size || key.first() != Some(&4) {
        return None;
    }
    match algorithm {
        Some(algorithm) => ParsedPublicKey::new(algorithm, key).ok().map(|_| KeySupport::Signatures),
        None => Some(KeySupport::Unchecked),
    }
}

#[cfg(test)]
mod tests {
    use super::{DSA, EC, ED25519, KeySupport, NULL, P224, P256, RSA, X25519};

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn read(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Option<KeySupport> {
        let algorithm = tlv(0x30, &[&tlv(6, algorithm), parameters].concat());
        KeySupport::read(&[algorithm, tlv(3, &[&[0], key].concat())].concat())
    }

    #[test]
    fn refuses_rsa_keys_that_go_refuses() {
        let key = |exponent: &[u8]| tlv(0x30, &[tlv(2, &[0x7f]), tlv(2, exponent)].concat());
        for exponent in [&[3][..], &[1, 0, 1], &[0x7f, 0xff, 0xff, 0xff]] {
            assert_eq!(read(RSA, NULL, &key(exponent)), Some(KeySupport::Signatures), "{exponent:?}");
        }
        for exponent in [&[1][..], &[4], &[1, 0, 0, 0, 1], &[0, 0x80, 0, 0, 1]] {
            assert_eq!(read(RSA, NULL, &key(exponent)), Some(KeySupport::Unsupported), "{exponent:?}");
        }
        for exponent in [&[0][..], &[0xff], &[0, 1], &[0, 0x80, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(read(RSA, NULL, &key(exponent)), None, "{exponent:?}");
        }
        assert_eq!(read(RSA, &[], &key(&[3])), None, "no parameters");
        assert_eq!(read(RSA, NULL, &[key(&[3]), vec![0]].concat()), None, "data after the key");
        assert_eq!(read(RSA, NULL, &tlv(0x30, &[tlv(2, &[0x80]), tlv(2, &[3])].concat())), None, "negative");
    }

    #[test]
    fn a_point_must_be_on_its_curve() {
        let key = rcgen::KeyPair::generate().unwrap();
        let curve = tlv(6, P256);
        let mut point = rcgen::PublicKeyData::der_bytes(&key).to_vec();
        assert_eq!(read(EC, &curve, &point), Some(KeySupport::Signatures));
        assert_eq!(read(EC, &[], &point), None, "no curve");
        assert_eq!(read(EC, &tlv(6, &[1]), &point), None, "an unknown curve");
        let compressed = [&[2 | (point[64] & 1)], &point[1..33]].concat();
        assert_eq!(read(EC, &curve, &compressed), None, "compressed");
        let hybrid = [&[6 | (point[64] & 1)], &point[1..]].concat();
        assert_eq!(read(EC, &curve, &hybrid), None, "hybrid");
        point[64] ^= 1;
        assert_eq!(read(EC, &curve, &point), None, "not on the curve");
        let unchecked = [&[4][..], &[0; 56]].concat();
        assert_eq!(read(EC, &tlv(6, P224), &unchecked), Some(KeySupport::Unchecked));
        assert_eq!(read(EC, &tlv(6, P224), &[2; 57]), None);
    }

    #[test]
    fn keys_that_verify_nothing_must_be_well_formed() {
        assert_eq!(read(ED25519, &[], &[1; 32]), Some(KeySupport::Signatures));
        assert_eq!(read(X25519, &[], &[1; 32]), Some(KeySupport::Unsupported));
        for (algorithm, parameters, size) in
            [(ED25519, NULL, 32), (X25519, NULL, 32), (ED25519, &[][..], 31), (X25519, &[], 33)]
        {
            assert_eq!(read(algorithm, parameters, &vec![1; size]), None);
        }
        let (one, zero) = (tlv(2, &[1]), tlv(2, &[0]));
        let parameters = tlv(0x30, &[&one[..], &one, &one].concat());
        assert_eq!(read(DSA, &parameters, &one), Some(KeySupport::Unsupported));
        assert_eq!(read(DSA, &parameters, &zero), None);
        assert_eq!(read(DSA, &tlv(0x30, &one), &one), None);
        assert_eq!(read(&[0x2a, 3], &[], &[]), Some(KeySupport::Unsupported), "an unknown algorithm");
    }
}
