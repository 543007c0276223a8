//! Derives the attributes of a request from method, path and query as kube-apiserver does. Authorization and routing
//! use the same attributes, so that exactly the authorized request is served.

use http::{Method, Uri};

use super::list_options::ListOptions;
use super::query::{Query, decode};
use crate::server::request_info::RequestInfo;

/// Returns the attributes of a request, by the rules of k8s.io/apiserver's `RequestInfoFactory` with the prefixes `api`
/// (no group) and `apis`.
///
/// Where those rules fail (`/apis/GROUP/VERSION/watch` and nothing after it), returns a resource request without a
/// resource, which no RBAC rule allows and no route matches.
#[must_use]
pub fn request_info(method: &Method, uri: &Uri) -> RequestInfo {
    let path = decode(uri.path(), false).unwrap_or_else(|| uri.path().to_owned());
    let mut info = RequestInfo { verb: method_in_lower_case(method), path, ..RequestInfo::default() };
    let path = info.path.clone();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let parts = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => {
            (*version).clone_into(&mut info.api_version);
            rest
        }
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            (*group).clone_into(&mut info.api_group);
            (*version).clone_into(&mut info.api_version);
            rest
        }
        _ => return info,
    };
    info.is_resource_request = true;
    let parts = match parts {
        ["watch", rest @ ..] => {
            info.verb = "watch";
            rest
        }
        ["proxy", rest @ ..] => {
            info.verb = "proxy";
            rest
        }
        parts => {
            info.verb = verb(method);
            parts
        }
    };
    read_object(&mut info, parts);
    if info.name.is_empty() {
        match info.verb {
            "get" => read_list(&mut info, uri.query()),
            "delete" => info.verb = "deletecollection",
            _ => {}
        }
    }
    info
}

