//! What a request asks for, by the same attributes that it was authorized by.

use http::Method;

use super::resource::{GROUP, Resource, Version};
use crate::server::request_info::RequestInfo;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`.
    Paths,
    /// `/version`.
    Version,
    /// `/apis`.
    Groups,
    /// `/apis/metrics.k8s.io`.
    Group,
    /// `/apis/metrics.k8s.io/VERSION`.
    Resources(Version),
    /// One object or a list.
    Objects {
        /// Of which resource.
        resource: Resource,
        /// In which version.
        version: Version,
    },
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3Index,
    /// `/openapi/v3/apis/metrics.k8s.io/VERSION`.
    OpenApiV3(Version),
    /// Within the group, but nothing that it has.
    NoSuchResource,
    /// Outside the group, and nothing either.
    NoSuchPath,
    /// It is there, but can only be read.
    MethodNotAllowed,
}

/// Finds the route of a request.
pub(super) fn find(method: &Method, info: &RequestInfo) -> Route {
    let route = if info.is_resource_request { objects(info) } else { document(&info.path) };
    let readable = match route {
        Route::NoSuchResource | Route::NoSuchPath => true,
        // As with the API server, HEAD is for documents outside the API only.
        Route::Objects { .. } | Route::Resources(_) | Route::Group | Route::Groups => method == Method::GET,
        _ => matches!(*method, Method::GET | Method::HEAD),
    };
    if readable { route } else { Route::MethodNotAllowed }
}

fn document(path: &str) -> Route {
    let path = path.strip_suffix('/').unwrap_or(path);
    let api = |route: fn(Version) -> Route, version: &str| Version::of(version).map(route);
    match path {
        "" => Route::Paths,
        "/version" => Route::Version,
        "/apis" => Route::Groups,
        "/openapi/v2" => Route::OpenApiV2,
        "/openapi/v3" => Route::OpenApiV3Index,
        path => {
            if let Some(version) = path.strip_prefix("/openapi/v3/apis/metrics.k8s.io/") {
                return api(Route::OpenApiV3, version).unwrap_or(Route::NoSuchPath);
            }
            match path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(GROUP)) {
                Some("") => Route::Group,
                Some(rest) if rest.starts_with('/') => {
                    api(Route::Resources, &rest[1..]).unwrap_or(Route::NoSuchResource)
                }
                _ => Route::NoSuchPath,
            }
        }
    }
}

fn objects(info: &RequestInfo) -> Route {
    if info.api_group != GROUP || info.path.contains("//") {
        return Route::NoSuchPath;
    }
    let (Some(version), Some(resource)) = (Version::of(&info.api_version), Resource::of(&info.resource))
    else {
        return Route::NoSuchResource;
    };
    // What the path says, as opposed to `?watch=` and a name within a field selector.
    let segments: Vec<&str> = info.path.trim_matches('/').split('/').skip(3).collect();
    let fits = matches!(
        (resource, segments.as_slice()),
        (Resource::Nodes, ["nodes"] | ["nodes", _])
            | (Resource::Pods, ["pods"] | ["namespaces", _, "pods"] | ["namespaces", _, "pods", _])
    );
    if fits { Route::Objects { resource, version } } else { Route::NoSuchResource }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::{Resource, Route, Version, find};
    use crate::api::request_info;

    #[test]
    fn finds_what_the_peer_finds() {
        let beta = Version::V1beta1;
        let nodes = Route::Objects { resource: Resource::Nodes, version: beta };
        let pods = Route::Objects { resource: Resource::Pods, version: beta };
        for (method, path, expected) in [
            ("GET", "/", Route::Paths),
            ("GET", "/version", Route::Version),
            ("POST", "/version", Route::MethodNotAllowed),
            ("GET", "/apis", Route::Groups),
            ("GET", "/apis/", Route::Groups),
            ("GET", "/apis/metrics.k8s.io", Route::Group),
            ("GET", "/apis/metrics.k8s.io/v1", Route::Resources(Version::V1)),
            ("GET", "/apis/metrics.k8s.io/v1beta1/", Route::Resources(beta)),
            ("POST", "/apis/metrics.k8s.io/v1beta1", Route::MethodNotAllowed),
            ("GET", "/apis/metrics.k8s.io/v2", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.iox", Route::NoSuchPath),
            ("GET", "/apis/apps/v1/deployments", Route::NoSuchPath),
            ("GET", "/api", Route::NoSuchPath),
            ("GET", "/api/v1/pods", Route::NoSuchPath),
            ("GET", "/openapi/v2", Route::OpenApiV2),
            ("HEAD", "/openapi/v2", Route::OpenApiV2),
            ("GET", "/openapi/v3", Route::OpenApiV3Index),
            ("GET", "/openapi/v3/apis/metrics.k8s.io/v1", Route::OpenApiV3(Version::V1)),
            ("GET", "/openapi/v3/apis/apps/v1", Route::NoSuchPath),
            ("GET", "/apis/metrics.k8s.io/v1beta1/nodes", nodes),
            ("GET", "/apis/metrics.k8s.io/v1beta1/nodes/", nodes),
            ("GET", "/apis/metrics.k8s.io/v1beta1/nodes/n1", nodes),
            ("GET", "/apis/metrics.k8s.io/v1beta1/nodes?watch=1", nodes),
            ("HEAD", "/apis/metrics.k8s.io/v1beta1/nodes", Route::MethodNotAllowed),
            ("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/n1", Route::MethodNotAllowed),
            ("POST", "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods", Route::MethodNotAllowed),
            ("GET", "/apis/metrics.k8s.io/v1beta1/pods", pods),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods", pods),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods/p", pods),
            ("GET", "/apis/metrics.k8s.io/v1beta1/pods/p", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/ns/nodes", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/ns", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces//pods", Route::NoSuchPath),
            ("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods/p/log", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.io/v1beta1/watch/pods", Route::NoSuchResource),
            ("GET", "/apis/metrics.k8s.io/v1beta1/proxy/nodes/n1", Route::NoSuchResource),
            ("GET", "/apis//metrics.k8s.io/v1beta1/nodes", Route::NoSuchPath),
            ("GET", "/metrics", Route::NoSuchPath),
        ] {
            let method: Method = method.parse().unwrap();
            let info = request_info(&method, &path.parse::<Uri>().unwrap());
            assert_eq!(find(&method, &info), expected, "{method} {path}");
        }
    }
}
