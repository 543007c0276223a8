//! Name constraints (RFC 5280, section 4.2.1.10), with the rules of Go.

use std::net::IpAddr;

use crate::der::{Reader, SEQUENCE, constructed};
use crate::extensions::{AlternativeNames, DNS, EMAIL, IP, URI, ia5};

/// The names that a CA may sign, and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameConstraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subtrees {
    dns: Vec<String>,
    ip: Vec<Network>,
    email: Vec<String>,
    uri: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    mask: u128,
}

impl NameConstraints {
    /// Reads the extension. Also returns whether it constrains a form of name that this library does not know, such as
    /// directory names: these constraints are not checked.
    pub(crate) fn read(mut value: Reader<'_>) -> Option<(Self, bool)> {
        let mut sequence = value.nested(SEQUENCE)?;
        let mut has_unknown = false;
        let permitted = sequence.optional(constructed(0))?.unwrap_or_default();
        let excluded = sequence.optional(constructed(1))?.unwrap_or_default();
        if !sequence.is_empty() || !value.is_empty() || (permitted.is_empty() && excluded.is_empty()) {
            return None;
        }
        let permitted = Subtrees::read(permitted, &mut has_unknown)?;
        let excluded = Subtrees::read(excluded, &mut has_unknown)?;
        Some((Self { permitted, excluded }, has_unknown))
    }

    /// Returns the first of `names` that a CA with these constraints may not sign.
    pub(crate) fn violated_by(&self, names: &AlternativeNames) -> Option<String> {
        let address = names.ip.iter().find(|address| {
            let within = |networks: &[Network]| networks.iter().any(|network| network.contains(**address));
            is_refused(&self.permitted.ip, &self.excluded.ip, within)
        });
        if let Some(address) = address {
            return Some(address.to_string());
        }
        let is_refused_domain = |permitted: &[String], excluded: &[String], name: &str| {
            !is_domain(name)
                || (!permitted.is_empty() && !permitted.iter().any(|suffix| is_below(name, suffix)))
                || excluded.iter().any(|suffix| is_below(name, suffix) || covers(name, suffix))
        };
        let dns =
            names.dns.iter().find(|name| is_refused_domain(&self.permitted.dns, &self.excluded.dns, name));
        // No constraint can match a URI without a host, or with an IP address.
        let uri = names.uri.iter().find(|uri| {
            uri.host.as_ref().is_none_or(|host| {
                host.parse::<IpAddr>().is_ok()
                    || is_refused_domain(&self.permitted.uri, &self.excluded.uri, host)
            })
        });
        let email = names.email.iter().find(|email| {
            mailbox(email).is_none_or(|(local, domain)| {
                let matches = |constraint: &String, covers: fn(&str, &str) -> bool| match mailbox(constraint)
                {
                    Some((one, host)) => one == local && host.eq_ignore_ascii_case(domain),
                    None => is_below(domain, constraint) || covers(domain, constraint),
                };
                let permitted = &self.permitted.email;
                (!permitted.is_empty() && !permitted.iter().any(|one| matches(one, |_, _| false)))
                    || self.excluded.email.iter().any(|one| matches(one, covers))
            })
        });
        dns.or(uri.map(|uri| &uri.text)).or(email).cloned()
    }

    /// Returns the number of constraints.
    pub(crate) fn count(&self) -> usize {
        let count = |of: &Subtrees| of.dns.len() + of.ip.len() + of.email.len() + of.uri.len();
        count(&self.permitted) + count(&self.excluded)
    }
}

fn is_refused<T>(permitted: &[T], excluded: &[T], within: impl Fn(&[T]) -> bool) -> bool {
    (!permitted.is_empty() && !within(permitted)) || within(excluded)
}

