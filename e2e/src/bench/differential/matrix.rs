//! The requests that both servers are asked.

use std::fmt;

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum User {
    /// An administrator with a client certificate.
    Admin,
    /// A client certificate without any right.
    Jane,
    /// Nobody.
    Anonymous,
    /// A certificate of an authority that nobody knows.
    Stranger,
    /// The API server as the front proxy, speaking for the user in the headers.
    FrontProxy,
    /// A certificate of the front proxy's authority with a name that is not allowed.
    OtherProxy,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub user: User,
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

impl fmt::Display for Request {
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

/// The Accept headers for objects; an empty one is not sent.
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

struct Matrix(Vec<Request>);

impl Matrix {
    fn ask(&mut self, user: User, method: &'static str, target: &str, headers: &[(&str, &str)]) {
        let headers = headers.iter().filter(|(_, value)| !value.is_empty());
        self.0.push(Request {
            user,
            method,
            target: target.to_owned(),
            headers: headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        });
    }

    fn get(&mut self, target: &str, accept: &str) {
        self.ask(User::Admin, "GET", target, &[("Accept", accept)]);
    }
}

/// All requests; `node` is the real node, `pod` a pod on it.
#[must_use]
pub fn requests(node: &str, pod: &str) -> Vec<Request> {
    let mut matrix = Matrix(Vec::new());
    objects(&mut matrix, node, pod);
    selectors(&mut matrix);
    options(&mut matrix);
    documents(&mut matrix);
    methods(&mut matrix);
    paths(&mut matrix);
    users(&mut matrix);
    matrix.0
}

/// Every form of every kind of answer.
fn objects(matrix: &mut Matrix, node: &str, pod: &str) {
    for target in [
        "/nodes",
        "/nodes/fake-a",
        "/nodes/none-such",
        "/nodes/fake-500",
        "/pods",
        "/namespaces/team-a/pods",
        "/namespaces/team-a/pods/web-1",
        "/namespaces/team-a/pods/none-such",
        "/namespaces/team-b/pods/unmeasured",
        "/namespaces/none-such/pods",
    ] {
        for accept in ACCEPTS {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for target in [format!("/nodes/{node}"), format!("/namespaces/team-a/pods/{pod}")] {
        for accept in [JSON, YAML, PROTOBUF, TABLE] {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for name in ["pending", "done", "failed", "job-0"] {
        matrix.get(&format!("{BASE}/namespaces/team-b/pods/{name}"), JSON);
    }
    for target in [
        "/namespaces/edges/pods",
        "/namespaces/team-b/pods",
        "/namespaces/edge-cases/pods",
        "/namespaces/crowd/pods",
    ] {
        for accept in [JSON, PROTOBUF, TABLE] {
            matrix.get(&format!("{BASE}{target}"), accept);
        }
    }
    for include in ["None", "Metadata", "Object", "Nonsense", ""] {
        matrix.get(
            &format!("{BASE}/nodes?fieldSelector=metadata.name%3Dfake-a&includeObject={include}"),
            TABLE,
        );
        matrix.get(&format!("{BASE}/namespaces/team-a/pods/web-1?includeObject={include}"), TABLE);
    }
    // Clients that show JSON to people.
    for agent in ["curl/8.0", "Wget/1.21", "Mozilla/5.0 (X11; Linux x86_64)", "kubectl/v1.36.3", ""] {
        matrix.ask(User::Admin, "GET", &format!("{BASE}/nodes/fake-a"), &[("User-Agent", agent)]);
    }
    for pretty in ["true", "false", "1", "0", "", "yes"] {
        matrix.get(&format!("{BASE}/nodes/fake-a?pretty={pretty}"), JSON);
    }
    matrix.get(&format!("{BASE}/nodes/fake-a?pretty=true"), YAML);
}

fn selectors(matrix: &mut Matrix) {
    for selector in [
        "app=web",
        "app==web",
        "app!=web",
        "app%20in%20(web,job)",
        "app%20in%20(web)",
        "app%20notin%20(web)",
        "app",
        "!app",
        "app=web,tier=front",
        "app=web,tier!=front",
        "app=,tier",
        "example.com/owner=team-b",
        "version=v1.2",
        "app=none-such",
        "",
        "%20app%20=%20web%20",
        "app%20in%20()",
        "app%20in%20(,web)",
        "app%3Dweb%2Ctier",
        "app%3E1",
        "version%3C2",
        // Faults.
        "!",
        "app%20in%20web",
        "app%20in%20(web",
        "=web",
        ",",
        "app=web,",
        "app=-bad-",
        "a/b/c=d",
        "UPPER.case/x=y",
        "app=a%20b",
        "app%20inn%20(web)",
        "app=web;tier=front",
        "app%3E%3Dx",
        "app%3Ex",
        "%00",
        "app=%C3%A9",
    ] {
        matrix.get(&format!("{BASE}/pods?labelSelector={selector}"), JSON);
    }
    for selector in ["fleet=fake", "fleet!=fake", "kubernetes.io/hostname=fake-a", "fleet%20in%20(x)"] {
        for accept in [JSON, TABLE, PROTOBUF] {
            matrix.get(&format!("{BASE}/nodes?labelSelector={selector}"), accept);
        }
    }
    for selector in [
        "metadata.name=web-0",
        "metadata.name==web-0",
        "metadata.name!=web-0",
        "metadata.namespace=team-a",
        "metadata.namespace!=team-a",
        "metadata.name=web-0,metadata.namespace=team-a",
        "metadata.name=web-0,metadata.namespace=team-b",
        "metadata.name=",
        "",
        // Faults.
        "spec.nodeName=fake-a",
        "status.phase=Running",
        "metadata.labels=x",
        "metadata.name",
        "=",
        ",",
        "metadata.name=a,",
        "metadata.name=a%5C,b",
        "metadata.name%20in%20(a)",
        "%20metadata.name%20=%20web-0",
    ] {
        matrix.get(&format!("{BASE}/pods?fieldSelector={selector}"), JSON);
        matrix.get(&format!("{BASE}/namespaces/team-a/pods?fieldSelector={selector}"), JSON);
    }
    for selector in
        ["metadata.name=fake-a", "metadata.name!=fake-a", "metadata.namespace=x", "spec.unschedulable=true"]
    {
        matrix.get(&format!("{BASE}/nodes?fieldSelector={selector}"), JSON);
    }
    matrix.get(&format!("{BASE}/pods?labelSelector=app%3Dweb&fieldSelector=metadata.name%3Dweb-1"), JSON);
    matrix.get(&format!("{BASE}/pods?labelSelector=app%3Dweb&labelSelector=app%3Djob"), JSON);
    // Selectors do not count when one object is asked for.
    matrix.get(&format!("{BASE}/nodes/fake-a?labelSelector=a%3Db"), JSON);
    matrix.get(&format!("{BASE}/nodes/fake-a?labelSelector=!"), JSON);
}

fn options(matrix: &mut Matrix) {
    for query in [
        "limit=0",
        "limit=1000",
        "limit=-1",
        "limit=many",
        "limit=99999999999999999999",
        "limit=1&continue=nonsense",
        "resourceVersion=0",
        "resourceVersion=5",
        "resourceVersion=nonsense",
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan&resourceVersion=0",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Nonsense&resourceVersion=1",
        "timeoutSeconds=30",
        "timeoutSeconds=x",
        "sendInitialEvents=true",
        "allowWatchBookmarks=true",
        "watch=false",
        "watch=0",
        "watch=true&timeoutSeconds=1",
        "watch=1&timeoutSeconds=1",
        "watch=nonsense&timeoutSeconds=1",
        "unknown=parameter",
        "timeout=5s",
        "timeout=nonsense",
    ] {
        matrix.get(&format!("{BASE}/namespaces/team-a/pods?{query}"), JSON);
    }
    matrix.get(&format!("{BASE}/namespaces/team-a/pods?limit=1"), JSON);
    matrix.get(&format!("{BASE}/nodes/fake-a?resourceVersion=7"), JSON);
    matrix.get(&format!("{BASE}/watch/nodes?timeoutSeconds=1"), JSON);
}

fn documents(matrix: &mut Matrix) {
    for target in ["/apis", "/apis/metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1"] {
        for accept in [
            "",
            "*/*",
            JSON,
            YAML,
            PROTOBUF,
            "application/vnd.kubernetes.protobuf, */*",
            TABLE,
            "text/html",
            "application/cbor",
        ] {
            matrix.get(target, accept);
        }
        matrix.get(&format!("{target}/"), JSON);
        matrix.get(&format!("{target}?pretty=true"), JSON);
    }
    for accept in [
        AGGREGATED,
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
        "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=Nonsense",
    ] {
        matrix.get("/apis", accept);
        matrix.get("/apis/metrics.k8s.io", accept);
    }
    for target in [
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/apis/metrics.k8s.io/v1beta1",
        "/openapi/v3/apis/none-such/v1",
        "/openapi/v3/apis",
        "/openapi/v3/version",
    ] {
        for accept in
            ["", "*/*", JSON, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "text/html"]
        {
            matrix.get(target, accept);
        }
    }
    for target in ["/version", "/version/", "/", "/healthz", "/livez", "/readyz"] {
        for accept in ["", JSON, YAML, "text/plain"] {
            matrix.get(target, accept);
        }
    }
    for target in [
        "/healthz?verbose",
        "/livez?verbose",
        "/readyz?verbose",
        "/healthz/ping",
        "/livez/ping",
        "/readyz/ping",
        "/livez/none-such",
        "/metrics",
        "/metrics/",
        "/metrics/slis",
        "/debug/pprof/",
        "/swagger.json",
        "/openapi/v1",
        "/index.html",
        "/favicon.ico",
        "/flagz",
        "/statusz",
        "/configz",
        "/debug/flags/v",
    ] {
        matrix.get(target, "");
    }
}

fn methods(matrix: &mut Matrix) {
    for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for target in [
            "/apis/metrics.k8s.io/v1beta1/nodes",
            "/apis/metrics.k8s.io/v1beta1/nodes/fake-a",
            "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/web-0",
            "/apis/metrics.k8s.io/v1beta1",
            "/apis",
            "/version",
            "/openapi/v2",
            "/livez",
            "/metrics",
            "/none-such",
        ] {
            matrix.ask(User::Admin, method, target, &[]);
        }
    }
}

/// Paths that are none, or nearly one.
fn paths(matrix: &mut Matrix) {
    for target in [
        "/api",
        "/api/v1",
        "/api/v1/pods",
        "/apis/apps/v1/deployments",
        "/apis/metrics.k8s.io/v2",
        "/apis/metrics.k8s.io/v1beta1/services",
        "/apis/metrics.k8s.io/v1beta1/pods/web-0",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a",
        "/apis/metrics.k8s.io/v1beta1/namespaces",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/nodes",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/web-0/log",
        "/apis/metrics.k8s.io/v1beta1/nodes/fake-a/status",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/",
        "/apis/metrics.k8s.io/v1beta1/nodes/",
        "/apis/metrics.k8s.io/v1beta1//nodes",
        "//apis/metrics.k8s.io/v1beta1/nodes",
        "/apis/metrics.k8s.io/v1beta1/namespaces//pods",
        "/apis/metrics.k8s.io/v1beta1/nodes/../pods",
        "/apis/metrics.k8s.io/v1beta1/nodes/fake%2Da",
        "/apis/metrics.k8s.io/v1beta1/nodes/fake%2Fa",
        "/apis/metrics.k8s.io/v1beta1/nodes/%20",
        "/apis/metrics.k8s.io/v1beta1/nodes/UPPER",
        "/apis/metrics.k8s.io/v1beta1/proxy/nodes/fake-a",
        "/none-such",
        "/APIS",
    ] {
        matrix.get(target, JSON);
    }
}

fn users(matrix: &mut Matrix) {
    let targets = [
        "/apis/metrics.k8s.io/v1beta1/nodes/fake-a",
        "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods",
        "/apis/metrics.k8s.io/v1beta1/pods?watch=1&timeoutSeconds=1",
        "/apis",
        "/metrics",
        "/livez",
        "/none-such",
        "/",
    ];
    for target in targets {
        for user in [User::Anonymous, User::Jane, User::Stranger, User::OtherProxy] {
            matrix.ask(user, "GET", target, &[]);
        }
        matrix.ask(User::Anonymous, "GET", target, &[("Authorization", "Bearer none")]);
    }
    let target = targets[0];
    let user = ("X-Remote-User", "jane");
    let masters = ("X-Remote-Group", "system:masters");
    for (who, headers) in [
        (User::FrontProxy, &[] as &[_]),
        (User::FrontProxy, &[user]),
        (User::FrontProxy, &[user, masters]),
        (User::FrontProxy, &[user, ("X-Remote-Group", "a"), masters]),
        (User::FrontProxy, &[user, masters, ("X-Remote-Extra-Scopes", "x")]),
        (User::FrontProxy, &[masters]),
        (User::FrontProxy, &[user, ("Authorization", "Bearer none")]),
        (User::FrontProxy, &[("X-Remote-User", "system:serviceaccount:team-a:default")]),
        (User::Anonymous, &[user, masters]),
        (User::Jane, &[("X-Remote-User", "admin"), masters]),
        (User::Stranger, &[user, masters]),
        (User::OtherProxy, &[user, masters]),
        (User::Anonymous, &[("Authorization", "Basic YTpi")]),
        (User::Anonymous, &[("Authorization", "Bearer ")]),
        (User::Anonymous, &[("Authorization", "bearer none")]),
        (User::Anonymous, &[("Impersonate-User", "admin")]),
        (User::Admin, &[("Authorization", "Bearer none")]),
        (User::Admin, &[("Impersonate-User", "jane")]),
    ] {
        matrix.ask(who, "GET", target, headers);
    }
    // A refusal in the encoding that was asked for.
    for accept in [YAML, PROTOBUF, TABLE, "text/html"] {
        matrix.ask(User::Jane, "GET", target, &[("Accept", accept)]);
        matrix.ask(User::Stranger, "GET", target, &[("Accept", accept)]);
    }
    for (method, target) in [
        ("POST", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ("DELETE", "/apis/metrics.k8s.io/v1beta1/nodes/fake-a"),
        ("PATCH", "/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/web-0"),
        ("HEAD", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ("GET", "/apis/metrics.k8s.io/v1beta1/nodes/fake-a/status"),
        ("GET", "/apis/metrics.k8s.io/v1beta1/services"),
    ] {
        matrix.ask(User::Jane, method, target, &[]);
    }
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
