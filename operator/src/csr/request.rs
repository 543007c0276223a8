//! What a kubelet asks for, if it is a kubelet and asks for nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der::{self, tlv};
use super::{Refusal, SIGNER};

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// A kubelet's request has some hundred bytes; an RSA key of 8192 bits adds a thousand.
const MAX_REQUEST: usize = 16 * 1024;

/// A Node has a handful of addresses.
const MAX_NAMES: usize = 64;

/// P-256, P-384, P-521 (RFC 5480, 2.1.1.1).
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// What a kubelet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The Node that asks.
    pub node: String,
    /// DNS names, in lower case.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// Whether a request waits for somebody's approval.
#[must_use]
pub fn is_pending(csr: &CertificateSigningRequest) -> bool {
    let decided = csr.status.as_ref().is_some_and(|status| {
        let final_one = |kind: &str| matches!(kind, "Approved" | "Denied" | "Failed");
        status.certificate.is_some()
            || status.conditions.iter().flatten().any(|condition| final_one(&condition.type_))
    });
    csr.spec.signer_name == SIGNER && csr.metadata.deletion_timestamp.is_none() && !decided
}

impl Request {
    /// Reads a request. kube-apiserver has checked its signature (and so that the requester holds the key) when it
    /// was made, and that user name and groups are the requester's; none of it can be changed later.
    pub fn read(csr: &CertificateSigningRequest) -> Result<Self, Refusal> {
        let spec = &csr.spec;
        if spec.signer_name != SIGNER {
            return Err(Refusal::Requester(format!("its signer is {}", spec.signer_name)));
        }
        let user = spec.username.as_deref().unwrap_or_default();
        let node = user.strip_prefix(USER_PREFIX).filter(|node| is_dns_name(node)).ok_or_else(|| {
            Refusal::Requester(format!("it was made by {user:?}, which is no kubelet's user name"))
        })?;
        if !spec.groups.iter().flatten().any(|group| group == GROUP) {
            return Err(Refusal::Requester(format!("{user} is not in the group {GROUP}")));
        }
        usages(&spec.usages.clone().unwrap_or_default())?;
        let der = pem(&spec.request.0)?;
        let (rest, request) = X509CertificationRequest::from_der(&der)
            .map_err(|error| Refusal::Malformed(format!("is not PKCS #10: {error}")))?;
        if !rest.is_empty() {
            return Err(Refusal::Malformed("has something behind the request".to_owned()));
        }
        let info = &request.certification_request_info;
        key(&info.subject_pki)?;
        let subject = subject(&info.subject, user)?;
        let names: Vec<&GeneralName<'_>> = names(&request)?;
        let attributes = attributes(&names)?;
        let written = tlv(der::SEQUENCE, &[&der::VERSION_1, &subject, info.subject_pki.raw, &attributes]);
        if written != info.raw {
            return Err(Refusal::Extensions);
        }
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                GeneralName::DNSName(name) => dns_names.push(dns_name(name)?),
                GeneralName::IPAddress(bytes) => addresses.push(address(bytes)?),
                other => return Err(Refusal::Name(other.to_string())),
            }
        }
        Ok(Self { node: node.to_owned(), dns_names, addresses })
    }
}

/// As kubelets ask: with key encipherment for RSA keys, without for others.
fn usages(usages: &[String]) -> Result<(), Refusal> {
    let distinct: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let known = [
        BTreeSet::from(["digital signature", "server auth"]),
        BTreeSet::from(["digital signature", "key encipherment", "server auth"]),
    ];
    if known.contains(&distinct) && distinct.len() == usages.len() {
        Ok(())
    } else {
        Err(Refusal::Usages(format!("{usages:?}")))
    }
}

/// One block of PEM and nothing around it.
fn pem(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    let malformed = |words: &str| Refusal::Malformed(words.to_owned());
    if text.len() > MAX_REQUEST {
        return Err(malformed("is longer than any kubelet's"));
    }
    let mut blocks = Pem::iter_from_buffer(text);
    let block = blocks
        .next()
        .and_then(Result::ok)
        .filter(|block| block.label == "CERTIFICATE REQUEST")
        .ok_or_else(|| malformed("is not PEM of a CERTIFICATE REQUEST"))?;
    let begins = text.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE REQUEST-----");
    let ends = text.trim_ascii_end().ends_with(b"-----END CERTIFICATE REQUEST-----");
    let boundaries = text.windows(5).filter(|window| *window == b"-----").count();
    if blocks.next().is_some() || !begins || !ends || boundaries != 4 {
        return Err(malformed("holds more than one PEM block"));
    }
    Ok(block.contents)
}

