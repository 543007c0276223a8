use super::*;
use serde_json::{Value, json};

fn node(name: &str, addresses: &[(&str, &str)], labels: &Value) -> Node {
    let addresses: Vec<_> =
        addresses.iter().map(|(kind, address)| json!({ "type": kind, "address": address })).collect();
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": labels }, "status": { "addresses": addresses },
    }))
    .expect("a Node")
}

fn service(name: &str, namespace: &str, spec: &Value, status: &Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": namespace }, "spec": spec, "status": status,
    }))
    .expect("a Service")
}

fn claims() -> Claims {
    let mut claims = Claims::default();
    claims.add_node(&node(
        "node-1",
        &[
            ("Hostname", "node-1"),
            ("InternalDNS", "Node-1.Example.org"),
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "2001:db8::1"),
        ],
        &json!({}),
    ));
    claims
}

fn request(node: &str, dns_names: &[&str], addresses: &[&str]) -> Request {
    Request {
        node: node.to_owned(),
        dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    }
}

fn code(claims: &Claims, dns_names: &[&str], addresses: &[&str]) -> &'static str {
    claims.judge(&request("node-1", dns_names, addresses)).expect_err("a refusal").code()
}

#[test]
fn what_is_the_nodes_alone_is_granted() {
    let all = request("node-1", &["node-1", "node-1.example.org"], &["10.0.0.1", "2001:db8:0::1"]);
    assert_eq!(claims().judge(&all), Ok(()));
    assert_eq!(claims().judge(&request("node-1", &[], &["10.0.0.1"])), Ok(()));
}

#[test]
fn what_is_not_the_nodes_is_refused() {
    assert_eq!(code(&claims(), &["node-2"], &[]), "not_the_nodes");
    assert_eq!(code(&claims(), &["node-1", "example.org"], &["10.0.0.1"]), "not_the_nodes");
    assert_eq!(code(&claims(), &[], &["10.0.0.1", "10.0.0.2"]), "not_the_nodes");
    let unknown = claims().judge(&request("node-9", &["node-1"], &[]));
    assert_eq!(unknown, Err(Refusal::UnknownNode("node-9".to_owned())));
}

/// A kubelet writes its own Node's addresses, so it may claim anybody's.
#[test]
fn what_is_somebody_elses_too_is_refused() {
    for other in [
        node("node-2", &[("InternalIP", "10.0.0.1")], &json!({})),
        node("node-2", &[("ExternalIP", "::ffff:10.0.0.1")], &json!({})),
    ] {
        let mut claims = claims();
        claims.add_node(&other);
        assert_eq!(code(&claims, &["node-1"], &["10.0.0.1"]), "shared");
        assert_eq!(
            claims.judge(&request("node-1", &["node-1"], &[])),
            Ok(()),
            "what is not shared is granted"
        );
    }
    let mut claims = Claims::default();
    claims.add_node(&node("node-1", &[("Hostname", "node-2")], &json!({})));
    claims.add_node(&node("node-2", &[], &json!({})));
    assert_eq!(code(&claims, &["node-2"], &[]), "shared", "another Node's name");
}

#[test]
fn what_is_a_services_is_refused() {
    for (spec, status) in [
        (json!({ "clusterIP": "10.0.0.1" }), json!({})),
        (json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "10.0.0.1"] }), json!({})),
        (json!({ "externalIPs": ["10.0.0.1"] }), json!({})),
        (json!({ "loadBalancerIP": "10.0.0.1" }), json!({})),
        (json!({}), json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } })),
    ] {
        let mut claims = claims();
        claims.add_service(&service("web", "default", &spec, &status));
        assert_eq!(code(&claims, &[], &["10.0.0.1"]), "shared", "{spec} {status}");
        assert_eq!(claims.judge(&request("node-1", &[], &["2001:db8::1"])), Ok(()));
    }
    let with_name = |dns_name: &str, service: &Service| {
        let mut claims = Claims::default();
        claims.add_node(&node("node-1", &[("Hostname", dns_name)], &json!({})));
        claims.add_service(service);
        claims.judge(&request("node-1", &[dns_name], &[])).map_err(|refusal| refusal.code())
    };
    let web = service("web", "default", &json!({ "clusterIP": "None" }), &json!({}));
    for name in ["web", "web.default", "web-0.web.default"] {
        assert_eq!(with_name(name, &web), Err("shared"), "{name}");
    }
    assert_eq!(with_name("web.example", &web), Ok(()));
    let external = service("db", "default", &json!({ "externalName": "DB.example.org." }), &json!({}));
    assert_eq!(with_name("db.example.org", &external), Err("shared"));
    let balanced = service(
        "lb",
        "default",
        &json!({}),
        &json!({ "loadBalancer": { "ingress": [{ "hostname": "lb.example.org" }] } }),
    );
    assert_eq!(with_name("lb.example.org", &balanced), Err("shared"));
}

#[test]
fn kube_apiservers_addresses_are_for_control_plane_nodes() {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "addressType": "IPv4", "metadata": { "name": "kubernetes" }, "endpoints": [{ "addresses": ["10.0.0.1"] }],
    }))
    .expect("a slice");
    let mut claims = claims();
    claims.add_apiserver(&slice);
    assert_eq!(code(&claims, &[], &["10.0.0.1"]), "shared");
    claims.add_node(&node("node-1", &[("InternalIP", "10.0.0.1")], &json!({ CONTROL_PLANE: "" })));
    assert_eq!(claims.judge(&request("node-1", &[], &["10.0.0.1"])), Ok(()));
}
