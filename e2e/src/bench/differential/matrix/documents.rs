//! Requests for discovery, OpenAPI, health checks and metrics, other methods, and paths that do not exist.

use super::{AGGREGATED, JSON, Matrix, PROTOBUF, TABLE, User, YAML};

pub(super) fn documents(matrix: &mut Matrix) {
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

pub(super) fn methods(matrix: &mut Matrix) {
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
            matrix.add(User::Admin, method, target, &[]);
        }
    }
}

/// Adds paths that do not exist, or almost exist.
pub(super) fn paths(matrix: &mut Matrix) {
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
