//! The parser of ConfigMap `kube-system/extension-apiserver-authentication`, by which an aggregated API server
//! authenticates kube-apiserver.
//!
//! Every kube-apiserver merges its settings into the ConfigMap and never removes a value. So a wrong value remains
//! after the flag is corrected, and an earlier correct value can hide a present fault. The ConfigMap is evidence;
//! the outcome of real requests decides.

use std::collections::BTreeMap;
use std::fmt;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// The ConfigMap's namespace.
pub const NAMESPACE: &str = "kube-system";

/// The key with the CAs of client certificates (PEM).
pub const CLIENT_CA: &str = "client-ca-file";
/// The key with the CAs of the front proxy's certificate (PEM).
pub const PROXY_CA: &str = "requestheader-client-ca-file";
/// The key with the allowed common names of the front proxy's certificate; a JSON list, empty allows all.
pub const ALLOWED_NAMES: &str = "requestheader-allowed-names";
/// The key with the headers that contain the user's name; a JSON list.
pub const USERNAME_HEADERS: &str = "requestheader-username-headers";
/// The key with the headers that contain the user's groups; a JSON list.
pub const GROUP_HEADERS: &str = "requestheader-group-headers";
/// The key with the prefixes of headers that contain extra attributes of the user; a JSON list.
pub const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";
/// The key with the headers that contain the user's UID (KEP-5191); a JSON list.
pub const UID_HEADERS: &str = "requestheader-uid-headers";

/// The command that makes kube-apiserver recreate the ConfigMap from its current flags.
pub const RECREATE_COMMAND: &str =
    "kubectl delete configmap extension-apiserver-authentication --namespace kube-system";

/// A problem in the ConfigMap that an administrator must correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A key can't be parsed. Its last valid value remains in use.
    Unreadable {
        /// The key.
        key: &'static str,
        /// The error.
        why: String,
    },
    /// There is no front-proxy CA: kube-apiserver runs without an aggregation layer.
    AggregationLayerNotConfigured,
    /// kube-apiserver received several flags as one argument, so they became one value.
    RequestHeaderFlagsMalformed {
        /// The key with that value.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// No header for the user's name is configured, so requests through the front proxy get 401.
    UsernameHeadersMissing,
    /// No header for the user's groups is configured.
    GroupHeadersMissing,
    /// Every client with a client certificate can impersonate any user.
    AnyClientMayImpersonate,
}

impl Finding {
    /// Returns the code, for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::AggregationLayerNotConfigured => "aggregation_layer_not_configured",
            Self::RequestHeaderFlagsMalformed { .. } => "request_header_flags_malformed",
            Self::UsernameHeadersMissing => "username_headers_missing",
            Self::GroupHeadersMissing => "group_headers_missing",
            Self::AnyClientMayImpersonate => "any_client_may_impersonate",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAP: &str = "ConfigMap kube-system/extension-apiserver-authentication";
        let recreate = "delete the ConfigMap, because kube-apiserver never removes values from it (kube-apiserver \
                        recreates it within a minute)";
        match self {
            Self::Unreadable { key, why } => {
                write!(f, "key {key} of {MAP} can't be parsed, so its last valid value remains in use: {why}")
            }
            Self::AggregationLayerNotConfigured => write!(
                f,
                "{MAP} has no {PROXY_CA}: kube-apiserver runs without an aggregation layer, so metrics-core gets no \
                 request through it; start kube-apiserver with --requestheader-client-ca-file and the other \
                 --requestheader flags"
            ),
            Self::RequestHeaderFlagsMalformed { key, value } => write!(
                f,
                "{key} of {MAP} is {value:?}: kube-apiserver received several flags as one argument (quoting); write \
                 each flag as a separate argument, then {recreate}"
            ),
            Self::UsernameHeadersMissing => write!(
                f,
                "{USERNAME_HEADERS} of {MAP} is empty: metrics-core cannot identify users and returns 401 to all \
                 requests through kube-apiserver; start kube-apiserver with --{USERNAME_HEADERS}=X-Remote-User"
            ),
            Self::GroupHeadersMissing => write!(
                f,
                "{GROUP_HEADERS} of {MAP} is empty: requests through kube-apiserver lose the user's groups; start \
                 kube-apiserver with --{GROUP_HEADERS}=X-Remote-Group"
            ),
            Self::AnyClientMayImpersonate => write!(
                f,
                "{ALLOWED_NAMES} is empty and {PROXY_CA} shares a CA with {CLIENT_CA}: every client with a client \
                 certificate can impersonate any user; set --{ALLOWED_NAMES} on kube-apiserver to the common name of \
                 its --proxy-client-cert-file, or use a separate CA"
            ),
        }
    }
}

