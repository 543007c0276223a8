//! Whether a certificate is for a host, with the rules of Go's `VerifyHostname`. The common name is not used.

use rustls_pki_types::ServerName;

use crate::Certificate;

impl Certificate {
    /// Returns whether the subject alternative name contains the host: an IP address, a DNS name, or a wildcard that
    /// stands for its first label.
    #[must_use]
    pub fn is_for_host(&self, host: &ServerName<'_>) -> bool {
        let Some(names) = &self.extensions.names else { return false };
        match host {
            ServerName::IpAddress(address) => {
                let address = std::net::IpAddr::from(*address).to_canonical();
                names.ip.iter().any(|name| name.to_canonical() == address)
            }
            ServerName::DnsName(host) => names.dns.iter().any(|name| matches(name, host.as_ref())),
            _ => false,
        }
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    let trimmed = host.strip_suffix('.').unwrap_or(host);
    if !is_host(trimmed) || !is_pattern(pattern) {
        return !matches!(pattern, "" | ".") && pattern.eq_ignore_ascii_case(host);
    }
    match (pattern.strip_prefix("*."), trimmed.split_once('.')) {
        (Some(parent), Some((_, of_host))) => parent.eq_ignore_ascii_case(of_host),
        (Some(_), None) => false,
        (None, _) => pattern.eq_ignore_ascii_case(trimmed),
    }
}

fn is_pattern(name: &str) -> bool {
    is_host(name.strip_prefix("*.").unwrap_or(name))
}

fn is_host(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_wildcard_stands_for_one_whole_label() {
        for (pattern, host) in [
            ("node-1", "NODE-1"),
            ("node-1.example.com", "node-1.example.com."),
            ("*.example.com", "a.example.com"),
            ("under_score", "under_score"),
            ("sub.*", "sub.*"),
        ] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in [
            ("*.example.com", "example.com"),
            ("*.example.com", "a.b.example.com"),
            ("*.com.", "a.com"),
            ("a*.example.com", "ab.example.com"),
            ("*", "a"),
            ("*.com", "com"),
            ("a.*.com", "a.b.com"),
            ("", ""),
            ("node-1", "node-10"),
        ] {
            assert!(!matches(pattern, host), "{pattern} {host}");
        }
    }
}
