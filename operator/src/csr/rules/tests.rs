use super::super::node_names::{CONTROL_PLANE, PartialNode};
use super::*;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

fn node_with(name: &str, addresses: &[&str], labels: &Value, spec: &Value) -> NodeNames {
    let addresses: Vec<_> =
        addresses.iter().map(|address| json!({ "type": "Hostname", "address": address })).collect();
    let node = json!({
        "metadata": { "name": name, "labels": labels }, "spec": spec,
        "status": { "addresses": addresses, "images": [{ "names": ["a"] }] },
    });
    NodeNames::of(&serde_json::from_value::<PartialNode>(node).expect("a Node"))
}

fn node(name: &str, addresses: &[&str]) -> NodeNames {
    node_with(name, addresses, &json!({}), &json!({}))
}

fn control_plane(name: &str, addresses: &[&str]) -> NodeNames {
    node_with(name, addresses, &json!({ CONTROL_PLANE: "" }), &json!({}))
}

fn own() -> NodeNames {
    node("node-1", &["node-1", "Node-1.Example.org", "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.9"])
}

fn request(node: &str, dns_names: &[&str], addresses: &[&str]) -> KubeletRequest {
    KubeletRequest {
        node: node.to_owned(),
        dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    }
}

/// kube-apiserver behind a load balancer and a virtual IP: neither is in any object.
fn api_server() -> ApiServerNames {
    let names = ["kubernetes", "api.example.org", "*.cp.example.org", "10.0.0.100", "2001:db8::100"];
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names.map(str::to_owned)).expect("params");
    let mut api_server = ApiServerNames::default();
    api_server.add_certificate(params.self_signed(&key).expect("a certificate").der()).expect("names");
    api_server.add_host("10.0.0.2");
    api_server
}

fn check_with(allow: Option<&[&str]>, request: &KubeletRequest, node: &NodeNames) -> Result<(), NotApproved> {
    let entries: Option<Vec<String>> =
        allow.map(|entries| entries.iter().map(|entry| (*entry).to_owned()).collect());
    let allow_list = AllowList::parse(entries.as_deref()).expect("a list");
    let networks = ["10.96.0.0/12", "fd00:10:96::/112"];
    let networks: Vec<_> = networks
        .iter()
        .map(|network| ("kubernetes".to_owned(), Network::parse(network).expect("a network")))
        .collect();
    let api_server = api_server();
    Rules { allow_list: &allow_list, api_server: &api_server, service_networks: &networks }
        .check(request, node)
}

fn code(request: &KubeletRequest, node: &NodeNames) -> Option<&'static str> {
    check_with(None, request, node).err().map(|error| error.code())
}

#[test]
fn accepts_names_in_the_status_of_the_node() {
    let all =
        request("node-1", &["node-1", "node-1.example.org"], &["10.0.0.1", "2001:db8:0::1", "10.0.0.9"]);
    assert_eq!(check_with(None, &all, &own()), Ok(()));
    assert_eq!(check_with(None, &request("node-1", &[], &["10.0.0.1"]), &own()), Ok(()));
    // --hostname-override=192.0.2.7
    let by_address = request("192.0.2.7", &[], &["192.0.2.7"]);
    assert_eq!(check_with(None, &by_address, &node("192.0.2.7", &["192.0.2.7"])), Ok(()));
}

#[test]
fn rejects_names_outside_of_the_node_status() {
    for (dns_names, addresses) in [
        (&["node-2"] as &[&str], &[] as &[&str]),
        (&["node-1", "example.org"], &["10.0.0.1"]),
        (&[], &["10.0.0.1", "10.0.0.3"]),
        // Not even kube-apiserver's: it must be listed.
        (&["api.example.org"], &[]),
    ] {
        let request = request("node-1", dns_names, addresses);
        assert_eq!(code(&request, &own()), Some("not_in_node_status"), "{request:?}");
    }
}

/// A compromised kubelet writes the addresses of its Node, so they may include those of kube-apiserver.
#[test]
fn rejects_names_of_kube_apiserver_for_workers() {
    for name in ["kubernetes", "api.example.org", "node-1.cp.example.org"] {
        let of_name = request("node-1", &[name], &[]);
        assert_eq!(code(&of_name, &node("node-1", &[name])), Some("api_server"), "{name}");
        assert_eq!(code(&of_name, &control_plane("node-1", &[name])), None, "{name}");
        assert_eq!(code(&of_name, &control_plane("node-1", &[])), Some("not_in_node_status"), "{name}");
    }
    for address in ["10.0.0.100", "2001:db8::100", "10.0.0.2"] {
        let of_address = request("node-1", &["node-1"], &[address]);
        let listed = ["node-1", address];
        assert_eq!(code(&of_address, &node("node-1", &listed)), Some("api_server"), "{address}");
        assert_eq!(code(&of_address, &control_plane("node-1", &listed)), None, "{address}");
    }
    let error = check_with(None, &request("node-1", &["kubernetes"], &[]), &node("node-1", &["kubernetes"]));
    let text = error.expect_err("an error").to_string();
    assert!(text.contains("kube-apiserver") && text.contains(CONTROL_PLANE), "{text}");
}

