//! The attributes of a request that authorization uses.

/// The attributes of a request, as k8s.io/apiserver derives them from method, path and query
/// (API concepts, "Request attributes used in authorization").
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// Whether the path is that of a resource (`/apis/GROUP/VERSION/…`). Otherwise only `path` and `verb` are set.
    pub is_resource_request: bool,
    /// The path of the request, without the query.
    pub path: String,
    /// `get`, `list`, `watch`, …; for non-resource requests the HTTP method in lower case.
    pub verb: &'static str,
    /// The API group.
    pub api_group: String,
    /// The API version.
    pub api_version: String,
    /// The resource, plural.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty for cluster-scoped requests and lists over all namespaces.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
}
