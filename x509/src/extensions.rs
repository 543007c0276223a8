//! Extensions (RFC 5280, section 4.2): those that path validation uses.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::Malformed;
use crate::constraints::NameConstraints;
use crate::der::{OCTET_STRING, Reader, SEQUENCE, constructed, context, dotted, is_integer};
use crate::uri::Uri;

/// The beginning of the object identifiers of certificate extensions, 2.5.29.
const CERTIFICATE_EXTENSION: [u8; 2] = [0x55, 0x1d];
/// id-pe-authorityInfoAccess, 1.3.6.1.5.5.7.1.1.
const AUTHORITY_INFO_ACCESS: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
/// The bit keyCertSign, from the first.
const KEY_CERT_SIGN: usize = 5;

/// The extensions of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    /// Whether the key usage includes signing certificates; `None` without the extension, or if it lists no usage.
    pub(crate) key_cert_sign: Option<bool>,
    /// The object identifiers of the extended key usage. Empty allows every usage.
    pub(crate) extended_key_usages: Vec<Box<[u8]>>,
    pub(crate) names: Option<AlternativeNames>,
    pub(crate) name_constraints: Option<NameConstraints>,
    /// The first critical extension that is unknown, as object identifier.
    pub(crate) unknown_critical: Option<String>,
    /// Whether it demands that certificate policies are processed.
    pub(crate) needs_policies: bool,
    /// The identifier of the certificate's key, and that of its issuer's key. Empty if unknown.
    pub(crate) key_identifier: Box<[u8]>,
    pub(crate) issuer_key_identifier: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) is_ca: bool,
    /// The maximum number of intermediates below.
    pub(crate) path_length: Option<u32>,
}

/// The subject alternative name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlternativeNames {
    pub(crate) der: Box<[u8]>,
    pub(crate) dns: Vec<String>,
    pub(crate) ip: Vec<IpAddr>,
    pub(crate) email: Vec<String>,
    pub(crate) uri: Vec<Uri>,
}

struct Extension<'a> {
    identifier: &'a [u8],
    is_critical: bool,
    value: &'a [u8],
}

impl Extensions {
    /// Reads the extensions of a certificate, a sequence.
    pub(crate) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let malformed = Malformed("extensions");
        let mut list = reader.nested(SEQUENCE).ok_or(malformed)?;
        if !reader.is_empty() {
            return Err(malformed);
        }
        let mut all = Self::default();
        // A set, because a client can send thousands before it is authenticated.
        let mut seen = HashSet::new();
        while !list.is_empty() {
            let extension = Extension::read(&mut list).ok_or(malformed)?;
            if !seen.insert(extension.identifier) {
                return Err(Malformed("extensions (one occurs twice)"));
            }
            all.add(&extension)?;
        }
        Ok(all)
    }

    fn add(&mut self, extension: &Extension<'_>) -> Result<(), Malformed> {
        let mut value = Reader::new(extension.value);
        let [first, second, number] = *extension.identifier else {
            if extension.identifier == AUTHORITY_INFO_ACCESS {
                extension.check_not_critical("authority information access")?;
                sequence_of(value, access_description).ok_or(Malformed("authority information access"))?;
            } else {
                self.unknown(extension);
            }
            return Ok(());
        };
        if [first, second] != CERTIFICATE_EXTENSION {
            self.unknown(extension);
            return Ok(());
        }
        match number {
            // The sections of RFC 5280 are 4.2.1.1 to 4.2.1.14; 4.2.2.1 is authority information access.
            14 => {
                extension.check_not_critical("subject key identifier")?;
                let identifier = value.content(OCTET_STRING).ok_or(Malformed("subject key identifier"))?;
                self.key_identifier = identifier.into();
            }
            15 => self.key_cert_sign = key_usage(value).ok_or(Malformed("key usage"))?,
            17 => {
                let names =
                    AlternativeNames::read(extension.value).ok_or(Malformed("subject alternative name"))?;
                if names.is_empty() {
                    self.unknown(extension);
                }
                self.names = Some(names);
            }
            19 => {
                self.basic_constraints =
                    Some(BasicConstraints::read(value).ok_or(Malformed("basic constraints"))?);
            }
            30 => {
                let (constraints, has_unknown) =
                    NameConstraints::read(value).ok_or(Malformed("name constraints"))?;
                if has_unknown {
                    self.unknown(extension);
                }
                self.name_constraints = Some(constraints);
            }
            31 => sequence_of(value, distribution_point).ok_or(Malformed("CRL distribution points"))?,
            32 => policies(value).ok_or(Malformed("certificate policies"))?,
            33 => {
                sequence_of(value, policy_mapping).ok_or(Malformed("policy mappings"))?;
                self.needs_policies = true;
            }
            35 => {
                extension.check_not_critical("authority key identifier")?;
                let malformed = Malformed("authority key identifier");
                let mut identifiers = value.nested(SEQUENCE).ok_or(malformed)?;
                let of_key = identifiers.optional(context(0)).ok_or(malformed)?;
                self.issuer_key_identifier = of_key.unwrap_or_default().into();
            }
            36 => self.needs_policies |= policy_constraints(value).ok_or(Malformed("policy constraints"))?,
            37 => {
                self.extended_key_usages =
                    extended_key_usages(value).ok_or(Malformed("extended key usage"))?;
            }
            // It limits policies, which are not processed.
            54 => {
                value.unsigned().ok_or(Malformed("inhibitAnyPolicy"))?;
            }
            _ => self.unknown(extension),
        }
        Ok(())
    }

    fn unknown(&mut self, extension: &Extension<'_>) {
        if extension.is_critical && self.unknown_critical.is_none() {
            self.unknown_critical = Some(dotted(extension.identifier));
        }
    }
}

