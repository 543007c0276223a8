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

fn owners() -> NameOwners {
    let mut owners = NameOwners::default();
    owners.add_node(&node(
        "node-1",
        &[
            ("Hostname", "node-1"),
            ("InternalDNS", "Node-1.Example.org"),
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "2001:db8::1"),
        ],
        &json!({}),
    ));
    owners
}

fn request(node: &str, dns_names: &[&str], addresses: &[&str]) -> KubeletRequest {
    KubeletRequest {
        node: node.to_owned(),
        dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    }
}

fn code(owners: &NameOwners, dns_names: &[&str], addresses: &[&str]) -> &'static str {
    owners.check(&request("node-1", dns_names, addresses)).expect_err("an error").code()
}

#[test]
fn accepts_names_of_the_node_alone() {
    let all = request("node-1", &["node-1", "node-1.example.org"], &["10.0.0.1", "2001:db8:0::1"]);
    assert_eq!(owners().check(&all), Ok(()));
    assert_eq!(owners().check(&request("node-1", &[], &["10.0.0.1"])), Ok(()));
}

#[test]
fn rejects_names_outside_of_the_node_status() {
    assert_eq!(code(&owners(), &["node-2"], &[]), "not_in_node_status");
    assert_eq!(code(&owners(), &["node-1", "example.org"], &["10.0.0.1"]), "not_in_node_status");
    assert_eq!(code(&owners(), &[], &["10.0.0.1", "10.0.0.2"]), "not_in_node_status");
    let unknown = owners().check(&request("node-9", &["node-1"], &[]));
    assert_eq!(unknown, Err(NotApproved::UnknownNode("node-9".to_owned())));
}

/// A kubelet writes its Node's addresses, so they may include those of other objects.
#[test]
fn rejects_names_of_other_nodes() {
    for other in [
        node("node-2", &[("InternalIP", "10.0.0.1")], &json!({})),
        node("node-2", &[("ExternalIP", "::ffff:10.0.0.1")], &json!({})),
    ] {
        let mut owners = owners();
        owners.add_node(&other);
        assert_eq!(code(&owners, &["node-1"], &["10.0.0.1"]), "shared");
        assert_eq!(owners.check(&request("node-1", &["node-1"], &[])), Ok(()), "not shared");
    }
    let mut owners = NameOwners::default();
    owners.add_node(&node("node-1", &[("Hostname", "node-2")], &json!({})));
    owners.add_node(&node("node-2", &[], &json!({})));
    assert_eq!(code(&owners, &["node-2"], &[]), "shared", "another Node's name");
}

#[test]
fn rejects_names_of_services() {
    for (spec, status) in [
        (json!({ "clusterIP": "10.0.0.1" }), json!({})),
        (json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "10.0.0.1"] }), json!({})),
        (json!({ "externalIPs": ["10.0.0.1"] }), json!({})),
        (json!({ "loadBalancerIP": "10.0.0.1" }), json!({})),
        (json!({}), json!({ "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } })),
    ] {
        let mut owners = owners();
        owners.add_service(&service("web", "default", &spec, &status));
        assert_eq!(code(&owners, &[], &["10.0.0.1"]), "shared", "{spec} {status}");
        assert_eq!(owners.check(&request("node-1", &[], &["2001:db8::1"])), Ok(()));
    }
    let with_name = |dns_name: &str, service: &Service| {
        let mut owners = NameOwners::default();
        owners.add_node(&node("node-1", &[("Hostname", dns_name)], &json!({})));
        owners.add_service(service);
        owners.check(&request("node-1", &[dns_name], &[])).map_err(|error| error.code())
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
fn accepts_addresses_of_kube_apiserver_for_control_plane_nodes_only() {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "addressType": "IPv4", "metadata": { "name": "kubernetes" }, "endpoints": [{ "addresses": ["10.0.0.1"] }],
    }))
    .expect("a slice");
    let mut owners = owners();
    owners.add_apiserver(&slice);
    assert_eq!(code(&owners, &[], &["10.0.0.1"]), "shared");
    owners.add_node(&node("node-1", &[("InternalIP", "10.0.0.1")], &json!({ CONTROL_PLANE: "" })));
    assert_eq!(owners.check(&request("node-1", &[], &["10.0.0.1"])), Ok(()));
}
