//! What a request to kube-apiserver does: verb and resource, as its authorizer names them.

use std::fmt;

/// A request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    /// The kind of request.
    pub(super) target: Target,
    /// The namespace; empty for a cluster-scoped object.
    pub(super) namespace: String,
    /// The object's name; empty for a list.
    pub(super) name: String,
}

/// A verb and a resource.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Target {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub(super) verb: &'static str,
    /// The resource with its subresource, such as `pods/resize`; the path of a request for no resource.
    pub(super) resource: String,
}

impl Target {
    /// Whether it changes something.
    #[must_use]
    pub(super) fn is_write(&self) -> bool {
        !self.is_read() && self.verb != "watch"
    }

    /// Whether it returns objects in one response.
    #[must_use]
    pub(super) fn is_read(&self) -> bool {
        matches!(self.verb, "get" | "list")
    }

    /// Whether it belongs to the leader election, whose renewals are no step of a journey.
    #[must_use]
    pub(super) fn is_election(&self) -> bool {
        self.resource == "leases"
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.name.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.target, self.name)
    }
}

impl Call {
    /// Returns what a request does.
    #[must_use]
    pub(super) fn of(method: &str, path: &str, query: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let rest: Vec<&str> = match parts.next() {
            Some("api") => parts.skip(1).collect(),
            Some("apis") => parts.skip(2).collect(),
            _ => Vec::new(),
        };
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (resource, name) = match rest {
            [] => (path.to_owned(), ""),
            [resource] => ((*resource).to_owned(), ""),
            [resource, name] => ((*resource).to_owned(), *name),
            [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), *name),
        };
        let watches = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        let verb = match method {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ if watches => "watch",
            _ if name.is_empty() && !rest.is_empty() => "list",
            _ => "get",
        };
        Self { target: Target { verb, resource }, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_verb_and_resource_as_the_authorizer_does() {
        for (request, call) in [
            ("GET /api/v1/namespaces/a/secrets/s", "get secrets/s"),
            ("GET /api/v1/namespaces/a/pods?labelSelector=x&limit=100", "list pods"),
            ("GET /api/v1/nodes?watch=true", "watch nodes"),
            ("GET /api/v1/namespaces/a/secrets?fieldSelector=x&watch=1", "watch secrets"),
            ("PATCH /api/v1/namespaces/a/pods/p/resize?fieldManager=m", "patch pods/resize/p"),
            ("PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/l", "update leases/l"),
            ("POST /apis/events.k8s.io/v1/namespaces/default/events", "create events"),
            (
                "DELETE /apis/apiregistration.k8s.io/v1/apiservices/v1.metrics.k8s.io",
                "delete apiservices/v1.metrics.k8s.io",
            ),
            ("GET /apis/metrics.k8s.io/v1beta1/nodes", "list nodes"),
            ("GET /api/v1/namespaces/a", "get namespaces/a"),
            ("GET /version", "get /version"),
        ] {
            let (method, target) = request.split_once(' ').unwrap_or_default();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            assert_eq!(Call::of(method, path, query).to_string(), call, "{request}");
        }
    }

    #[test]
    fn renewals_of_the_lease_belong_to_the_election() {
        let lease = Call::of("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", "");
        assert!(lease.target.is_election() && lease.target.is_write());
        assert!(!Call::of("GET", "/api/v1/nodes", "watch=true").target.is_write());
    }
}