/// The lists of the ConfigMap. A key that can't be parsed keeps its last valid value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaderConfig {
    /// `requestheader-allowed-names`.
    pub allowed_names: Vec<String>,
    /// `requestheader-username-headers`.
    pub username_headers: Vec<String>,
    /// `requestheader-group-headers`.
    pub group_headers: Vec<String>,
    /// `requestheader-extra-headers-prefix`, unchanged.
    pub extra_prefixes: Vec<String>,
    /// `requestheader-uid-headers`.
    pub uid_headers: Vec<String>,
}

/// How the front-proxy CA of the ConfigMap relates to the CA of client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyCa {
    /// The ConfigMap has no front-proxy CA.
    Absent,
    /// The front-proxy CA signs no client certificates.
    Separate,
    /// A CA of client certificates is a front-proxy CA, too.
    SharedWithClients,
}

impl RequestHeaderConfig {
    /// Replaces the lists by those in `data` and returns the problems of single keys.
    pub fn update(&mut self, data: &BTreeMap<String, String>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (key, list) in [
            (ALLOWED_NAMES, &mut self.allowed_names),
            (USERNAME_HEADERS, &mut self.username_headers),
            (GROUP_HEADERS, &mut self.group_headers),
            (EXTRA_PREFIXES, &mut self.extra_prefixes),
            (UID_HEADERS, &mut self.uid_headers),
        ] {
            match strings(data.get(key)) {
                Ok(read) => *list = read,
                Err(why) => findings.push(Finding::Unreadable { key, why }),
            }
            findings.extend(
                list.iter()
                    .filter(|value| value.contains(" --") || value.starts_with("--"))
                    .map(|value| Finding::RequestHeaderFlagsMalformed { key, value: value.clone() }),
            );
        }
        findings
    }

    /// Returns the problems of the lists and the CA in combination.
    #[must_use]
    pub fn check(&self, proxy_ca: ProxyCa) -> Vec<Finding> {
        if proxy_ca == ProxyCa::Absent {
            return vec![Finding::AggregationLayerNotConfigured];
        }
        let shared = proxy_ca == ProxyCa::SharedWithClients;
        [
            (self.username_headers.is_empty(), Finding::UsernameHeadersMissing),
            (self.group_headers.is_empty(), Finding::GroupHeadersMissing),
            (self.allowed_names.is_empty() && shared, Finding::AnyClientMayImpersonate),
        ]
        .into_iter()
        .filter_map(|(found, finding)| found.then_some(finding))
        .collect()
    }
}

/// Parses a JSON list of strings. Absent and `null` are empty.
fn strings(value: Option<&String>) -> Result<Vec<String>, String> {
    match value.map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str::<Option<Vec<String>>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| format!("not a JSON list of strings: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_keys_are_empty_and_an_invalid_key_keeps_its_value() {
        let mut config =
            RequestHeaderConfig { allowed_names: vec!["a".to_owned()], ..RequestHeaderConfig::default() };
        let data = BTreeMap::from([
            (ALLOWED_NAMES.to_owned(), "aggregator".to_owned()),
            (GROUP_HEADERS.to_owned(), "null".to_owned()),
        ]);
        let findings = config.update(&data);
        assert_eq!(config.allowed_names, ["a"]);
        assert!(matches!(findings[..], [Finding::Unreadable { key: ALLOWED_NAMES, .. }]));
        assert_eq!(
            config.check(ProxyCa::Separate),
            [Finding::UsernameHeadersMissing, Finding::GroupHeadersMissing],
            "an empty list of names alone is legal"
        );
        assert_eq!(config.check(ProxyCa::Absent), [Finding::AggregationLayerNotConfigured]);
    }
}
