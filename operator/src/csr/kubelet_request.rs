//! Parses a CertificateSigningRequest, strictly as kubelets write it.

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
use super::{NotApproved, SIGNER};

const USER_PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";

/// The maximum length. A kubelet's request has some hundred bytes, and about a thousand more with an RSA key of 8192
/// bits.
const MAX_REQUEST: usize = 16 * 1024;

/// The maximum count of names and addresses. A Node has a handful.
const MAX_NAMES: usize = 64;

/// P-256, P-384 and P-521 (RFC 5480, 2.1.1.1).
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// The contents of a kubelet's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KubeletRequest {
    /// The name of the Node.
    pub node: String,
    /// DNS names, in lower case.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// Whether a request of [`SIGNER`] is neither approved, denied nor failed.
#[must_use]
pub(crate) fn is_pending(csr: &CertificateSigningRequest) -> bool {
    let decided = csr.status.as_ref().is_some_and(|status| {
        let is_final = |kind: &str| matches!(kind, "Approved" | "Denied" | "Failed");
        status.certificate.is_some()
            || status.conditions.iter().flatten().any(|condition| is_final(&condition.type_))
    });
    csr.spec.signer_name == SIGNER && csr.metadata.deletion_timestamp.is_none() && !decided
}

/// Returns the name of the Node whose kubelet created a request; `None` for another requester.
pub(super) fn node_of(csr: &CertificateSigningRequest) -> Option<&str> {
    csr.spec.username.as_deref()?.strip_prefix(USER_PREFIX).filter(|node| is_subdomain(node))
}

impl KubeletRequest {
    /// Returns the names and addresses as text, in the form of [`NodeNames`](super::NodeNames).
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.dns_names.iter().cloned().chain(self.addresses.iter().map(ToString::to_string))
    }

    /// Parses a request. At creation, kube-apiserver verified its signature, and so that the requester has the key,
    /// and set user name and groups. All of these are immutable.
    pub(crate) fn parse(csr: &CertificateSigningRequest) -> Result<Self, NotApproved> {
        let spec = &csr.spec;
        if spec.signer_name != SIGNER {
            return Err(NotApproved::Requester(format!("its signer is {}", spec.signer_name)));
        }
        let user = spec.username.as_deref().unwrap_or_default();
        let node = node_of(csr)
            .ok_or_else(|| NotApproved::Requester(format!("its requester {user:?} is not a kubelet")))?;
        if !spec.groups.iter().flatten().any(|group| group == GROUP) {
            return Err(NotApproved::Requester(format!("its requester {user} is not in the group {GROUP}")));
        }
        usages(&spec.usages.clone().unwrap_or_default())?;
        let der = pem(&spec.request.0)?;
        let (rest, request) = X509CertificationRequest::from_der(&der)
            .map_err(|error| NotApproved::Malformed(format!("is not PKCS #10: {error}")))?;
        if !rest.is_empty() {
            return Err(NotApproved::Malformed("has trailing data after the request".to_owned()));
        }
        let info = &request.certification_request_info;
        key(&info.subject_pki)?;
        let subject = subject(&info.subject, user)?;
        let names: Vec<&GeneralName<'_>> = names(&request)?;
        let attributes = attributes(&names)?;
        let written = tlv(der::SEQUENCE, &[&der::VERSION_1, &subject, info.subject_pki.raw, &attributes]);
        if written != info.raw {
            return Err(NotApproved::Extensions);
        }
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                GeneralName::DNSName(name) => dns_names.push(dns_name(name)?),
                GeneralName::IPAddress(bytes) => addresses.push(address(bytes)?),
                other => return Err(NotApproved::Name(other.to_string())),
            }
        }
        Ok(Self { node: node.to_owned(), dns_names, addresses })
    }
}

/// Checks the usages. Kubelets request key encipherment for RSA keys only.
fn usages(usages: &[String]) -> Result<(), NotApproved> {
    let distinct: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let known = [
        BTreeSet::from(["digital signature", "server auth"]),
        BTreeSet::from(["digital signature", "key encipherment", "server auth"]),
    ];
    if known.contains(&distinct) && distinct.len() == usages.len() {
        Ok(())
    } else {
        Err(NotApproved::Usages(format!("{usages:?}")))
    }
}