fn method_in_lower_case(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::TRACE => "trace",
        Method::CONNECT => "connect",
        // An extension method. None is supported, so the name does not matter.
        _ => "",
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Parses `[namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE[/…]]]`.
fn read_object(info: &mut RequestInfo, mut parts: &[&str]) {
    if let ["namespaces", namespace, rest @ ..] = parts {
        (*namespace).clone_into(&mut info.namespace);
        // `status` and `finalize` are subresources of the namespace; anything else is a resource in it.
        if rest.first().is_some_and(|next| !matches!(*next, "status" | "finalize")) {
            parts = rest;
        }
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
    info.resource = part(0);
    info.name = part(1);
    if info.verb != "proxy" {
        info.subresource = part(2);
    }
}

/// Distinguishes list from watch, and takes the name from a field selector that selects one name.
fn read_list(info: &mut RequestInfo, query: Option<&str>) {
    let query = Query::parse(query);
    let watch = match ListOptions::parse(&query) {
        Ok(options) => {
            if let Some(name) = options.fields.name()
                && !matches!(name, "." | "..")
                && !name.contains(['/', '%'])
            {
                name.clone_into(&mut info.name);
            }
            options.watch.is_some()
        }
        Err(_) => query.flag("watch"),
    };
    info.verb = if watch { "watch" } else { "list" };
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use proptest::prelude::*;

    use super::request_info;
    use crate::server::request_info::RequestInfo;

    fn read(method: &Method, uri: &str) -> RequestInfo {
        request_info(method, &uri.parse::<Uri>().unwrap())
    }

    #[test]
    fn parses_resource_requests() {
        let base = "/apis/metrics.k8s.io/v1beta1";
        // method, path, verb, namespace, resource, name, subresource
        for (method, path, verb, namespace, resource, name, subresource) in [
            ("GET", "/nodes", "list", "", "nodes", "", ""),
            ("HEAD", "/nodes", "list", "", "nodes", "", ""),
            ("GET", "/nodes/", "list", "", "nodes", "", ""),
            ("GET", "/nodes/n1", "get", "", "nodes", "n1", ""),
            ("GET", "/nodes/n1?watch=true", "get", "", "nodes", "n1", ""),
            ("GET", "/nodes?watch=true", "watch", "", "nodes", "", ""),
            ("GET", "/nodes?watch=1&limit=x", "watch", "", "nodes", "", ""),
            ("GET", "/nodes?watch=0", "list", "", "nodes", "", ""),
            ("GET", "/nodes?fieldSelector=metadata.name=n1", "list", "", "nodes", "n1", ""),
            ("GET", "/nodes?fieldSelector=metadata.name%3Dn1&watch", "watch", "", "nodes", "n1", ""),
            ("GET", "/nodes?fieldSelector=metadata.name=n1&labelSelector=!", "list", "", "nodes", "", ""),
            ("GET", "/nodes?fieldSelector=metadata.name!=n1", "list", "", "nodes", "", ""),
            ("GET", "/nodes?fieldSelector=metadata.name=..", "list", "", "nodes", "", ""),
            ("GET", "/watch/nodes", "watch", "", "nodes", "", ""),
            ("GET", "/watch/namespaces/ns/pods/p", "watch", "ns", "pods", "p", ""),
            ("GET", "/watch", "watch", "", "", "", ""),
            ("GET", "/proxy/nodes/n1/x", "proxy", "", "nodes", "n1", ""),
            ("GET", "/pods", "list", "", "pods", "", ""),
            ("GET", "/namespaces/ns/pods", "list", "ns", "pods", "", ""),
            ("GET", "/namespaces/ns/pods/p", "get", "ns", "pods", "p", ""),
            ("GET", "/namespaces/ns/pods/p/status/x", "get", "ns", "pods", "p", "status"),
            ("GET", "/namespaces/ns", "get", "ns", "namespaces", "ns", ""),
            ("GET", "/namespaces/ns/status", "get", "ns", "namespaces", "ns", "status"),
            ("GET", "/namespaces", "list", "", "namespaces", "", ""),
            ("POST", "/namespaces/ns/pods", "create", "ns", "pods", "", ""),
            ("PUT", "/nodes/n1", "update", "", "nodes", "n1", ""),
            ("PATCH", "/nodes/n1", "patch", "", "nodes", "n1", ""),
            ("DELETE", "/nodes/n1", "delete", "", "nodes", "n1", ""),
            ("DELETE", "/namespaces/ns/pods", "deletecollection", "ns", "pods", "", ""),
            ("OPTIONS", "/nodes", "", "", "nodes", "", ""),
            ("GET", "/nodes/a%2Fb", "get", "", "nodes", "a", "b"),
        ] {
            let info = read(&method.parse().unwrap(), &format!("{base}{path}"));
            assert!(info.is_resource_request, "{path}");
            assert_eq!((info.api_group.as_str(), info.api_version.as_str()), ("metrics.k8s.io", "v1beta1"));
            let found = [info.verb, &info.namespace, &info.resource, &info.name, &info.subresource];
            assert_eq!(found, [verb, namespace, resource, name, subresource], "{method} {path}");
        }
        let legacy = read(&Method::GET, "/api/v1/namespaces/ns/pods");
        assert!(legacy.is_resource_request);
        assert_eq!((legacy.api_group.as_str(), legacy.api_version.as_str()), ("", "v1"));
    }

    #[test]
    fn non_resource_requests_have_path_and_method() {
        for (path, decoded) in [
            ("/", "/"),
            ("/healthz", "/healthz"),
            ("/api", "/api"),
            ("/api/v1", "/api/v1"),
            ("/apis", "/apis"),
            ("/apis/metrics.k8s.io", "/apis/metrics.k8s.io"),
            ("/apis/metrics.k8s.io/v1beta1/", "/apis/metrics.k8s.io/v1beta1/"),
            ("/version/a/b/c", "/version/a/b/c"),
            ("/%6detrics", "/metrics"),
            ("/%zz", "/%zz"),
        ] {
            let info = read(&Method::POST, path);
            assert!(!info.is_resource_request, "{path}");
            assert_eq!((info.verb, info.path.as_str()), ("post", decoded));
            assert!(info.resource.is_empty() && info.api_group.is_empty());
        }
    }

    proptest! {
        #[test]
        fn accepts_any_uri(text in "(/|apis|api|namespaces|watch|proxy|status|[a-z.]|%[0-9a-f]{2}|[?&=]|watch=|\\PC){0,16}") {
            if let Ok(uri) = format!("/{text}").parse::<Uri>() {
                for method in [Method::GET, Method::DELETE] {
                    let info = request_info(&method, &uri);
                    prop_assert!(info.is_resource_request || info.resource.is_empty());
                }
            }
        }
    }
}
