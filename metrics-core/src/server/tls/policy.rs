//! The TLS versions, cipher suites and key exchange groups that flags allow.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::kx_group};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

/// The allowed versions, cipher suites and key exchange groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    only_tls13: bool,
    /// IANA names of the allowed TLS 1.2 suites; `None` allows all.
    suites: Option<Vec<String>>,
    /// IANA numbers of the groups in order of preference; empty means the default.
    groups: Vec<u16>,
}

/// An invalid value of a TLS flag.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsPolicyError {
    /// The flag's name.
    pub(crate) flag: &'static str,
    /// Its value.
    pub(crate) value: String,
    /// The problem.
    pub(crate) problem: String,
    /// The remedy.
    pub(crate) remedy: String,
}

/// Weak suites that Go knows and this server does not offer: CBC, RC4, 3DES, and RSA key exchange.
const WEAK_SUITES: &[&str] = &["_CBC_", "_RC4_", "_3DES_", "TLS_RSA_WITH_"];

const TLS13_SUITES: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

impl TlsPolicy {
    /// Parses `--tls-min-version`, `--tls-cipher-suites` and `--tls-curve-preferences`.
    ///
    /// A value that would make the server weaker than requested is an error. A weak value that the server does not
    /// offer is ignored with a note, as long as others remain.
    pub fn from_flags(
        min_version: &str,
        suites: &[String],
        groups: &[String],
        notes: &mut Vec<String>,
    ) -> Result<Self, TlsPolicyError> {
        let only_tls13 = match min_version {
            "" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            "VersionTLS10" | "VersionTLS11" => {
                notes.push(format!(
                    "--tls-min-version={min_version} is raised to VersionTLS12, the lowest supported version"
                ));
                false
            }
            other => {
                return Err(TlsPolicyError {
                    flag: "tls-min-version",
                    value: other.to_owned(),
                    problem: "is not a TLS version".to_owned(),
                    remedy: "use VersionTLS12 or VersionTLS13".to_owned(),
                });
            }
        };
        Ok(Self {
            only_tls13,
            suites: allowed_suites(suites, only_tls13, notes)?,
            groups: allowed_groups(groups, notes)?,
        })
    }

    /// Restricts `provider` to the allowed suites and groups.
    pub(super) fn restrict(&self, mut provider: CryptoProvider) -> CryptoProvider {
        if let Some(suites) = &self.suites {
            provider
                .cipher_suites
                .retain(|suite| suite.tls13().is_some() || suites.contains(&name(suite.suite())));
        }
        if !self.groups.is_empty() {
            provider.kx_groups = self.groups.iter().filter_map(|number| group(*number)).collect();
        }
        provider
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        if self.only_tls13 { &TLS13 } else { &BOTH }
    }
}