#[test]
fn rejects_addresses_of_services_for_every_node() {
    for address in ["10.96.0.1", "10.111.255.255", "fd00:10:96::1"] {
        for node in [node("node-1", &[address]), control_plane("node-1", &[address])] {
            assert_eq!(code(&request("node-1", &[], &[address]), &node), Some("network"), "{address}");
        }
    }
    assert_eq!(code(&request("node-1", &[], &["10.112.0.1"]), &node("node-1", &["10.112.0.1"])), None);
}

#[test]
fn rejects_what_the_administrator_does_not_allow() {
    let all = request("node-1", &["node-1"], &["10.0.0.1"]);
    assert_eq!(check_with(Some(&["10.0.0.0/16", "node-*"]), &all, &own()), Ok(()));
    for (allow, name) in [
        (&["10.0.0.0/16"] as &[&str], "node-1"),
        (&["node-*"], "10.0.0.1"),
        (&["10.1.0.0/16", "node-*"], "10.0.0.1"),
        (&["10.0.0.0/16", "*.example.org"], "node-1"),
    ] {
        let verdict = check_with(Some(allow), &all, &own());
        assert_eq!(verdict, Err(NotApproved::NotInAllowList(name.to_owned())), "{allow:?}");
    }
    // The list allows nothing that the other rules reject.
    let listed = node("node-1", &["kubernetes", "10.96.0.1"]);
    let verdict = |request: &KubeletRequest| check_with(Some(&["*", "0.0.0.0/0"]), request, &listed);
    assert!(matches!(verdict(&request("node-1", &["kubernetes"], &[])), Err(NotApproved::ApiServer { .. })));
    assert!(matches!(verdict(&request("node-1", &[], &["10.96.0.1"])), Err(NotApproved::Network { .. })));
    assert!(verdict(&request("node-1", &["other"], &[])).is_err());
}

fn conflicts(requests: &[KubeletRequest], nodes: &[NodeNames]) -> Vec<Option<NotApproved>> {
    let mut conflicts = NodeConflicts::of(requests.iter().collect());
    for node in nodes {
        conflicts.add(node);
    }
    conflicts.end()
}

#[test]
fn finds_names_and_addresses_of_other_nodes() {
    let requests = [
        request("node-1", &["node-1"], &["10.0.0.1"]),
        request("node-2", &["node-2"], &["10.0.0.2"]),
        request("node-3", &["node-1"], &[]),
    ];
    let shared = |name: &str, node: &str| {
        Some(NotApproved::Shared { name: name.to_owned(), owner: format!("Node {node}") })
    };
    let alone = [node("node-1", &["10.0.0.1"]), node("node-2", &["node-2", "10.0.0.2"])];
    // A Node's name belongs to it even if it is not in its status.addresses.
    assert_eq!(conflicts(&requests, &alone), [None, None, shared("node-1", "node-1")]);
    for other in ["10.0.0.1", "::ffff:10.0.0.1"] {
        let nodes = [alone[0].clone(), alone[1].clone(), node("node-9", &[other])];
        let found = conflicts(&requests, &nodes);
        assert_eq!(found, [shared("10.0.0.1", "node-9"), None, shared("node-1", "node-1")]);
    }
    let nodes = [alone[0].clone(), node("node-9", &["NODE-2."])];
    assert_eq!(conflicts(&requests, &nodes)[1], shared("node-2", "node-9"));
}

#[test]
fn finds_addresses_in_the_pod_networks_of_any_node() {
    let spec = json!({ "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"] });
    let with_pods = node_with("node-1", &["10.0.0.1"], &json!({}), &spec);
    for address in ["10.244.1.7", "fd00:10:244:1::7"] {
        for of in ["node-1", "node-2"] {
            let found = conflicts(&[request(of, &[], &[address])], std::slice::from_ref(&with_pods));
            assert!(
                matches!(&found[0], Some(NotApproved::Network { name, owner })
                    if name == address && owner.contains("podCIDRs of Node node-1")),
                "{found:?}"
            );
        }
    }
    assert_eq!(conflicts(&[request("node-1", &[], &["10.244.2.1"])], &[with_pods]), [None]);
}

proptest::proptest! {
    /// Whatever a kubelet claims, nothing of kube-apiserver, of Services or of other Nodes passes on a worker.
    #[test]
    fn no_claim_of_a_worker_passes_for_what_is_not_its_own(
        claimed in proptest::collection::vec(0_usize..8, 1..6),
        own in proptest::bool::ANY,
    ) {
        let foreign =
            ["kubernetes", "api.example.org", "x.cp.example.org", "10.0.0.100", "10.96.0.10", "10.0.0.2", "node-2", "10.0.0.22"];
        let mut listed: Vec<&str> = claimed.iter().map(|at| foreign[*at]).collect();
        if own {
            listed.push("10.0.0.1");
        }
        let (addresses, dns_names): (Vec<&str>, Vec<&str>) =
            listed.iter().partition(|name| name.parse::<IpAddr>().is_ok());
        let request = request("node-1", &dns_names, &addresses);
        let (own, other) = (node("node-1", &listed), node("node-2", &["node-2", "10.0.0.22"]));
        let alone = check_with(None, &request, &own);
        let found = conflicts(std::slice::from_ref(&request), &[own, other]);
        proptest::prop_assert!(alone.is_err() || found[0].is_some(), "{:?}", request);
    }
}