fn key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), Refusal> {
    let good = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
        Ok(PublicKey::EC(_)) => key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str())),
        _ => false,
    };
    if good { Ok(()) } else { Err(Refusal::Key) }
}

/// The subject as a kubelet writes it, with the kinds of text that were used.
fn subject(name: &x509_parser::x509::X509Name<'_>, user: &str) -> Result<Vec<u8>, Refusal> {
    let refusal = || Refusal::Subject(user.to_owned());
    let tags: Vec<u8> = name
        .iter_attributes()
        .map(|attribute| u8::try_from(attribute.attr_value().tag().0).unwrap_or(u8::MAX))
        .collect();
    let [organization, common_name] = tags[..] else { return Err(refusal()) };
    if [organization, common_name].iter().any(|tag| ![der::UTF8_STRING, der::PRINTABLE_STRING].contains(tag))
    {
        return Err(refusal());
    }
    let part = |oid: &[u8], tag: u8, text: &str| {
        let text = tlv(tag, &[text.as_bytes()]);
        tlv(der::SET, &[&tlv(der::SEQUENCE, &[oid, &text])])
    };
    let organization = part(&der::ORGANIZATION, organization, GROUP);
    let common_name = part(&der::COMMON_NAME, common_name, user);
    [[&organization[..], &common_name], [&common_name[..], &organization]]
        .into_iter()
        .map(|parts| tlv(der::SEQUENCE, &parts))
        .find(|written| written == name.as_raw())
        .ok_or_else(refusal)
}

/// The names of the one extension that is asked for.
fn names<'a>(request: &'a X509CertificationRequest<'_>) -> Result<Vec<&'a GeneralName<'a>>, Refusal> {
    let [attribute] = request.certification_request_info.attributes() else {
        return Err(Refusal::Extensions);
    };
    let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
        return Err(Refusal::Extensions);
    };
    let [extension] = &asked.extensions[..] else { return Err(Refusal::Extensions) };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(Refusal::Extensions);
    };
    match names.general_names.len() {
        0 => Err(Refusal::Name("nothing".to_owned())),
        1..=MAX_NAMES => Ok(names.general_names.iter().collect()),
        many => Err(Refusal::Name(format!("{many} names"))),
    }
}

/// The attributes as a kubelet writes them for these names.
fn attributes(names: &[&GeneralName<'_>]) -> Result<Vec<u8>, Refusal> {
    let names = names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => Ok(tlv(der::DNS_NAME, &[name.as_bytes()])),
            GeneralName::IPAddress(bytes) => Ok(tlv(der::IP_ADDRESS, &[bytes])),
            other => Err(Refusal::Name(other.to_string())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let value = tlv(der::OCTET_STRING, &[&tlv(der::SEQUENCE, &names)]);
    let extension = tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &value]);
    let extensions = tlv(der::SET, &[&tlv(der::SEQUENCE, &[&extension])]);
    let attribute = tlv(der::SEQUENCE, &[&der::EXTENSION_REQUEST, &extensions]);
    Ok(tlv(der::ATTRIBUTES, &[&attribute]))
}

/// Names that mean something else than one machine to whoever resolves them are nobody's.
fn dns_name(name: &str) -> Result<String, Refusal> {
    let name = name.to_ascii_lowercase();
    let of_services = name.split('.').skip(1).any(|label| label == "svc");
    if !is_dns_name(&name) || of_services || name == "localhost" || name.ends_with(".localhost") {
        return Err(Refusal::Name(format!("{name:?}")));
    }
    Ok(name)
}

/// A DNS name as Kubernetes writes them (RFC 1123), that is not an address.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

/// Addresses that mean another machine to each machine, or many, are nobody's.
fn address(bytes: &[u8]) -> Result<IpAddr, Refusal> {
    let address = if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(bytes)
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(bytes)
    } else {
        return Err(Refusal::Name(format!("an address of {} bytes", bytes.len())));
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let mapped = address.to_canonical() != address;
    if mapped || link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(Refusal::Name(address.to_string()));
    }
    Ok(address)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
