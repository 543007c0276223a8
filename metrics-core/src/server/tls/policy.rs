//! Versions, suites and groups that the flags allow.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::kx_group};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

/// What may be negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    only_tls13: bool,
    /// Debug names of the TLS 1.2 suites kept; `None` keeps all.
    suites: Option<Vec<String>>,
    /// IANA numbers of the groups, the preferred first; empty keeps the default.
    groups: Vec<u16>,
}

/// A TLS flag whose value can't be had.
#[derive(Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The flag's name.
    pub flag: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub problem: String,
    /// What to give instead.
    pub remedy: String,
}

/// Suites that Go names and this stack leaves out for their weakness: CBC, RC4, 3DES, and RSA key exchange.
const WEAK_SUITES: &[&str] = &["_CBC_", "_RC4_", "_3DES_", "TLS_RSA_WITH_"];

const TLS13_SUITES: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

impl Policy {
    /// Reads `--tls-min-version`, `--tls-cipher-suites` and `--tls-curve-preferences`.
    ///
    /// What would make the server weaker than asked is never taken silently. What it can't offer because it is weak
    /// is left out with a note, as long as something remains.
    pub fn from_flags(
        min_version: &str,
        suites: &[String],
        groups: &[String],
        notes: &mut Vec<String>,
    ) -> Result<Self, PolicyError> {
        let only_tls13 = match min_version {
            "" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            "VersionTLS10" | "VersionTLS11" => {
                notes.push(format!(
                    "--tls-min-version={min_version} is raised to VersionTLS12, the least that is offered"
                ));
                false
            }
            other => {
                return Err(PolicyError {
                    flag: "tls-min-version",
                    value: other.to_owned(),
                    problem: "is no TLS version".to_owned(),
                    remedy: "give VersionTLS12 or VersionTLS13".to_owned(),
                });
            }
        };
        Ok(Self {
            only_tls13,
            suites: kept_suites(suites, only_tls13, notes)?,
            groups: kept_groups(groups, notes)?,
        })
    }

    /// The provider with only what is allowed.
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

fn kept_suites(
    asked: &[String],
    only_tls13: bool,
    notes: &mut Vec<String>,
) -> Result<Option<Vec<String>>, PolicyError> {
    if asked.is_empty() {
        return Ok(None);
    }
    let offered: Vec<String> = super::provider()
        .cipher_suites
        .iter()
        .filter(|suite| suite.version().version == ProtocolVersion::TLSv1_2)
        .map(|suite| name(suite.suite()))
        .collect();
    let refuse = |value: &str, problem: &str| PolicyError {
        flag: "tls-cipher-suites",
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy: format!("choose among {}, or leave the flag out", offered.join(",")),
    };
    let mut kept = Vec::new();
    for suite in asked {
        // Go knows the ChaCha20 suites by a second, shorter name.
        let full =
            if suite.ends_with("_CHACHA20_POLY1305") { format!("{suite}_SHA256") } else { suite.clone() };
        if offered.contains(&full) {
            kept.push(full);
        } else if TLS13_SUITES.contains(&full.as_str()) {
            // As in Go, those of TLS 1.3 can't be chosen and are always there.
        } else if WEAK_SUITES.iter().any(|part| full.contains(part)) && full.starts_with("TLS_") {
            notes.push(format!("--tls-cipher-suites: {suite} is left out, it is too weak to be offered"));
        } else {
            return Err(refuse(suite, "is no cipher suite"));
        }
    }
    if kept.is_empty() && !only_tls13 && !asked.iter().all(|suite| TLS13_SUITES.contains(&suite.as_str())) {
        return Err(refuse(&asked.join(","), "leaves no suite for TLS 1.2"));
    }
    Ok(Some(kept))
}

fn kept_groups(asked: &[String], notes: &mut Vec<String>) -> Result<Vec<u16>, PolicyError> {
    let refuse = |value: &str, problem: &str| PolicyError {
        flag: "tls-curve-preferences",
        value: value.to_owned(),
        problem: problem.to_owned(),
        remedy:
            "choose among 4588 (X25519MLKEM768), 29 (X25519), 23 (P-256), 24 (P-384), or leave the flag out"
                .to_owned(),
    };
    let mut kept = Vec::new();
    for text in asked {
        match text.parse::<u16>() {
            Ok(number) if group(number).is_some() => kept.push(number),
            Ok(25 | 4587 | 4589) => {
                notes.push(format!("--tls-curve-preferences: group {text} is left out, it is not offered"));
            }
            _ => return Err(refuse(text, "is no group's number")),
        }
    }
    if kept.is_empty() && !asked.is_empty() {
        return Err(refuse(&asked.join(","), "leaves no group"));
    }
    Ok(kept)
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

/// The IANA name; rustls names the suites of TLS 1.3 `TLS13_…`.
fn name(suite: rustls::CipherSuite) -> String {
    suite.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Policy, PolicyError};

    fn policy(min: &str, suites: &[&str], groups: &[&str]) -> Result<(Policy, usize), PolicyError> {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let mut notes = Vec::new();
        Policy::from_flags(min, &owned(suites), &owned(groups), &mut notes)
            .map(|policy| (policy, notes.len()))
    }

    #[test]
    fn suites_are_known_by_their_go_names_and_weak_ones_left_out() {
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
    fn nothing_left_or_unknown_is_refused_with_the_choice() {
        let error = policy("", &["TLS_RSA_WITH_AES_256_CBC_SHA"], &[]).unwrap_err();
        assert_eq!(error.problem, "leaves no suite for TLS 1.2");
        assert!(error.remedy.contains("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"));
        assert!(policy("VersionTLS13", &["TLS_RSA_WITH_AES_256_CBC_SHA"], &[]).is_ok());
        assert_eq!(policy("", &["AES"], &[]).unwrap_err().problem, "is no cipher suite");
        assert_eq!(policy("TLS1.2", &[], &[]).unwrap_err().flag, "tls-min-version");
    }

    #[test]
    fn groups_keep_their_order() {
        let (policy, notes) = policy("", &[], &["24", "29", "25"]).unwrap();
        assert_eq!(notes, 1);
        let provider = policy.restrict(crate::server::tls::provider());
        let names: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519]);
    }

    #[test]
    fn a_group_that_is_not_there_alone_is_refused() {
        assert_eq!(policy("", &[], &["25"]).unwrap_err().problem, "leaves no group");
        assert_eq!(policy("", &[], &["x"]).unwrap_err().problem, "is no group's number");
    }
}