fn allowed_suites(
    requested: &[String],
    only_tls13: bool,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<String>>, TlsPolicyError> {
    if requested.is_empty() {
        return Ok(None);
    }
    let offered: Vec<String> = super::provider()
        .cipher_suites
        .iter()
        .filter(|suite| suite.version().version == ProtocolVersion::TLSv1_2)
        .map(|suite| name(suite.suite()))
        .collect();
    let invalid = |value: &str, problem: &str| TlsPolicyError {
        flag: "tls-cipher-suites",
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: format!("use one or more of {}, or remove the flag", offered.join(",")),
    };
    let mut allowed = Vec::new();
    for suite in requested {
        // Go accepts a second, shorter name of the ChaCha20 suites.
        let full =
            if suite.ends_with("_CHACHA20_POLY1305") { format!("{suite}_SHA256") } else { suite.clone() };
        if offered.contains(&full) {
            allowed.push(full);
        } else if TLS13_SUITES.contains(&full.as_str()) {
            // As in Go, TLS 1.3 suites are not configurable and always enabled.
        } else if WEAK_SUITES.iter().any(|part| full.contains(part)) && full.starts_with("TLS_") {
            notes.push(format!(
                "--tls-cipher-suites: {suite} is ignored because it is weak and not supported"
            ));
        } else {
            return Err(invalid(suite, "is not a cipher suite"));
        }
    }
    if allowed.is_empty()
        && !only_tls13
        && !requested.iter().all(|suite| TLS13_SUITES.contains(&suite.as_str()))
    {
        return Err(invalid(&requested.join(","), "contains no supported suite for TLS 1.2"));
    }
    Ok(Some(allowed))
}

fn allowed_groups(requested: &[String], notes: &mut Vec<String>) -> Result<Vec<u16>, TlsPolicyError> {
    let invalid = |value: &str, problem: &str| {
        TlsPolicyError {
        flag: "tls-curve-preferences",
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: "use one or more of 4588 (X25519MLKEM768), 29 (X25519), 23 (P-256), 24 (P-384), or remove the flag"
            .to_owned(),
    }
    };
    let mut allowed = Vec::new();
    for text in requested {
        match text.parse::<u16>() {
            Ok(number) if group(number).is_some() => allowed.push(number),
            Ok(25 | 4587 | 4589) => {
                notes.push(format!(
                    "--tls-curve-preferences: group {text} is ignored because it is not supported"
                ));
            }
            _ => return Err(invalid(text, "is not the number of a group")),
        }
    }
    if allowed.is_empty() && !requested.is_empty() {
        return Err(invalid(&requested.join(","), "contains no supported group"));
    }
    Ok(allowed)
}

fn group(number: u16) -> Option<&'static dyn SupportedKxGroup> {
    match number {
        23 => Some(kx_group::SECP256R1),
        24 => Some(kx_group::SECP384R1),
        29 => Some(kx_group::X25519),
        4588 => Some(kx_group::X25519MLKEM768),
        _ => None,
    }
}

/// Returns the IANA name; rustls names TLS 1.3 suites `TLS13_…`.
fn name(suite: rustls::CipherSuite) -> String {
    suite.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{TlsPolicy, TlsPolicyError};

    fn policy(min: &str, suites: &[&str], groups: &[&str]) -> Result<(TlsPolicy, usize), TlsPolicyError> {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let mut notes = Vec::new();
        TlsPolicy::from_flags(min, &owned(suites), &owned(groups), &mut notes)
            .map(|policy| (policy, notes.len()))
    }

    #[test]
    fn accepts_go_names_of_suites_and_ignores_weak_ones() {
        let (policy, notes) = policy(
            "VersionTLS11",
            &[
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
                "TLS_RSA_WITH_AES_256_CBC_SHA",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(notes, 2);
        let provider = policy.restrict(crate::server::tls::provider());
        let tls12 = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count();
        assert_eq!(tls12, 2);
        assert_eq!(provider.cipher_suites.len() - tls12, 3);
    }

    #[test]
    fn refuses_unknown_suites_and_an_empty_choice() {
        let error = policy("", &["TLS_RSA_WITH_AES_256_CBC_SHA"], &[]).unwrap_err();
        assert_eq!(error.problem, "contains no supported suite for TLS 1.2");
        assert!(error.remedy.contains("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
        assert!(policy("VersionTLS13", &["TLS_RSA_WITH_AES_256_CBC_SHA"], &[]).is_ok());
        assert_eq!(policy("", &["AES"], &[]).unwrap_err().problem, "is not a cipher suite");
        assert_eq!(policy("TLS1.2", &[], &[]).unwrap_err().flag, "tls-min-version");
    }

    #[test]
    fn keeps_the_order_of_groups() {
        let (policy, notes) = policy("", &[], &["24", "29", "25"]).unwrap();
        assert_eq!(notes, 1);
        let provider = policy.restrict(crate::server::tls::provider());
        let names: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519]);
    }

    #[test]
    fn refuses_only_unsupported_groups() {
        assert_eq!(policy("", &[], &["25"]).unwrap_err().problem, "contains no supported group");
        assert_eq!(policy("", &[], &["x"]).unwrap_err().problem, "is not the number of a group");
    }
}