impl<'a> Extension<'a> {
    fn read(list: &mut Reader<'a>) -> Option<Self> {
        let mut extension = list.nested(SEQUENCE)?;
        let identifier = extension.object_identifier()?;
        let is_critical = if extension.peek(crate::der::BOOLEAN) { extension.boolean()? } else { false };
        let value = extension.content(OCTET_STRING)?;
        extension.is_empty().then_some(Self { identifier, is_critical, value })
    }

    fn check_not_critical(&self, name: &'static str) -> Result<(), Malformed> {
        // RFC 5280 forbids it, and Go refuses such a certificate.
        if self.is_critical { Err(Malformed(name)) } else { Ok(()) }
    }
}

impl BasicConstraints {
    fn read(mut value: Reader<'_>) -> Option<Self> {
        let mut constraints = value.nested(SEQUENCE)?;
        let is_ca = if constraints.peek(crate::der::BOOLEAN) { constraints.boolean()? } else { false };
        let path_length = if constraints.is_empty() { None } else { Some(constraints.unsigned()?) };
        (constraints.is_empty() && value.is_empty()).then_some(Self { is_ca, path_length })
    }
}

impl AlternativeNames {
    fn read(der: &[u8]) -> Option<Self> {
        let mut value = Reader::new(der);
        let mut list = value.nested(SEQUENCE)?;
        let mut names = Self { der: der.into(), ..Self::default() };
        while !list.is_empty() {
            let name = list.any()?;
            match name.tag {
                EMAIL => names.email.push(ia5(name.content)?),
                DNS => names.dns.push(ia5(name.content)?),
                URI => names.uri.push(ia5(name.content).and_then(Uri::parse)?),
                IP => names.ip.push(address(name.content)?),
                _ => {}
            }
        }
        value.is_empty().then_some(names)
    }

    /// Returns whether it has no name of a form that this library knows.
    fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Returns the number of names of a form that this library knows.
    pub(crate) fn count(&self) -> usize {
        self.dns.len() + self.ip.len() + self.email.len() + self.uri.len()
    }
}

/// The tags of general names (RFC 5280, section 4.2.1.6).
pub(crate) const EMAIL: u8 = context(1);
pub(crate) const DNS: u8 = context(2);
pub(crate) const URI: u8 = context(6);
pub(crate) const IP: u8 = context(7);

/// Returns an IA5String.
pub(crate) fn ia5(bytes: &[u8]) -> Option<String> {
    bytes.is_ascii().then(|| bytes.iter().copied().map(char::from).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[allow(clippy::option_option, reason = "the outer one is malformed DER, the inner one is absence")]
fn key_usage(mut value: Reader<'_>) -> Option<Option<bool>> {
    let (_, bytes) = value.bit_string()?;
    let is_set = |bit: usize| bytes.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
    Some((0..9).any(is_set).then(|| is_set(KEY_CERT_SIGN)))
}

fn extended_key_usages(mut value: Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut list = value.nested(SEQUENCE)?;
    let mut usages = Vec::new();
    while !list.is_empty() {
        usages.push(list.object_identifier()?.into());
    }
    Some(usages)
}

fn policies(value: Reader<'_>) -> Option<()> {
    let mut seen = HashSet::new();
    sequence_of(value, |mut policy| seen.insert(policy.long_object_identifier()?).then_some(()))
}

fn policy_mapping(mut mapping: Reader<'_>) -> Option<()> {
    mapping.long_object_identifier()?;
    mapping.long_object_identifier().map(drop)
}

/// Returns whether an explicit policy is required.
fn policy_constraints(mut value: Reader<'_>) -> Option<bool> {
    let mut constraints = value.nested(SEQUENCE)?;
    let explicit = constraints.optional(context(0))?;
    let mapping = constraints.optional(context(1))?;
    let is_count = |bytes: &[u8]| is_integer(bytes) && bytes.len() <= 8;
    (explicit.is_none_or(is_count) && mapping.is_none_or(is_count)).then_some(explicit.is_some())
}

fn access_description(mut description: Reader<'_>) -> Option<()> {
    description.object_identifier()?;
    description.optional(URI).map(drop)
}

fn distribution_point(mut point: Reader<'_>) -> Option<()> {
    if let Some(name) = point.optional(constructed(0))? {
        let mut names = Reader::new(name).nested(constructed(0))?;
        while names.peek(URI) {
            names.content(URI)?;
        }
    }
    Some(())
}

/// Reads a sequence of sequences.
fn sequence_of<'a>(mut value: Reader<'a>, mut read: impl FnMut(Reader<'a>) -> Option<()>) -> Option<()> {
    let mut list = value.nested(SEQUENCE)?;
    while !list.is_empty() {
        read(list.nested(SEQUENCE)?)?;
    }
    Some(())
}
