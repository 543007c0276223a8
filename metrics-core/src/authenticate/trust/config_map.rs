//! ConfigMap extension-apiserver-authentication: what its keys mean, and what looks wrong in them.

use std::collections::BTreeMap;
use std::fmt;

use super::{CONFIG_MAP, FrontProxy};
use crate::authenticate::Anchors;

const CLIENT_CA: &str = "client-ca-file";
const PROXY_CA: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USERNAME_HEADERS: &str = "requestheader-username-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";
const UID_HEADERS: &str = "requestheader-uid-headers";

/// The values of the ConfigMap; of a key that can't be read the last good value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromConfigMap {
    client_ca: Option<Anchors>,
    proxy_ca: Option<Anchors>,
    allowed_names: Vec<String>,
    username_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
    uid_headers: Vec<String>,
}

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
    SwallowedFlags {
        /// The key with that value.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// No header tells the user's name, so nobody can come through the front proxy.
    NoUsernameHeader,
    /// No header tells the user's groups.
    NoGroupHeader,
    /// Everyone with a client certificate may pose as anyone.
    AnyClientMayImpersonate,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renew =
            "delete the ConfigMap, as kube-apiserver only adds to it (it is written again within a minute)";
        match self {
            Self::Unreadable { key, why } => {
                write!(
                    f,
                    "key {key} of ConfigMap kube-system/{CONFIG_MAP} can't be read, its last good value counts: {why}"
                )
            }
            Self::NoFrontProxy => write!(
                f,
                "ConfigMap kube-system/{CONFIG_MAP} has no {PROXY_CA}: kube-apiserver runs without an aggregation layer, so nobody can come through it; \
                 start kube-apiserver with --requestheader-client-ca-file and the other --requestheader flags"
            ),
            Self::SwallowedFlags { key, value } => write!(
                f,
                "{key} of ConfigMap kube-system/{CONFIG_MAP} is {value:?}: kube-apiserver was given several flags as one argument (quoting); \
                 write each flag as an argument of its own, then {renew}"
            ),
            Self::NoUsernameHeader => write!(
                f,
                "{USERNAME_HEADERS} of ConfigMap kube-system/{CONFIG_MAP} is empty: no request through kube-apiserver can be told whose it is, all get 401; \
                 start kube-apiserver with --{USERNAME_HEADERS}=X-Remote-User"
            ),
            Self::NoGroupHeader => write!(
                f,
                "{GROUP_HEADERS} of ConfigMap kube-system/{CONFIG_MAP} is empty: users that come through kube-apiserver lose their groups; \
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

impl FromConfigMap {
    /// The values of `data`, and what looks wrong. `self` has the last good ones.
    #[must_use]
    pub fn read(&self, data: &BTreeMap<String, String>) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut next = self.clone();
        for (key, anchors) in [(CLIENT_CA, &mut next.client_ca), (PROXY_CA, &mut next.proxy_ca)] {
            match data
                .get(key)
                .filter(|pem| !pem.trim().is_empty())
                .map(|pem| Anchors::from_pem(pem.as_bytes()))
            {
                None => *anchors = None,
                Some(Ok(read)) => *anchors = Some(read),
                Some(Err(why)) => findings.push(Finding::Unreadable { key, why }),
            }
        }
        for (key, list) in [
            (ALLOWED_NAMES, &mut next.allowed_names),
            (USERNAME_HEADERS, &mut next.username_headers),
            (GROUP_HEADERS, &mut next.group_headers),
            (EXTRA_PREFIXES, &mut next.extra_prefixes),
            (UID_HEADERS, &mut next.uid_headers),
        ] {
            match strings(data.get(key)) {
                Ok(read) => *list = read,
                Err(why) => findings.push(Finding::Unreadable { key, why }),
            }
            findings.extend(
                list.iter()
                    .filter(|value| value.contains(" --") || value.starts_with("--"))
                    .map(|value| Finding::SwallowedFlags { key, value: value.clone() }),
            );
        }
        for prefix in &mut next.extra_prefixes {
            prefix.make_ascii_lowercase();
        }
        findings.extend(next.semantic_findings());
        (next, findings)
    }

    fn semantic_findings(&self) -> Vec<Finding> {
        let Some(proxy_ca) = &self.proxy_ca else { return vec![Finding::NoFrontProxy] };
        let shared = self.client_ca.as_ref().is_some_and(|client_ca| client_ca.intersects(proxy_ca));
        [
            (self.username_headers.is_empty(), Finding::NoUsernameHeader),
            (self.group_headers.is_empty(), Finding::NoGroupHeader),
            (self.allowed_names.is_empty() && shared, Finding::AnyClientMayImpersonate),
        ]
        .into_iter()
        .filter_map(|(found, finding)| found.then_some(finding))
        .collect()
    }

    pub(super) fn front_proxy(&self) -> Option<FrontProxy> {
        Some(FrontProxy {
            anchors: self.proxy_ca.clone()?,
            allowed_names: self.allowed_names.clone(),
            username_headers: self.username_headers.clone(),
            group_headers: self.group_headers.clone(),
            extra_prefixes: self.extra_prefixes.clone(),
            uid_headers: self.uid_headers.clone(),
        })
    }

    pub(super) fn client_ca(&self) -> Option<&Anchors> {
        self.client_ca.as_ref()
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
    use std::collections::BTreeMap;

    use super::{Finding, FromConfigMap};
    use crate::authenticate::client_certificate::tests::ca;

    fn data(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn healthy() -> BTreeMap<String, String> {
        data(&[
            ("client-ca-file", &ca().pem),
            ("requestheader-client-ca-file", &ca().pem),
            ("requestheader-allowed-names", r#"["aggregator"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
        ])
    }

    #[test]
    fn a_healthy_one_has_no_findings() {
        let (read, findings) = FromConfigMap::default().read(&healthy());
        assert_eq!(findings, []);
        let proxy = read.front_proxy().unwrap();
        assert_eq!(proxy.allowed_names, ["aggregator"]);
        assert_eq!(proxy.extra_prefixes, ["x-remote-extra-"]);
        assert_eq!(proxy.uid_headers, ["X-Remote-Uid"]);
        assert!(read.client_ca().is_some());
    }

    #[test]
    fn a_broken_key_keeps_its_last_good_value_alone() {
        let (good, _) = FromConfigMap::default().read(&healthy());
        let mut broken = healthy();
        broken.insert("client-ca-file".into(), "-----BEGIN CERTIFICATE-----\n!".into());
        broken.insert("requestheader-allowed-names".into(), "aggregator".into());
        broken.insert("requestheader-uid-headers".into(), "null".into());
        let (read, findings) = good.read(&broken);
        assert_eq!(read.client_ca(), good.client_ca());
        let proxy = read.front_proxy().unwrap();
        assert_eq!(proxy.allowed_names, ["aggregator"]);
        assert!(proxy.uid_headers.is_empty());
        let keys: Vec<_> = findings
            .iter()
            .filter_map(|f| if let Finding::Unreadable { key, .. } = f { Some(*key) } else { None })
            .collect();
        assert_eq!(keys, ["client-ca-file", "requestheader-allowed-names"]);
    }

    #[test]
    fn swallowed_flags_are_named() {
        let mut swallowed = healthy();
        let value = "X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User";
        swallowed.insert("requestheader-extra-headers-prefix".into(), format!("[\"{value}\"]"));
        swallowed.insert("requestheader-allowed-names".into(), "[]".into());
        swallowed.insert("requestheader-username-headers".into(), "[]".into());
        swallowed.insert("requestheader-group-headers".into(), "null".into());
        let (_, findings) = FromConfigMap::default().read(&swallowed);
        assert_eq!(
            findings,
            [
                Finding::SwallowedFlags { key: "requestheader-extra-headers-prefix", value: value.into() },
                Finding::NoUsernameHeader,
                Finding::NoGroupHeader
            ]
        );
    }

    #[test]
    fn an_empty_list_of_names_is_a_warning_only_with_a_shared_ca() {
        let mut empty = healthy();
        empty.remove("requestheader-allowed-names");
        assert_eq!(FromConfigMap::default().read(&empty).1, []);
        empty.insert("requestheader-client-ca-file".into(), empty["client-ca-file"].clone());
        assert_eq!(FromConfigMap::default().read(&empty).1, [Finding::AnyClientMayImpersonate]);
    }

    #[test]
    fn without_a_proxy_ca_there_is_no_front_proxy() {
        let (read, findings) = FromConfigMap::default().read(&data(&[("client-ca-file", &ca().pem)]));
        assert!(read.front_proxy().is_none());
        assert_eq!(findings, [Finding::NoFrontProxy]);
    }
}
