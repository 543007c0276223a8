//! ConfigMap extension-apiserver-authentication: the values of its keys, and what is wrong with them.

use std::collections::BTreeMap;

use crds::extension_apiserver_authentication::{CLIENT_CA, Finding, PROXY_CA, ProxyCa, RequestHeaderConfig};

use super::FrontProxy;
use crate::server::authentication::Anchors;

/// The values of the ConfigMap. An invalid key keeps its last valid value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromConfigMap {
    client_ca: Option<Anchors>,
    proxy_ca: Option<Anchors>,
    names: RequestHeaderConfig,
}

impl FromConfigMap {
    /// Returns the values of `data` and the findings. `self` has the last valid values.
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
        findings.extend(next.names.update(data));
        let shared = |proxy_ca: &Anchors| {
            next.client_ca.as_ref().is_some_and(|client_ca| client_ca.intersects(proxy_ca))
        };
        let proxy_ca = match &next.proxy_ca {
            None => ProxyCa::Absent,
            Some(proxy_ca) if shared(proxy_ca) => ProxyCa::SharedWithClients,
            Some(_) => ProxyCa::Separate,
        };
        findings.extend(next.names.check(proxy_ca));
        (next, findings)
    }

    pub(super) fn front_proxy(&self) -> Option<FrontProxy> {
        let RequestHeaderConfig {
            allowed_names,
            username_headers,
            group_headers,
            extra_prefixes,
            uid_headers,
        } = self.names.clone();
        Some(FrontProxy {
            anchors: self.proxy_ca.clone()?,
            allowed_names,
            username_headers,
            group_headers,
            extra_prefixes: extra_prefixes.iter().map(|prefix| prefix.to_ascii_lowercase()).collect(),
            uid_headers,
        })
    }

    pub(super) fn client_ca(&self) -> Option<&Anchors> {
        self.client_ca.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Finding, FromConfigMap};
    use crate::server::authentication::client_certificate::tests::ca;

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
    fn healthy_config_map_has_no_findings() {
        let (read, findings) = FromConfigMap::default().read(&healthy());
        assert_eq!(findings, []);
        let proxy = read.front_proxy().unwrap();
        assert_eq!(proxy.allowed_names, ["aggregator"]);
        assert_eq!(proxy.extra_prefixes, ["x-remote-extra-"]);
        assert_eq!(proxy.uid_headers, ["X-Remote-Uid"]);
        assert!(read.client_ca().is_some());
    }

    #[test]
    fn invalid_key_keeps_its_last_valid_value() {
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
    fn finds_malformed_request_header_flags() {
        let mut malformed = healthy();
        let value = "X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User";
        malformed.insert("requestheader-extra-headers-prefix".into(), format!("[\"{value}\"]"));
        malformed.insert("requestheader-allowed-names".into(), "[]".into());
        malformed.insert("requestheader-username-headers".into(), "[]".into());
        malformed.insert("requestheader-group-headers".into(), "null".into());
        let (_, findings) = FromConfigMap::default().read(&malformed);
        assert_eq!(
            findings,
            [
                Finding::RequestHeaderFlagsMalformed {
                    key: "requestheader-extra-headers-prefix",
                    value: value.into()
                },
                Finding::UsernameHeadersMissing,
                Finding::GroupHeadersMissing
            ]
        );
    }

    #[test]
    fn empty_allowed_names_are_a_finding_only_with_a_shared_ca() {
        let mut empty = healthy();
        empty.remove("requestheader-allowed-names");
        assert_eq!(FromConfigMap::default().read(&empty).1, []);
        empty.insert("requestheader-client-ca-file".into(), empty["client-ca-file"].clone());
        assert_eq!(FromConfigMap::default().read(&empty).1, [Finding::AnyClientMayImpersonate]);
    }

    #[test]
    fn no_front_proxy_without_its_ca() {
        let (read, findings) = FromConfigMap::default().read(&data(&[("client-ca-file", &ca().pem)]));
        assert!(read.front_proxy().is_none());
        assert_eq!(findings, [Finding::AggregationLayerNotConfigured]);
    }
}
