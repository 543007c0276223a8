//! The names and addresses that an administrator allows in requests (`csrAllowList`).

use std::net::IpAddr;

use super::network::Network;

/// The allowed names and addresses. The default allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList(Option<Vec<Entry>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Network(Network),
    /// A DNS name; `*` stands for any characters but dots.
    Name(String),
}

/// An entry that is no address, range or name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an IP address, nor a range such as 10.0.0.0/16, nor a DNS name such as *.nodes.example.org"
)]
pub(crate) struct InvalidEntry(String);

impl AllowList {
    /// Parses the entries; `None` allows all.
    pub(crate) fn parse(entries: Option<&[String]>) -> Result<Self, InvalidEntry> {
        let entries = entries.map(|entries| entries.iter().map(|entry| Entry::parse(entry)).collect());
        entries.transpose().map(Self)
    }

    /// Whether a DNS name in lower case is allowed.
    #[must_use]
    pub(super) fn allows_name(&self, name: &str) -> bool {
        self.matches(|entry| matches!(entry, Entry::Name(pattern) if matches_pattern(pattern, name)))
    }

    /// Whether an address is allowed.
    #[must_use]
    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        self.matches(|entry| matches!(entry, Entry::Network(network) if network.contains(address)))
    }

    fn matches(&self, matches: impl Fn(&Entry) -> bool) -> bool {
        self.0.as_ref().is_none_or(|entries| entries.iter().any(matches))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, InvalidEntry> {
        let invalid = || InvalidEntry(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(Network::of(address)));
        }
        if text.contains(['/', ':']) {
            return Network::parse(text).map(Self::Network).ok_or_else(invalid);
        }
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_letter);
        // `10.0.*` is meant as a range of addresses, and would match none.
        let is_like_an_address = text.contains(|c: char| c.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || b".*".contains(&byte));
        if text.split('.').all(is_label) && !is_like_an_address {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(invalid())
        }
    }
}

/// Whether each label of the name matches that of the pattern.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if matches_label(pattern, label) => {}
            _ => return false,
        }
    }
}

/// Whether a label matches; `*` stands for any characters, also for none.
fn matches_label(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = label.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        AllowList::parse(Some(&entries)).expect("a list")
    }

    fn allows_address(list: &AllowList, address: &str) -> bool {
        list.allows_address(address.parse().expect("an address"))
    }

    #[test]
    fn allows_only_what_matches_an_entry() {
        let list = list(&["10.0.0.0/16", "192.0.2.7", "2001:db8::/64", "node-*", "*.nodes.example.org"]);
        for address in ["10.0.255.1", "192.0.2.7", "2001:db8::1"] {
            assert!(allows_address(&list, address), "{address}");
        }
        for address in ["10.1.0.1", "192.0.2.8", "2001:db8:1::1"] {
            assert!(!allows_address(&list, address), "{address}");
        }
        for name in ["node-", "node-1", "a.nodes.example.org"] {
            assert!(list.allows_name(name), "{name}");
        }
        for name in [
            "nodes",
            "node-1.example.org",
            "nodes.example.org",
            "a.b.nodes.example.org",
            "a.nodes.example.org.evil.org",
            "anodes.example.org",
            "10.0.0.1",
        ] {
            assert!(!list.allows_name(name), "{name}");
        }
    }

    #[test]
    fn restricts_names_and_addresses_alike() {
        assert!(!list(&["10.0.0.0/8"]).allows_name("node-1"), "a list of ranges allows no name");
        assert!(!allows_address(&list(&["*"]), "10.0.0.1"), "a list of names allows no address");
        assert!(list(&["*"]).allows_name("node-1") && !list(&["*"]).allows_name("a.b"));
        let all = AllowList::parse(None).expect("a list");
        assert!(all.allows_name("a.b") && allows_address(&all, "10.0.0.1"));
        let none = AllowList::parse(Some(&[])).expect("a list");
        assert!(!none.allows_name("a") && !allows_address(&none, "10.0.0.1"));
    }

    #[test]
    fn patterns_match_parts_of_a_label_in_order() {
        for (pattern, name, matched) in [
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*a*", "bab", true),
            ("**", "x", true),
            ("ip-*.ec2.internal", "ip-10-0-0-1.ec2.internal", true),
            ("ip-*.ec2.internal", "ip-1.evil.ec2.internal", false),
        ] {
            assert_eq!(list(&[pattern]).allows_name(name), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn rejects_entries_that_would_match_nothing() {
        for entry in
            ["", "10.0.*", "10.0.0.0/33", "Node-1", "a..b", "a.", "a b", "10.0.0.0/8/8", "fe80", "1.2.3"]
        {
            let parsed = AllowList::parse(Some(&[entry.to_owned()]));
            assert_eq!(parsed.is_err(), entry != "fe80", "{entry}");
        }
    }
}
