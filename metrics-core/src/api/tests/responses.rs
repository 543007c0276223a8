//! Documents, errors, headers and content negotiation.

use http::{Method, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::protobuf::read;
use super::{BASE, InMemoryRows, PROTOBUF, TABLE, YAML, api, drain, get, request, send};
use crate::api::{Status, request_info, status};

fn aggregated(version: &str) -> String {
    format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
}

#[test]
fn discovery_lists_group_versions_and_resources() {
    let api = api(InMemoryRows::default());
    let groups = get(&api, "/apis", "application/json").json();
    assert_eq!(groups["kind"], "APIGroupList");
    assert_eq!(groups["groups"][0]["versions"][1]["groupVersion"], "metrics.k8s.io/v1beta1");
    assert_eq!(get(&api, "/apis/metrics.k8s.io", "").json()["preferredVersion"]["version"], "v1");
    for version in ["v1", "v1beta1"] {
        let resources = get(&api, &format!("/apis/metrics.k8s.io/{version}"), "").json();
        // As metrics-server returns it for v1beta1.
        let expected = json!({"kind":"APIResourceList","apiVersion":"v1","groupVersion":format!("metrics.k8s.io/{version}"),
            "resources":[
                {"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]},
                {"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}]});
        assert_eq!(resources, expected);
    }
    let paths = get(&api, "/", "").json();
    assert!(paths["paths"].as_array().unwrap().contains(&json!("/apis/metrics.k8s.io/v1beta1")));
    assert!(get(&api, "/version", "").json()["gitVersion"].as_str().unwrap().starts_with('v'));
}

#[test]
fn negotiates_discovery() {
    let api = api(InMemoryRows::default());
    for version in ["v2", "v2beta1"] {
        let response = get(&api, "/apis", &format!("{},application/json", aggregated(version)));
        assert_eq!(response.header("content-type"), aggregated(version));
        assert_eq!(response.header("vary"), "Accept");
        assert_eq!(response.header("cache-control"), "public");
        let document = response.json();
        assert_eq!(document["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
        assert_eq!(document["items"][0]["versions"][1]["resources"][1]["scope"], "Namespaced");
        let again = send(
            &api,
            "GET",
            "/apis",
            &[("accept", &aggregated(version)), ("if-none-match", response.header("etag"))],
        );
        assert_eq!((again.status.as_u16(), again.chunks.len()), (304, 0));
    }
    assert_eq!(get(&api, "/apis", &aggregated("v3")).status, 406);
    // Protobuf omits what JSON has as empty values.
    for (path, accept) in [
        ("/apis", PROTOBUF),
        ("/apis/metrics.k8s.io", PROTOBUF),
        ("/apis/metrics.k8s.io/v1", PROTOBUF),
        ("/apis", &aggregated("v2").replace("application/json", PROTOBUF)),
    ] {
        let json = without_empty(get(&api, path, &accept.replace(PROTOBUF, "application/json")).json());
        let protobuf = without_empty(read(&get(&api, path, accept).bytes()));
        assert_eq!(protobuf, json, "{path}");
    }
    let yaml: Value = serde_saphyr::from_str(&get(&api, "/apis", YAML).text()).unwrap();
    assert_eq!(yaml, get(&api, "/apis", "").json());
}

/// Removes empty and false members, and converts `verbs` and `namespaced` from their protobuf form.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| match (name.as_str(), value) {
                ("verbs", Value::Object(mut verbs)) => (name, verbs.remove("items").unwrap()),
                ("namespaced", Value::Number(_)) => (name, Value::Bool(true)),
                (_, value) => (name, without_empty(value)),
            });
            Value::Object(
                members
                    .filter(|(_, value)| ![json!({}), json!(""), json!(false), json!([])].contains(value))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        value => value,
    }
}

#[test]
fn openapi_documents_are_cached_by_digest() {
    let api = api(InMemoryRows::default());
    let v2 = get(&api, "/openapi/v2", "application/json");
    assert_eq!(v2.json()["swagger"], "2.0");
    let again = send(&api, "GET", "/openapi/v2", &[("if-none-match", v2.header("etag"))]);
    assert_eq!((again.status.as_u16(), again.chunks.len()), (304, 0));
    assert_eq!(send(&api, "GET", "/openapi/v2", &[("if-none-match", "\"x\"")]).status, 200);
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    assert_eq!(get(&api, "/openapi/v2", old).status, 406);
    assert_eq!(get(&api, "/openapi/v2", &format!("{old},application/json")).status, 200);

    let index = get(&api, "/openapi/v3", "").json();
    for version in ["v1", "v1beta1"] {
        let path = format!("apis/metrics.k8s.io/{version}");
        let address = index["paths"][&path]["serverRelativeURL"].as_str().unwrap();
        let document = get(&api, address, "application/json");
        assert_eq!(document.status, 200);
        assert!(document.header("cache-control").starts_with("public, immutable"));
        assert!(address.ends_with(document.header("etag").trim_matches('"')));
        let moved = get(&api, &format!("/openapi/v3/{path}?hash=OLD"), "");
        assert_eq!((moved.status.as_u16(), moved.header("location")), (301, address));
        assert_eq!(
            get(&api, &format!("/openapi/v3/{path}"), "").header("cache-control"),
            "no-cache, private"
        );
    }
}

#[test]
fn failures_are_returned_as_status() {
    let api = api(InMemoryRows::metrics_server_rows());
    for (method, path, code, reason, message) in [
        ("GET", "/nodes/absent", 404, "NotFound", "node \"absent\" not found"),
        ("GET", "/nodes/unmeasured", 404, "NotFound", "nodemetrics.metrics.k8s.io \"unmeasured\" not found"),
        ("GET", "/namespaces/default/pods/absent", 404, "NotFound", "pods \"absent\" not found"),
        (
            "GET",
            "/namespaces/default/pods/unmeasured",
            404,
            "NotFound",
            "podmetrics.metrics.k8s.io \"default/unmeasured\" not found",
        ),
        ("GET", "/pods/one", 404, "NotFound", "the server could not find the requested resource"),
        (
            "GET",
            "/nodes?watch=true&resourceVersion=x",
            400,
            "BadRequest",
            "resourceVersion: \"x\" is not an integer",
        ),
        (
            "DELETE",
            "/nodes/node-1",
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            "GET",
            "/nodes?fieldSelector=spec.x=1",
            400,
            "BadRequest",
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (
            "GET",
            "/nodes?labelSelector=a===b",
            400,
            "BadRequest",
            "unable to parse requirement: found '=', expected: identifier",
        ),
        ("GET", "/nodes?limit=x", 400, "BadRequest", "limit: \"x\" is not an integer"),
    ] {
        let uri = format!("{BASE}{path}");
        let response = send(&api, method, &uri, &[]);
        let body = response.json();
        assert_eq!(response.status.as_u16(), code, "{path}");
        assert_eq!(response.header("content-type"), "application/json");
        assert_eq!(response.header("cache-control"), "no-cache, private");
        assert_eq!(body["kind"], "Status");
        assert_eq!((&body["status"], &body["metadata"]), (&json!("Failure"), &json!({})));
        assert_eq!(
            (&body["reason"], &body["code"], &body["message"]),
            (&json!(reason), &json!(code), &json!(message))
        );
        // kubectl top requests protobuf and must be able to read the failure.
        let protobuf = send(&api, method, &uri, &[("accept", PROTOBUF)]);
        assert_eq!(protobuf.header("content-type"), PROTOBUF);
        assert_eq!(without_empty(read(&protobuf.bytes())), without_empty(body));
    }
}

#[test]
fn returns_406_as_json_for_unsupported_media_types() {
    let api = api(InMemoryRows::metrics_server_rows());
    for (path, accept) in [
        ("/nodes", "text/html"),
        ("/nodes/node-1", "text/html"),
        ("", "text/html"),
        ("/nodes", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"),
        ("/nodes", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
        ("/nodes/node-1", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
    ] {
        let response = get(&api, &format!("{BASE}{path}"), accept);
        assert_eq!(response.status, 406, "{accept}");
        assert_eq!(response.header("content-type"), "application/json");
        assert_eq!(response.json()["reason"], "NotAcceptable");
        assert!(response.text().starts_with("{\n  \""));
    }
    let bad = get(&api, &format!("{BASE}/nodes?includeObject=Foo"), TABLE);
    assert_eq!(bad.status, 400);
    assert!(bad.json()["message"].as_str().unwrap().contains("includeObject: Invalid value: \"Foo\""));
}

#[test]
fn empty_lists_have_an_items_member() {
    let api = api(InMemoryRows::default());
    let pods = get(&api, &format!("{BASE}/pods"), "");
    let expected = "{\"kind\":\"PodMetricsList\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{},\"items\":[]}\n";
    assert_eq!(pods.text(), expected);
    let table = get(&api, &format!("{BASE}/pods"), TABLE).json();
    assert_eq!(table["rows"], json!([]));
    assert_eq!(read(&get(&api, &format!("{BASE}/pods"), PROTOBUF).bytes())["items"], json!([]));
}

#[test]
fn both_api_versions_return_the_same_objects() {
    let api = api(InMemoryRows::metrics_server_rows());
    for path in ["/nodes", "/nodes/node-1", "/pods", "/namespaces/default/pods/one"] {
        let beta = get(&api, &format!("{BASE}{path}"), "").text();
        let stable = get(&api, &format!("/apis/metrics.k8s.io/v1{path}"), "").text();
        assert_eq!(stable, beta.replace("metrics.k8s.io/v1beta1", "metrics.k8s.io/v1"));
    }
}

#[test]
fn unknown_paths_list_the_supported_ones() {
    let api = api(InMemoryRows::default());
    for path in ["/nope", "/apis/apps", "/api", "/apis//metrics.k8s.io/v1beta1/nodes"] {
        let response = get(&api, path, "");
        assert_eq!(response.status, 404);
        assert!(response.json()["paths"].is_array());
    }
}

#[test]
fn encodes_failures_of_other_modules() {
    let uri = format!("{BASE}/namespaces/ns/pods/p");
    let info = request_info(&Method::GET, &uri.parse::<Uri>().unwrap());
    let forbidden = Status::new(403, "Forbidden", "no").about(&info);
    let response = status(&request("GET", &uri, &[]), &forbidden);
    assert_eq!(response.status(), 403);
    let body: Value = serde_json::from_slice(&drain(response.into_body()).concat()).unwrap();
    assert_eq!(body["details"], json!({"name": "p", "group": "metrics.k8s.io", "kind": "pods"}));
    let unauthorized = Status::new(401, "Unauthorized", "Unauthorized");
    let response = status(&request("GET", "/", &[("accept", PROTOBUF)]), &unauthorized);
    assert_eq!(read(&drain(response.into_body()).concat())["code"], 401);
}

proptest! {
    #[test]
    fn responds_to_any_request(
        path in "(/|apis|/apis/metrics.k8s.io|/v1beta1|/v1|/nodes|/pods|/namespaces/default|/one|[a-z?&=%]|limit=|continue=|watch=1|fieldSelector=metadata.name=){0,12}",
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"]),
        accept in prop::sample::select(vec!["", "*/*", YAML, PROTOBUF, TABLE, "text/html"]),
    ) {
        let uri = format!("/{}", path.trim_start_matches('/'));
        prop_assume!(uri.parse::<Uri>().is_ok());
        let response = send(&api(InMemoryRows::metrics_server_rows()), method, &uri, &[("accept", accept)]);
        prop_assert!([200, 301, 304, 400, 404, 405, 406, 422].contains(&response.status.as_u16()));
        prop_assert!(response.headers.contains_key("cache-control"));
    }
}
