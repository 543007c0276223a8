//! ConfigMap `kube-system/extension-apiserver-authentication`: how an aggregated API server knows kube-apiserver.
//!
//! Every kube-apiserver merges its own settings into it, and nothing is ever taken out: a wrong value outlives its
//! correction, and a right one of before hides a present fault. So what stands there is a hint; what happens to
//! requests decides.

use std::collections::BTreeMap;
use std::fmt;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// The ConfigMap's namespace.
pub const NAMESPACE: &str = "kube-system";

/// The CAs of client certificates, PEM.
pub const CLIENT_CA: &str = "client-ca-file";
/// The CAs of the front proxy's certificate, PEM.
pub const PROXY_CA: &str = "requestheader-client-ca-file";
/// The common names that the front proxy's certificate may have; a JSON list, empty allows all.
pub const ALLOWED_NAMES: &str = "requestheader-allowed-names";
/// The headers with the user's name; a JSON list.
pub const USERNAME_HEADERS: &str = "requestheader-username-headers";
/// The headers with the user's groups; a JSON list.
pub const GROUP_HEADERS: &str = "requestheader-group-headers";
/// The prefixes of headers with extra attributes; a JSON list.
pub const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";
/// The headers with the user's UID (KEP-5191); a JSON list.
pub const UID_HEADERS: &str = "requestheader-uid-headers";

/// How the ConfigMap is made anew from the flags of today.
pub const RENEW: &str = "kubectl delete configmap extension-apiserver-authentication --namespace kube-system";

/// Something in the ConfigMap that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A key can't be read; its last good value counts.
    Unreadable {
        /// The key.
        key: &'static str,
        /// Why.
        why: String,
    },
    /// There is no front-proxy CA: kube-apiserver runs without an aggregation layer.
    NoFrontProxy,
    /// kube-apiserver got several flags as one argument, so they became one value.
    RequestHeaderFlagsMalformed {
        /// The key with that value.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// No header tells the user's name, so nobody can come through the front proxy.
    UsernameHeadersMissing,
    /// No header tells the user's groups.
    GroupHeadersMissing,
    /// Everyone with a client certificate may pose as anyone.
    AnyClientMayImpersonate,
}

impl Finding {
    /// The code, for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NoFrontProxy => "no_front_proxy",
            Self::RequestHeaderFlagsMalformed { .. } => "swallowed_flags",
            Self::UsernameHeadersMissing => "no_username_header",
            Self::GroupHeadersMissing => "no_group_header",
            Self::AnyClientMayImpersonate => "any_client_may_impersonate",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renew =
            "delete the ConfigMap, as kube-apiserver only adds to it (it is written again within a minute)";
        match self {
            Self::Unreadable { key, why } => {
                write!(
                    f,
                    "key {key} of ConfigMap {NAMESPACE}/{CONFIG_MAP} can't be read, its last good value counts: {why}"
                )
            }
            Self::NoFrontProxy => write!(
                f,
                "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {PROXY_CA}: kube-apiserver runs without an aggregation layer, so nobody can come through it; \
                 start kube-apiserver with --requestheader-client-ca-file and the other --requestheader flags"
            ),
            Self::RequestHeaderFlagsMalformed { key, value } => write!(
                f,
                "{key} of ConfigMap {NAMESPACE}/{CONFIG_MAP} is {value:?}: kube-apiserver was given several flags as one argument (quoting); \
                 write each flag as an argument of its own, then {renew}"
            ),
            Self::UsernameHeadersMissing => write!(
                f,
                "{USERNAME_HEADERS} of ConfigMap {NAMESPACE}/{CONFIG_MAP} is empty: no request through kube-apiserver can be told whose it is, all get 401; \
                 start kube-apiserver with --{USERNAME_HEADERS}=X-Remote-User"
            ),
            Self::GroupHeadersMissing => write!(
                f,
                "{GROUP_HEADERS} of ConfigMap {NAMESPACE}/{CONFIG_MAP} is empty: users that come through kube-apiserver lose their groups; \
                 start kube-apiserver with --{GROUP_HEADERS}=X-Remote-Group"
            ),
            Self::AnyClientMayImpersonate => write!(
                f,
                "{ALLOWED_NAMES} is empty and {PROXY_CA} shares a CA with {CLIENT_CA}: every client certificate may pose as any user; \
                 set --{ALLOWED_NAMES} on kube-apiserver to the common name of its --proxy-client-cert-file, or use a CA of its own"
            ),
        }
    }
}

/// The names and headers of the ConfigMap; of a key that can't be read the last good value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `requestheader-allowed-names`.
    pub allowed_names: Vec<String>,
    /// `requestheader-username-headers`.
    pub username_headers: Vec<String>,
    /// `requestheader-group-headers`.
    pub group_headers: Vec<String>,
    /// `requestheader-extra-headers-prefix`, as they are written.
    pub extra_prefixes: Vec<String>,
    /// `requestheader-uid-headers`.
    pub uid_headers: Vec<String>,
}

/// The CAs of the ConfigMap, as far as they matter to what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyCa {
    /// There is none.
    Absent,
    /// The front proxy has a CA of its own.
    Own,
    /// A key of the client CA's signs the front proxy too.
    SharedWithClients,
}

impl Names {
    /// Takes the values of `data` over; what looks wrong with single keys. `self` has the last good ones.
    pub fn read(&mut self, data: &BTreeMap<String, String>) -> Vec<Finding> {
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

    /// What looks wrong with all keys together.
    #[must_use]
    pub fn together(&self, proxy_ca: ProxyCa) -> Vec<Finding> {
        if proxy_ca == ProxyCa::Absent {
            return vec![Finding::NoFrontProxy];
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

/// A JSON list of strings; absent and `null` are empty.
fn strings(value: Option<&String>) -> Result<Vec<String>, String> {
    match value.map(|text| text.trim()).filter(|text| !text.is_empty()) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str::<Option<Vec<String>>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| format!("no JSON list of strings: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_are_empty_and_a_broken_key_keeps_its_value() {
        let mut names = Names { allowed_names: vec!["a".to_owned()], ..Names::default() };
        let data = BTreeMap::from([
            (ALLOWED_NAMES.to_owned(), "aggregator".to_owned()),
            (GROUP_HEADERS.to_owned(), "null".to_owned()),
        ]);
        let findings = names.read(&data);
        assert_eq!(names.allowed_names, ["a"]);
        assert!(matches!(findings[..], [Finding::Unreadable { key: ALLOWED_NAMES, .. }]));
        assert_eq!(
            names.together(ProxyCa::Own),
            [Finding::UsernameHeadersMissing, Finding::GroupHeadersMissing],
            "an empty list of names alone is legal"
        );
        assert_eq!(names.together(ProxyCa::Absent), [Finding::NoFrontProxy]);
    }
}
