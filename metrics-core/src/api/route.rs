//! Routes a request by the same attributes that it was authorized by.

use http::Method;

use super::resource::{ApiVersion, GROUP, Resource};
use crate::server::request_info::RequestInfo;

/// What a request addresses.
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
    Resources(ApiVersion),
    /// One object, a list or a watch.
    Objects {
        /// The resource.
        resource: Resource,
        /// The API version.
        version: ApiVersion,
    },
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3Index,
    /// `/openapi/v3/apis/metrics.k8s.io/VERSION`.
    OpenApiV3(ApiVersion),
    /// A path within the API group that does not exist.
    NoSuchResource,
    /// A path outside the API group that does not exist.
    NoSuchPath,
    /// The path exists, but is read-only.
    MethodNotAllowed,
}

/// Returns the route of a request.
pub(super) fn find(method: &Method, info: &RequestInfo) -> Route {
    let route = if info.is_resource_request { objects(info) } else { document(&info.path) };
    let readable = match route {
        Route::NoSuchResource | Route::NoSuchPath => true,
        // As in kube-apiserver, HEAD is supported only for documents outside the API.
        Route::Objects { .. } | Route::Resources(_) | Route::Group | Route::Groups => method == Method::GET,
        _ => matches!(*method, Method::GET | Method::HEAD),
    };
    if readable { route } else { Route::MethodNotAllowed }
}

fn document(path: &str) -> Route {
    let path = path.strip_suffix('/').unwrap_or(path);
    let api = |route: fn(ApiVersion) -> Route, version: &str| ApiVersion::from_name(version).map(route);
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
    let (Some(version), Some(resource)) =
        (ApiVersion::from_name(&info.api_version), Resource::from_name(&info.resource))
    else {
        return Route::NoSuchResource;
    };
    // From the path alone: `info` also reflects `?watch=` and a name in a field selector.
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

    use super::{ApiVersion, Resource, Route, find};
    use crate::api::request_info;

    #[test]
    fn routes_requests_as_metrics_server_does() {
        let beta = ApiVersion::V1beta1;
        let nodes = Route::Objects { resource: Resource::Nodes, version: beta };
        let pods = Route::Objects { resource: Resource::Pods, version: beta };
        for (method, path, expected) in [
            ("GET", "/", Route::Paths),
            ("GET", "/version", Route::Version),
            ("POST", "/version", Route::MethodNotAllowed),
            ("GET", "/apis", Route::Groups),
            ("GET", "/apis/", Route::Groups),
            ("GET", "/apis/metrics.k8s.io", Route::Group),
            ("GET", "/apis/metrics.k8s.io/v1", Route::Resources(ApiVersion::V1)),
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
            ("GET", "/openapi/v3/apis/metrics.k8s.io/v1", Route::OpenApiV3(ApiVersion::V1)),
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
