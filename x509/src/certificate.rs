//! Certificates (RFC 5280, section 4.1).

use std::fmt;

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::Malformed;
use crate::der::{INTEGER, Reader, SEQUENCE, constructed, context};
use crate::extensions::Extensions;
use crate::key::{AlgorithmIdentifier, KeySupport};
use crate::name::DistinguishedName;
use crate::signature::SignedData;
use crate::{printable, time};

/// A parsed certificate of X.509 version 1, 2 or 3.
///
/// Parsing has the rules of Go's `x509.ParseCertificate`, but it also refuses data after the last field, and extensions
/// in a certificate of version 1 or 2, which Go ignores.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    pub(crate) is_version_3: bool,
    pub(crate) signed: SignedData,
    issuer: DistinguishedName,
    subject: DistinguishedName,
    not_before: i64,
    not_after: i64,
    pub(crate) public_key: SubjectPublicKeyInfoDer<'static>,
    pub(crate) key_support: KeySupport,
    pub(crate) extensions: Extensions,
}

impl Certificate {
    /// Parses a certificate.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let Fields { mut tbs, tbs_bytes, algorithm, signature, version } = Fields::read(der)?;
        let serial = tbs.integer().ok_or(Malformed("serial number"))?;
        if serial[0] & 0x80 != 0 {
            return Err(Malformed("serial number (it is negative)"));
        }
        if tbs.content(SEQUENCE).ok_or(Malformed("signature algorithm"))? != algorithm {
            return Err(Malformed("signature algorithm (it differs inside and outside of the signed part)"));
        }
        AlgorithmIdentifier::read(algorithm).ok_or(Malformed("signature algorithm"))?;
        let issuer = DistinguishedName::read(&mut tbs).ok_or(Malformed("issuer"))?;
        let mut validity = tbs.nested(SEQUENCE).ok_or(Malformed("validity"))?;
        let not_before = time::read(&mut validity).ok_or(Malformed("notBefore"))?;
        let not_after = time::read(&mut validity).ok_or(Malformed("notAfter"))?;
        let subject = DistinguishedName::read(&mut tbs).ok_or(Malformed("subject"))?;
        let public_key = tbs.element(SEQUENCE).ok_or(Malformed("public key"))?;
        let key_support = KeySupport::read(public_key.content).ok_or(Malformed("public key"))?;
        if version > 0 {
            for unique_id in [context(1), context(2)] {
                tbs.optional(unique_id).ok_or(Malformed("unique identifier"))?;
            }
        }
        let extensions = match tbs.optional(constructed(3)).ok_or(Malformed("extensions"))? {
            Some(extensions) if version == 2 => Extensions::read(Reader::new(extensions))?,
            Some(_) => return Err(Malformed("extensions (they need version 3)")),
            None => Extensions::default(),
        };
        if !tbs.is_empty() {
            return Err(Malformed("end of the signed part (data follows)"));
        }
        Ok(Self {
            is_version_3: version == 2,
            signed: SignedData {
                data: tbs_bytes.into(),
                algorithm: algorithm.into(),
                signature: signature.into(),
            },
            issuer,
            subject,
            not_before,
            not_after,
            public_key: SubjectPublicKeyInfoDer::from(public_key.bytes).into_owned(),
            key_support,
            extensions,
            der: der.clone().into_owned(),
        })
    }

    /// Returns the certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Returns the subject.
    #[must_use]
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// Returns the end of the validity in seconds since the Unix epoch.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Returns the start of the validity in seconds since the Unix epoch.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Returns the public key as SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> &SubjectPublicKeyInfoDer<'static> {
        &self.public_key
    }

    /// Returns the names of the subject alternative name that a host can have, for messages.
    #[must_use]
    pub fn host_names(&self) -> Vec<String> {
        self.extensions.names.as_ref().map_or_else(Vec::new, |names| {
            names.dns.iter().cloned().chain(names.ip.iter().map(ToString::to_string)).collect()
        })
    }

    /// Returns whether subject and issuer are the same.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Returns how messages name the certificate: by its subject, or by its first host name if the subject is empty.
    pub(crate) fn label(&self) -> String {
        let subject = printable(&self.subject.to_string());
        if !subject.is_empty() {
            return subject;
        }
        self.host_names().first().map_or_else(|| "(no subject)".to_owned(), |name| printable(name))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.label())
    }
}

/// Returns the public key of a certificate that may be malformed elsewhere.
///
/// A TLS handshake proves possession of this key. It says nothing about the rest of the certificate.
pub fn public_key<'a>(der: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Malformed> {
    let Fields { mut tbs, .. } = Fields::read(der)?;
    // Serial number, signature algorithm, issuer, validity, subject.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        tbs.element(tag).ok_or(Malformed("fields before the public key"))?;
    }
    tbs.element(SEQUENCE).map(|key| key.bytes.into()).ok_or(Malformed("public key"))
}

/// The outer fields of a certificate.
struct Fields<'a> {
    /// The signed part, after its version.
    tbs: Reader<'a>,
    tbs_bytes: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// The encoded version: 0 is version 1.
    version: u32,
}

impl<'a> Fields<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(der);
        let mut certificate = outer.nested(SEQUENCE).ok_or(Malformed("outer sequence"))?;
        if !outer.is_empty() {
            return Err(Malformed("end of the certificate (data follows)"));
        }
        let signed = certificate.element(SEQUENCE).ok_or(Malformed("signed part"))?;
        let algorithm = certificate.content(SEQUENCE).ok_or(Malformed("signature algorithm"))?;
        let (unused, signature) = certificate.bit_string().ok_or(Malformed("signature"))?;
        if unused != 0 || !certificate.is_empty() {
            return Err(Malformed("signature"));
        }
        let mut tbs = Reader::new(signed.content);
        let version = match tbs.optional(constructed(0)).ok_or(Malformed("version"))? {
            None => 0,
            Some(version) => {
                let mut version = Reader::new(version);
                let number = version.unsigned().filter(|number| *number <= 2 && version.is_empty());
                number.ok_or(Malformed("version (it is not 1, 2 or 3)"))?
            }
        };
        Ok(Self { tbs, tbs_bytes: signed.bytes, algorithm, signature, version })
    }
}