impl Subtrees {
    fn read(bytes: &[u8], has_unknown: &mut bool) -> Option<Self> {
        let mut list = Reader::new(bytes);
        let mut subtrees = Self::default();
        while !list.is_empty() {
            let base = list.nested(SEQUENCE)?.any()?;
            match base.tag {
                DNS => subtrees.dns.push(ia5(base.content).filter(|name| is_constraint(name))?),
                URI => subtrees.uri.push(
                    ia5(base.content)
                        .filter(|name| is_constraint(name) && name.parse::<IpAddr>().is_err())?,
                ),
                EMAIL => subtrees.email.push(ia5(base.content).filter(|name| {
                    if name.contains('@') { mailbox(name).is_some() } else { is_constraint(name) }
                })?),
                IP => subtrees.ip.push(Network::read(base.content)?),
                _ => *has_unknown = true,
            }
        }
        // Go searches sorted networks and misses some if one has host bits, which RFC 5280 does not allow. A single one
        // works, and such certificates exist.
        let is_ambiguous = |is_family: fn(&IpAddr) -> bool| {
            let family = || subtrees.ip.iter().filter(|network| is_family(&network.address));
            family().count() > 1 && family().any(|network| network.has_host_bits())
        };
        let is_ambiguous = is_ambiguous(IpAddr::is_ipv4) || is_ambiguous(IpAddr::is_ipv6);
        (!is_ambiguous).then_some(subtrees)
    }
}

impl Network {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (address, mask, width) = match bytes.len() {
            8 => {
                let (address, mask) = bytes.split_at(4);
                let address = IpAddr::from(<[u8; 4]>::try_from(address).ok()?);
                (address, u128::from(u32::from_be_bytes(mask.try_into().ok()?)), 32)
            }
            32 => {
                let (address, mask) = bytes.split_at(16);
                let address = IpAddr::from(<[u8; 16]>::try_from(address).ok()?);
                (address, u128::from_be_bytes(mask.try_into().ok()?), 128)
            }
            _ => return None,
        };
        // Ones, followed by zeros.
        let ones = (mask << (128 - width)).leading_ones();
        (mask.count_ones() == ones).then_some(Self { address, mask })
    }

    fn has_host_bits(self) -> bool {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) & !self.mask != 0,
            IpAddr::V6(address) => address.to_bits() & !self.mask != 0,
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u128::from(network.to_bits() ^ address.to_bits()) & self.mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()) & self.mask == 0
            }
            _ => false,
        }
    }
}

/// Returns whether a constraint is a domain, or the subdomains of one, with a leading period.
fn is_constraint(name: &str) -> bool {
    is_domain(name.strip_prefix('.').filter(|rest| !rest.is_empty()).unwrap_or(name))
}

/// Returns whether a name consists of labels with printable characters. Empty is allowed, as in Go.
pub(crate) fn is_domain(name: &str) -> bool {
    name.is_empty()
        || name.split('.').all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// Returns whether `name` is `suffix` or below it. A suffix with a leading period has only names below it; an empty one has
/// all.
fn is_below(name: &str, suffix: &str) -> bool {
    let Some(at) = name.len().checked_sub(suffix.len()) else { return false };
    let (head, tail) = name.as_bytes().split_at(at);
    tail.eq_ignore_ascii_case(suffix.as_bytes())
        && (suffix.is_empty() || suffix.starts_with('.') || head.last().is_none_or(|byte| *byte == b'.'))
}

/// Returns whether `name` is a wildcard that includes `excluded`, as `*.example.com` includes `a.example.com`.
fn covers(name: &str, excluded: &str) -> bool {
    let parent = |name: &str| name.find('.').map(|at| name[at..].to_ascii_lowercase());
    name.starts_with('*') && parent(excluded).is_some_and(|excluded| parent(name) == Some(excluded))
}

/// Returns the two parts of a mailbox. Quoted local parts are not supported.
fn mailbox(email: &str) -> Option<(&str, &str)> {
    let (local, domain) = email.split_once('@')?;
    let is_atom = !local.is_empty()
        && local.split('.').all(|atom| !atom.is_empty())
        && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte));
    (is_atom && !domain.contains('@') && is_domain(domain)).then_some((local, domain))
}

#[cfg(test)]
mod tests {
    use super::{AlternativeNames, NameConstraints, Network, covers, is_below, is_constraint, mailbox};
    use crate::der::Reader;

