//! The names and addresses of kube-apiserver, which a kubelet's certificate must not contain.

use std::collections::BTreeSet;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::normalize;

/// The names and addresses of all kube-apiservers: those in their serving certificates, and those that clients connect to.
/// The certificate alone has the names of a load balancer or of a virtual IP, as they are in no object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiServerNames {
    /// DNS names in lower case, some with a wildcard as their first label.
    dns_names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl ApiServerNames {
    /// Adds the subject alternative names of a certificate (DER). A certificate that can't be parsed is an error: its names
    /// are unknown.
    pub(crate) fn add_certificate(&mut self, der: &[u8]) -> Result<(), String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("it cannot be parsed: {error}"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| format!("its subject alternative names cannot be parsed: {error}"))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => _ = self.dns_names.insert(normalize(name)),
                GeneralName::IPAddress(bytes) => self.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a name or an address that clients connect to.
    pub(crate) fn add_host(&mut self, host: &str) {
        match host.parse::<IpAddr>() {
            Ok(address) => _ = self.addresses.insert(address.to_canonical()),
            Err(_) => _ = self.dns_names.insert(normalize(host)),
        }
    }

    /// Adds all names of another set.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.dns_names.extend(other.dns_names.iter().cloned());
        self.addresses.extend(&other.addresses);
    }

    /// Whether a DNS name in lower case is kube-apiserver's, also by a wildcard.
    #[must_use]
    pub(super) fn contains_name(&self, name: &str) -> bool {
        let wildcard = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.dns_names.contains(name) || wildcard().is_some_and(|name| self.dns_names.contains(&name))
    }

    /// Whether an address is kube-apiserver's.
    #[must_use]
    pub(super) fn contains_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }
}

/// Returns the address of an `iPAddress` (RFC 5280, 4.2.1.6).
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four().or_else(|_| sixteen()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("params");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn contains_all_names_of_the_certificates_and_the_configured_hosts() {
        let mut names = ApiServerNames::default();
        let of_one = certificate(&[
            "kubernetes",
            "API.example.org",
            "*.k8s.example.org",
            "10.0.0.100",
            "2001:db8::100",
        ]);
        names.add_certificate(&of_one).expect("names");
        names.add_certificate(&certificate(&["cp-2", "10.0.0.2"])).expect("names");
        names.add_certificate(&certificate(&[])).expect("no names");
        names.add_host("10.96.0.1");
        names.add_host("LB.example.org.");
        for name in ["kubernetes", "api.example.org", "a.k8s.example.org", "cp-2", "lb.example.org"] {
            assert!(names.contains_name(name), "{name}");
        }
        for name in ["k8s.example.org", "a.b.k8s.example.org", "node-1", "example.org"] {
            assert!(!names.contains_name(name), "{name}");
        }
        for address in ["10.0.0.100", "2001:db8::100", "10.0.0.2", "10.96.0.1", "::ffff:10.0.0.100"] {
            assert!(names.contains_address(address.parse().expect("an address")), "{address}");
        }
        assert!(!names.contains_address("10.0.0.3".parse().expect("an address")));
        let mut both = ApiServerNames::default();
        both.extend(&names);
        assert_eq!(both, names);
        assert!(names.add_certificate(b"no certificate").is_err());
    }
}
