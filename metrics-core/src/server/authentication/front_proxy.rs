//! Authentication by the headers of a trusted front proxy, kube-apiserver's aggregation layer.

use std::collections::BTreeMap;

use crds::cause::CredentialCause;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::trust::FrontProxy;
use super::{Attempt, ClientConnection, Refusal, Trust, UserInfo};

/// Authenticates by headers, from a client whose certificate is signed by a front-proxy CA and whose common name is
/// allowed.
pub(super) fn authenticate(headers: &HeaderMap, connection: &ClientConnection, trust: &Trust) -> Attempt {
    let Some(proxy) = &trust.front_proxy else { return Attempt::NotApplicable };
    match connection.as_front_proxy(trust) {
        None => Attempt::NotApplicable,
        Some(Err(refusal)) => {
            Attempt::Refused(Refusal { detail: format!("as front proxy: {}", refusal.detail), ..refusal })
        }
        Some(Ok(subject)) if !allowed(&proxy.allowed_names, &subject.common_name) => {
            Attempt::Refused(Refusal {
                reason: CredentialCause::CnNotAllowed,
                detail: format!(
                    "x509: subject with cn={} is not in the allowed list {:?} (requestheader-allowed-names)",
                    name(&subject.common_name),
                    proxy.allowed_names
                ),
            })
        }
        Some(Ok(subject)) => user(headers, proxy).map_or_else(
            || {
                Attempt::Ignored(Refusal {
                    reason: CredentialCause::NoUsername,
                    detail: format!(
                        "the client certificate with cn={} is that of a front proxy, but the request has none of the headers {:?} \
                         (requestheader-username-headers)",
                        name(&subject.common_name),
                        proxy.username_headers
                    ),
                })
            },
            Attempt::Authenticated,
        ),
    }
}

/// Returns whether the client's certificate is signed by a front-proxy CA and its common name is allowed.
pub(super) fn is_front_proxy(connection: &ClientConnection, trust: &Trust) -> bool {
    let Some(proxy) = &trust.front_proxy else { return false };
    connection.as_front_proxy(trust).is_some_and(|verified| {
        verified.is_ok_and(|subject| allowed(&proxy.allowed_names, &subject.common_name))
    })
}

/// Removes the front proxy's headers, the default and the configured ones.
pub(super) fn clear(headers: &mut HeaderMap, trust: &Trust) {
    for name in ["x-remote-user", "x-remote-uid", "x-remote-group"] {
        headers.remove(name);
    }
    let mut prefixes = vec!["x-remote-extra-"];
    if let Some(proxy) = &trust.front_proxy {
        for name in proxy.username_headers.iter().chain(&proxy.uid_headers).chain(&proxy.group_headers) {
            headers.remove(name.as_str());
        }
        prefixes.extend(proxy.extra_prefixes.iter().map(String::as_str));
    }
    let extra: Vec<HeaderName> = headers
        .keys()
        .filter(|name| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix)))
        .cloned()
        .collect();
    for name in extra {
        headers.remove(name);
    }
}

