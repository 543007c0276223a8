//! URIs of the subject alternative name (RFC 5280, section 4.2.1.6; RFC 3986).

use std::net::Ipv6Addr;

use crate::constraints::is_domain;

/// A URI: its text and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) text: String,
    /// The host, if it is a name or an IPv4 address. `None` without a host, or with an IPv6 address.
    pub(crate) host: Option<String>,
}

impl Uri {
    /// Parses a URI. Returns `None` for every text that Go's `url.Parse` refuses, and for some others: references with
    /// a host and no scheme, and hosts with percent-encoded characters or sub-delimiters.
    pub(crate) fn parse(text: String) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || !has_valid_escapes(&text) {
            return None;
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return (!text.starts_with("//")).then_some(Self { text, host: None });
        };
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return None;
        }
        let Some(rest) = rest.strip_prefix("//") else { return Some(Self { text, host: None }) };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let is_user =
            user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%@".contains(&byte));
        if !is_user {
            return None;
        }
        if let Some(literal) = host.strip_prefix('[') {
            let (address, port) = literal.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            return is_optional_port(port).then_some(Self { text, host: None });
        }
        let (name, port) = host.find(':').map_or((host, ""), |at| host.split_at(at));
        let is_name = is_domain(name)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte));
        if !is_name || !is_optional_port(port) {
            return None;
        }
        let host = (!name.is_empty()).then(|| name.to_owned());
        Some(Self { text, host })
    }
}

fn is_optional_port(port: &str) -> bool {
    port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn has_valid_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|escaped| {
        escaped.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::Uri;

    #[test]
    fn finds_the_host() {
        for (uri, host) in [
            ("spiffe://cluster.local/ns/a", Some("cluster.local")),
            ("https://user:x%20y@a.b:80?x", Some("a.b")),
            ("https://10.0.0.1/", Some("10.0.0.1")),
            ("https://*.a.b#c", Some("*.a.b")),
            ("https://[::1]:80/", None),
            ("urn:uuid:1", None),
            ("urn:a://b", None),
            ("https:///x", None),
            ("a/b?c", None),
            ("", None),
        ] {
            let parsed = Uri::parse(uri.to_owned()).unwrap_or_else(|| panic!("{uri}"));
            assert_eq!(parsed.host.as_deref(), host, "{uri}");
        }
    }

    #[test]
    fn refuses_malformed_uris() {
        for uri in [
            "//a",
            "a/b://c",
            "://a",
            "1a://b",
            "a b://c",
            "https://a b",
            "https://a..b",
            "https://a./",
            "https://.a",
            "https://a:b",
            "https://a:1:2",
            "https://[::1",
            "https://[::1]a",
            "https://[1.2.3.4]",
            "https://[x]",
            "https://a[::1]",
            "https://a%41",
            "https://a/%4",
            "https://a/%zz",
            "https://a,b",
            "https://a\"@b",
            "urn:\u{7f}",
        ] {
            assert_eq!(Uri::parse(uri.to_owned()), None, "{uri}");
        }
    }
}
