//! The user as a trusted front proxy (kube-apiserver's aggregation layer) tells it in headers.

use std::collections::BTreeMap;

use crds::cause::CredentialCause;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::trust::FrontProxy;
use super::{Opinion, Peer, Refusal, Trust, UserInfo};

/// Headers count only from a client whose certificate a front proxy's CA signed and whose name is allowed.
pub(super) fn authenticate(headers: &HeaderMap, peer: &Peer, trust: &Trust) -> Opinion {
    let Some(proxy) = &trust.front_proxy else { return Opinion::None };
    match peer.as_front_proxy(trust) {
        None => Opinion::None,
        Some(Err(refusal)) => {
            Opinion::Refused(Refusal { detail: format!("as front proxy: {}", refusal.detail), ..refusal })
        }
        Some(Ok(subject)) if !allowed(&proxy.allowed_names, &subject.common_name) => {
            Opinion::Refused(Refusal {
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
                Opinion::Silent(Refusal {
                    reason: CredentialCause::NoUsername,
                    detail: format!(
                        "the certificate with cn={} is a front proxy's, but none of the headers {:?} (requestheader-username-headers) \
                         named a user",
                        name(&subject.common_name),
                        proxy.username_headers
                    ),
                })
            },
            Opinion::User,
        ),
    }
}

/// Takes the front proxy's headers out, the usual ones and the configured.
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

/// A client chooses its name: bounded and without control characters.
fn name(common_name: &str) -> String {
    common_name.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn allowed(names: &[String], common_name: &str) -> bool {
    names.is_empty() || names.iter().any(|name| name == common_name)
}

/// `None` without a name: then the headers say nothing.
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

/// Percent-decodes a key; one that is malformed stays as it is.
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
    use crate::server::authentication::{Anchors, Opinion, Peer, Trust};

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

    fn peer(ca: &Ca, common_name: &str) -> Peer {
        Peer::new(
            LOCAL,
            vec![ca.issue(|params| params.distinguished_name.push(DnType::CommonName, common_name)).0],
        )
    }

    #[test]
    fn headers_of_an_allowed_proxy_tell_the_user() {
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
        let Opinion::User(user) =
            authenticate(&headers, &peer(&ca, "aggregator"), &trust(&ca, &["aggregator"]))
        else {
            panic!()
        };
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "42"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["example.org/scopes"], ["a", "b"]);
    }

    #[test]
    fn without_a_certificate_headers_say_nothing() {
        let ca = ca();
        let headers = headers(&[("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")]);
        assert!(matches!(authenticate(&headers, &Peer::new(LOCAL, vec![]), &trust(&ca, &[])), Opinion::None));
        assert!(matches!(authenticate(&headers, &peer(&ca, "any"), &Trust::default()), Opinion::None));
    }

    #[test]
    fn other_cas_and_names_are_refused_and_empty_names_allow_all() {
        let (ours, theirs) = (ca(), ca());
        let headers = headers(&[("X-Remote-User", "jane")]);
        let refused = |peer: &Peer, trust: &Trust| match authenticate(&headers, peer, trust) {
            Opinion::Refused(refusal) => refusal,
            _ => panic!("not refused"),
        };
        assert_eq!(
            refused(&peer(&theirs, "aggregator"), &trust(&ours, &[])).reason,
            CredentialCause::UnknownCa
        );
        let wrong = refused(&peer(&ours, "other"), &trust(&ours, &["aggregator"]));
        assert_eq!(wrong.reason, CredentialCause::CnNotAllowed);
        assert!(
            wrong.detail.starts_with("x509: subject with cn=other is not in the allowed list"),
            "{wrong}"
        );
        assert!(matches!(
            authenticate(&headers, &peer(&ours, "other"), &trust(&ours, &[])),
            Opinion::User(_)
        ));
    }

    #[test]
    fn a_proxy_that_names_no_user_has_no_opinion() {
        let ca = ca();
        let none = headers(&[("X-Remote-User", ""), ("X-Remote-Group", "system:masters")]);
        assert!(matches!(authenticate(&none, &peer(&ca, "a"), &trust(&ca, &[])), Opinion::Silent(_)));
    }

    #[test]
    fn all_that_could_tell_a_user_is_taken_out() {
        let mut headers =
            headers(&[("X-Remote-User", "a"), ("X-User", "a"), ("X-Remote-Extra-K", "v"), ("Accept", "*/*")]);
        clear(&mut headers, &trust(&ca(), &[]));
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn keys_are_decoded_or_kept() {
        assert_eq!(unescape("a%2fb"), "a/b");
        for kept in ["a%2", "a%zz", "%", "a%+1", "%ff"] {
            assert_eq!(unescape(kept), kept);
        }
    }
}