    /// Returns constraints of one form: permitted if `tag` is 0xa0, excluded if it is 0xa1.
    fn constraints(tag: u8, form: u8, values: &[&[u8]]) -> Option<NameConstraints> {
        let tlv =
            |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat();
        let subtrees: Vec<u8> = values.iter().flat_map(|value| tlv(0x30, &tlv(form, value))).collect();
        let der = tlv(0x30, &tlv(tag, &subtrees));
        NameConstraints::read(Reader::new(&der)).map(|(constraints, _)| constraints)
    }

    #[test]
    fn a_suffix_matches_whole_labels() {
        for (name, suffix) in [
            ("a.example.com", "example.com"),
            ("example.com", "example.com"),
            ("A.EXAMPLE.com", "example.COM"),
            ("a.example.com", ".example.com"),
            ("anything", ""),
        ] {
            assert!(is_below(name, suffix), "{name} {suffix}");
        }
        for (name, suffix) in
            [("badexample.com", "example.com"), ("example.com", ".example.com"), ("com", "example.com")]
        {
            assert!(!is_below(name, suffix), "{name} {suffix}");
        }
        assert!(covers("*.example.com", "a.example.com") && !covers("b.example.com", "a.example.com"));
        assert!(!covers("*.example.com", "example.com"));
    }

    #[test]
    fn a_network_contains_its_addresses() {
        let network = Network::read(&[10, 1, 0, 0, 255, 255, 0, 0]).unwrap();
        assert!(network.contains([10, 1, 2, 3].into()));
        assert!(!network.contains([10, 2, 0, 0].into()));
        assert!(!network.contains([0; 16].into()));
        assert!(Network::read(&[10, 1, 0, 0, 255, 0, 255, 0]).is_none(), "a mask with gaps");
        assert!(Network::read(&[0; 8]).unwrap().contains([1, 2, 3, 4].into()));
        assert!(Network::read(&[0; 4]).is_none());
        let mut v6 = [0; 32];
        (v6[0], v6[16]) = (0xfd, 0xff);
        let mut address = [1; 16];
        assert!(!Network::read(&v6).unwrap().contains(address.into()));
        address[0] = 0xfd;
        assert!(Network::read(&v6).unwrap().contains(address.into()));
    }

    #[test]
    fn an_excluded_domain_excludes_a_mailbox_with_a_wildcard() {
        let email = |name: &str| AlternativeNames { email: vec![name.to_owned()], ..Default::default() };
        let excluded = constraints(0xa1, 0x81, &[b"a.example.com"]).unwrap();
        assert!(excluded.violated_by(&email("x@*.example.com")).is_some());
        assert!(excluded.violated_by(&email("x@a.example.com")).is_some());
        assert!(excluded.violated_by(&email("x@b.example.com")).is_none());
        let permitted = constraints(0xa0, 0x81, &[b"a.example.com"]).unwrap();
        assert!(permitted.violated_by(&email("x@*.example.com")).is_some());
    }

    #[test]
    fn refuses_malformed_constraints() {
        for email in [&b"@a"[..], b"a..b@c", b"a@b..c", b"a@.b"] {
            assert!(constraints(0xa0, 0x81, &[email]).is_none(), "{email:?}");
        }
        let (network, with_host) = ([10, 0, 0, 0, 255, 0, 0, 0], [11, 0, 0, 1, 255, 0, 0, 0]);
        assert!(constraints(0xa0, 0x87, &[&with_host]).is_some());
        assert!(constraints(0xa0, 0x87, &[&network, &network]).is_some());
        assert!(constraints(0xa0, 0x87, &[&network, &with_host]).is_none());
    }

    #[test]
    fn finds_the_parts_of_a_mailbox() {
        assert_eq!(mailbox("a.b@c"), Some(("a.b", "c")));
        for email in ["a", "@a", "a..b@c", ".a@b", "\"a\"@b", "a@b@c", "a@b..c", "a@.b"] {
            assert_eq!(mailbox(email), None, "{email}");
        }
        assert!(is_constraint("") && is_constraint(".a.b") && is_constraint("a"));
        assert!(!is_constraint(".") && !is_constraint("a..b") && !is_constraint("a."));
    }
}
