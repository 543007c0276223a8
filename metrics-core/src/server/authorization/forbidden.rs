//! The message of a 403 response, as k8s.io/apiserver writes it.

use crate::server::authentication::UserInfo;
use crate::server::request_info::RequestInfo;

/// Returns the message of a 403 Status, such as `nodes.metrics.k8s.io is forbidden: User "x" cannot list resource
/// "nodes" in API group "metrics.k8s.io" at the cluster scope`, followed by the authorizer's `reason`.
#[must_use]
pub(crate) fn message(user: &UserInfo, request: &RequestInfo, reason: &str) -> String {
    let refusal = sanitize(&refusal(user, request));
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if request.resource.is_empty() || !request.is_resource_request {
        return format!("forbidden: {refusal}{because}");
    }
    let resource = if request.api_group.is_empty() {
        request.resource.clone()
    } else {
        format!("{}.{}", request.resource, request.api_group)
    };
    if request.name.is_empty() {
        format!("{resource} is forbidden: {refusal}{because}")
    } else {
        format!("{resource} {} is forbidden: {refusal}{because}", quote(&request.name))
    }
}

fn refusal(user: &UserInfo, request: &RequestInfo) -> String {
    let (user, verb) = (quote(&user.name), request.verb);
    if !request.is_resource_request {
        return format!("User {user} cannot {verb} path {}", quote(&request.path));
    }
    let resource = if request.subresource.is_empty() {
        quote(&request.resource)
    } else {
        quote(&format!("{}/{}", request.resource, request.subresource))
    };
    let group = quote(&request.api_group);
    if request.namespace.is_empty() {
        format!("User {user} cannot {verb} resource {resource} in API group {group} at the cluster scope")
    } else {
        let namespace = quote(&request.namespace);
        format!(
            "User {user} cannot {verb} resource {resource} in API group {group} in the namespace {namespace}"
        )
    }
}

/// Escapes HTML, as k8s.io/apiserver does.
fn sanitize(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Quotes as Go's `%q` does.
fn quote(text: &str) -> String {
    use std::fmt::Write;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::message;
    use crate::server::authentication::UserInfo;
    use crate::server::request_info::RequestInfo;

    fn user(name: &str) -> UserInfo {
        UserInfo { name: name.into(), ..UserInfo::default() }
    }

    #[test]
    fn message_equals_that_of_k8s_io_apiserver() {
        let list = RequestInfo {
            is_resource_request: true,
            path: "/apis/metrics.k8s.io/v1beta1/nodes".into(),
            verb: "list",
            api_group: "metrics.k8s.io".into(),
            api_version: "v1beta1".into(),
            resource: "nodes".into(),
            ..RequestInfo::default()
        };
        assert_eq!(
            message(&user("x"), &list, ""),
            r#"nodes.metrics.k8s.io is forbidden: User "x" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#
        );
        let get = RequestInfo {
            verb: "get",
            resource: "pods".into(),
            namespace: "default".into(),
            name: "p".into(),
            ..list
        };
        assert_eq!(
            message(&user("a\"<b>"), &get, "no"),
            r#"pods.metrics.k8s.io "p" is forbidden: User "a\"&lt;b&gt;" cannot get resource "pods" in API group "metrics.k8s.io" in the namespace "default": no"#
        );
        let path = RequestInfo { path: "/metrics".into(), verb: "get", ..RequestInfo::default() };
        assert_eq!(
            message(&user("system:anonymous"), &path, ""),
            r#"forbidden: User "system:anonymous" cannot get path "/metrics""#
        );
    }
}
