//! The types of node addresses.

use std::fmt;
use std::str::FromStr;

/// A type of `status.addresses[].type` (core/v1 `NodeAddressType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressType {
    /// The node's hostname.
    Hostname,
    /// A name that resolves to the internal address.
    InternalDNS,
    /// The internal address.
    InternalIP,
    /// A name that resolves to the external address.
    ExternalDNS,
    /// The external address.
    ExternalIP,
}

impl AddressType {
    /// All types, in metrics-server's default order.
    pub(crate) const ALL: [Self; 5] =
        [Self::Hostname, Self::InternalDNS, Self::InternalIP, Self::ExternalDNS, Self::ExternalIP];

    /// Returns the type as the Kubernetes API writes it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hostname => "Hostname",
            Self::InternalDNS => "InternalDNS",
            Self::InternalIP => "InternalIP",
            Self::ExternalDNS => "ExternalDNS",
            Self::ExternalIP => "ExternalIP",
        }
    }
}

impl fmt::Display for AddressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address type that the Kubernetes API does not define.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown address type {0:?}; allowed are Hostname, InternalDNS, InternalIP, ExternalDNS and ExternalIP \
     (case-sensitive)"
)]
pub(crate) struct UnknownAddressType(String);

impl FromStr for AddressType {
    type Err = UnknownAddressType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownAddressType(name.into()))
    }
}

/// One address of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The type of the address.
    pub(crate) kind: AddressType,
    /// A host name, an IPv4 or an IPv6 address (without brackets).
    pub(crate) host: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::AddressType;

    #[test]
    fn parses_the_names_that_it_writes() {
        for kind in AddressType::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "internalip".parse::<AddressType>().unwrap_err().to_string();
        assert!(error.contains("InternalIP") && error.contains("\"internalip\""), "{error}");
    }
}