/// Decodes a single PEM block without surrounding text.
fn pem(text: &[u8]) -> Result<Vec<u8>, NotApproved> {
    let malformed = |problem: &str| NotApproved::Malformed(problem.to_owned());
    if text.len() > MAX_REQUEST {
        return Err(malformed("is longer than 16 KiB"));
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
        return Err(malformed("contains more than one PEM block"));
    }
    Ok(block.contents)
}

/// Checks the algorithm and size of the key.
fn key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), NotApproved> {
    let is_supported = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
        Ok(PublicKey::EC(_)) => key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str())),
        _ => false,
    };
    if is_supported { Ok(()) } else { Err(NotApproved::Key) }
}

/// Encodes the subject as a kubelet does, with the string types of the request.
fn subject(name: &x509_parser::x509::X509Name<'_>, user: &str) -> Result<Vec<u8>, NotApproved> {
    let error = || NotApproved::Subject(user.to_owned());
    let tags: Vec<u8> = name
        .iter_attributes()
        .map(|attribute| u8::try_from(attribute.attr_value().tag().0).unwrap_or(u8::MAX))
        .collect();
    let [organization, common_name] = tags[..] else { return Err(error()) };
    if [organization, common_name].iter().any(|tag| ![der::UTF8_STRING, der::PRINTABLE_STRING].contains(tag))
    {
        return Err(error());
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
        .ok_or_else(error)
}

/// Returns the names of the subject alternative name, which must be the only extension.
fn names<'a>(request: &'a X509CertificationRequest<'_>) -> Result<Vec<&'a GeneralName<'a>>, NotApproved> {
    let [attribute] = request.certification_request_info.attributes() else {
        return Err(NotApproved::Extensions);
    };
    let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
        return Err(NotApproved::Extensions);
    };
    let [extension] = &requested.extensions[..] else { return Err(NotApproved::Extensions) };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(NotApproved::Extensions);
    };
    match names.general_names.len() {
        0 => Err(NotApproved::Name("no name or address".to_owned())),
        1..=MAX_NAMES => Ok(names.general_names.iter().collect()),
        many => Err(NotApproved::Name(format!("{many} names"))),
    }
}

/// Encodes the attributes as a kubelet does for these names.
fn attributes(names: &[&GeneralName<'_>]) -> Result<Vec<u8>, NotApproved> {
    let names = names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => Ok(tlv(der::DNS_NAME, &[name.as_bytes()])),
            GeneralName::IPAddress(bytes) => Ok(tlv(der::IP_ADDRESS, &[bytes])),
            other => Err(NotApproved::Name(other.to_string())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let value = tlv(der::OCTET_STRING, &[&tlv(der::SEQUENCE, &names)]);
    let extension = tlv(der::SEQUENCE, &[&der::SUBJECT_ALT_NAME, &value]);
    let extensions = tlv(der::SET, &[&tlv(der::SEQUENCE, &[&extension])]);
    let attribute = tlv(der::SEQUENCE, &[&der::EXTENSION_REQUEST, &extensions]);
    Ok(tlv(der::ATTRIBUTES, &[&attribute]))
}

/// Checks a DNS name. Names of Services, pods and of localhost do not identify one machine.
fn dns_name(name: &str) -> Result<String, NotApproved> {
    let name = name.to_ascii_lowercase();
    let of_services = name.split('.').skip(1).any(|label| label == "svc") || name.ends_with(".cluster.local");
    if !is_dns_name(&name) || of_services || name == "localhost" || name.ends_with(".localhost") {
        return Err(NotApproved::Name(format!("{name:?}")));
    }
    Ok(name)
}

/// Whether it is a lower-case DNS name (RFC 1123) and not an address.
fn is_dns_name(name: &str) -> bool {
    is_subdomain(name) && name.parse::<IpAddr>().is_err()
}

/// Whether it is a possible name of a Node (a DNS subdomain name, RFC 1123). An IPv4 address is one, too: a kubelet with
/// `--hostname-override=192.0.2.7` has a Node of this name.
fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Checks an IP address. Loopback, link-local, multicast and unspecified addresses do not identify one machine.
fn address(bytes: &[u8]) -> Result<IpAddr, NotApproved> {
    let address = if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(bytes)
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(bytes)
    } else {
        return Err(NotApproved::Name(format!("an address of {} bytes", bytes.len())));
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let mapped = address.to_canonical() != address;
    if mapped || link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(NotApproved::Name(address.to_string()));
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