/// Returns the common name, shortened and printable, as the client chooses it.
fn name(common_name: &str) -> String {
    common_name.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn allowed(names: &[String], common_name: &str) -> bool {
    names.is_empty() || names.iter().any(|name| name == common_name)
}

/// Returns the user of the headers; `None` without a username.
fn user(headers: &HeaderMap, proxy: &FrontProxy) -> Option<UserInfo> {
    let first = |names: &[String]| {
        names.iter().filter_map(|name| headers.get(name.as_str())).map(text).find(|value| !value.is_empty())
    };
    let groups = proxy
        .group_headers
        .iter()
        .flat_map(|name| headers.get_all(name.as_str()))
        .map(text)
        .filter(|value| !value.is_empty())
        .collect();
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for prefix in &proxy.extra_prefixes {
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                extra.entry(unescape(key)).or_default().push(text(value));
            }
        }
    }
    Some(UserInfo {
        name: first(&proxy.username_headers)?,
        uid: first(&proxy.uid_headers).unwrap_or_default(),
        groups,
        extra,
    })
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Percent-decodes a key; returns a malformed one unchanged.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = behind;
            continue;
        }
        let decoded = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match decoded
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .map(|digits| u8::from_str_radix(digits, 16))
        {
            Some(Ok(byte)) => bytes.push(byte),
            _ => return key.to_owned(),
        }
        rest = &behind[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use rcgen::DnType;

    use super::{CredentialCause, authenticate, clear, unescape};
    use crate::server::authentication::client_certificate::tests::{Ca, LOCAL, ca};
    use crate::server::authentication::trust::FrontProxy;
    use crate::server::authentication::{Anchors, Attempt, ClientConnection, Trust};

    fn trust(ca: &Ca, allowed_names: &[&str]) -> Trust {
        let strings = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        Trust {
            front_proxy: Some(FrontProxy {
                anchors: Anchors::from_pem(ca.pem.as_bytes()).unwrap(),
                allowed_names: strings(allowed_names),
                username_headers: strings(&["x-remote-user", "x-user"]),
                group_headers: strings(&["x-remote-group"]),
                extra_prefixes: strings(&["x-remote-extra-"]),
                uid_headers: strings(&["x-remote-uid"]),
            }),
            ..Trust::default()
        }
    }

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn connection(ca: &Ca, common_name: &str) -> ClientConnection {
        ClientConnection::new(
            LOCAL,
            vec![ca.issue(|params| params.distinguished_name.push(DnType::CommonName, common_name)).0],
        )
    }

    #[test]
    fn authenticates_by_headers_of_an_allowed_proxy() {
        let ca = ca();
        let headers = headers(&[
            ("X-Remote-User", "jane"),
            ("X-Remote-Group", "dev"),
            ("X-Remote-Group", ""),
            ("X-Remote-Group", "ops"),
            ("X-Remote-Uid", "42"),
            ("X-Remote-Extra-Example.org%2fScopes", "a"),
            ("X-Remote-Extra-Example.org%2fScopes", "b"),
        ]);
        let Attempt::Authenticated(user) =
            authenticate(&headers, &connection(&ca, "aggregator"), &trust(&ca, &["aggregator"]))
        else {
            panic!()
        };
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "42"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["example.org/scopes"], ["a", "b"]);
    }

    #[test]
    fn ignores_headers_without_a_certificate() {
        let ca = ca();
        let headers = headers(&[("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")]);
        assert!(matches!(
            authenticate(&headers, &ClientConnection::new(LOCAL, vec![]), &trust(&ca, &[])),
            Attempt::NotApplicable
        ));
        assert!(matches!(
            authenticate(&headers, &connection(&ca, "any"), &Trust::default()),
            Attempt::NotApplicable
        ));
    }

    #[test]
    fn refuses_other_cas_and_names_and_allows_all_for_an_empty_list() {
        let (ours, theirs) = (ca(), ca());
        let headers = headers(&[("X-Remote-User", "jane")]);
        let refused =
            |connection: &ClientConnection, trust: &Trust| match authenticate(&headers, connection, trust) {
                Attempt::Refused(refusal) => refusal,
                _ => panic!("not refused"),
            };
        assert_eq!(
            refused(&connection(&theirs, "aggregator"), &trust(&ours, &[])).reason,
            CredentialCause::UnknownCa
        );
        let wrong = refused(&connection(&ours, "other"), &trust(&ours, &["aggregator"]));
        assert_eq!(wrong.reason, CredentialCause::CnNotAllowed);
        assert!(
            wrong.detail.starts_with("x509: subject with cn=other is not in the allowed list"),
            "{wrong}"
        );
        assert!(matches!(
            authenticate(&headers, &connection(&ours, "other"), &trust(&ours, &[])),
            Attempt::Authenticated(_)
        ));
    }

    #[test]
    fn ignores_a_proxy_without_a_username() {
        let ca = ca();
        let none = headers(&[("X-Remote-User", ""), ("X-Remote-Group", "system:masters")]);
        assert!(matches!(authenticate(&none, &connection(&ca, "a"), &trust(&ca, &[])), Attempt::Ignored(_)));
    }

    #[test]
    fn removes_all_identity_headers() {
        let mut headers =
            headers(&[("X-Remote-User", "a"), ("X-User", "a"), ("X-Remote-Extra-K", "v"), ("Accept", "*/*")]);
        clear(&mut headers, &trust(&ca(), &[]));
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn decodes_keys_or_keeps_malformed_ones() {
        assert_eq!(unescape("a%2fb"), "a/b");
        for kept in ["a%2", "a%zz", "%", "a%+1", "%ff"] {
            assert_eq!(unescape(kept), kept);
        }
    }
}
