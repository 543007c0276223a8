//! The requests that are sent to both servers.

mod documents;
mod objects;
mod selectors;
mod users;

use std::fmt;

/// The user of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum User {
    /// An administrator with a client certificate.
    Admin,
    /// A client certificate of a user without permissions.
    Jane,
    /// No credentials.
    Anonymous,
    /// A certificate signed by an unknown authority.
    Stranger,
    /// The API server as the front proxy, on behalf of the user in the headers.
    FrontProxy,
    /// A certificate of the front proxy's authority with a name that is not allowed.
    OtherProxy,
}

/// One request.
#[derive(Clone, Debug)]
pub struct MatrixRequest {
    /// The user.
    pub user: User,
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

impl fmt::Display for MatrixRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {} {}", self.user, self.method, self.target)?;
        for (name, value) in &self.headers {
            write!(formatter, " [{name}: {value}]")?;
        }
        Ok(())
    }
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const BASE: &str = "/apis/metrics.k8s.io/v1beta1";
const KUBECTL_GET: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The Accept headers of requests for objects; an empty one is not sent.
const ACCEPTS: &[&str] = &[
    "",
    "*/*",
    "application/*",
    JSON,
    YAML,
    PROTOBUF,
    TABLE,
    KUBECTL_GET,
    "application/vnd.kubernetes.protobuf, */*",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
    "application/json;as=Table;v=v2;g=meta.k8s.io",
    "application/yaml;as=Table;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Nonsense;v=v1;g=meta.k8s.io",
    "application/json;pretty=1",
    "application/json;q=0.1, application/yaml;q=0.9",
    "application/json;q=0",
    "application/json;charset=utf-8",
    "application/cbor",
    "application/cbor, application/json;q=0.5",
    "text/html",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/plain, nonsense",
    "APPLICATION/JSON",
];

struct Matrix(Vec<MatrixRequest>);

impl Matrix {
    fn add(&mut self, user: User, method: &'static str, target: &str, headers: &[(&str, &str)]) {
        let headers = headers.iter().filter(|(_, value)| !value.is_empty());
        self.0.push(MatrixRequest {
            user,
            method,
            target: target.to_owned(),
            headers: headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        });
    }

    fn get(&mut self, target: &str, accept: &str) {
        self.add(User::Admin, "GET", target, &[("Accept", accept)]);
    }
}

/// Returns all requests; `node` is the real node, `pod` a pod on it.
#[must_use]
pub(super) fn requests(node: &str, pod: &str) -> Vec<MatrixRequest> {
    let mut matrix = Matrix(Vec::new());
    objects::objects(&mut matrix, node, pod);
    selectors::selectors(&mut matrix);
    objects::options(&mut matrix);
    documents::documents(&mut matrix);
    documents::methods(&mut matrix);
    documents::paths(&mut matrix);
    users::users(&mut matrix);
    matrix.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_go_over_the_wire_unchanged() {
        for request in requests("node", "pod") {
            let uri: hyper::Uri = request.target.parse().unwrap_or_else(|error| panic!("{request}: {error}"));
            assert_eq!(uri.to_string(), request.target);
        }
    }
}
