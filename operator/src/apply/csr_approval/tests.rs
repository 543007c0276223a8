use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::csr::PendingRequests;
use crate::csr::for_test::{malformed, request};

/// A cluster that responds to what the csr_approver requests, and records it.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: Vec<Value>,
    csrs: BTreeMap<String, CertificateSigningRequest>,
    /// Pods by address.
    pods: BTreeMap<String, Value>,
    service_cidrs: Vec<&'static str>,
    /// The EndpointSlice that kube-apiserver writes.
    slice: Option<Value>,
    requests: Vec<String>,
    approved: Vec<Value>,
    /// Status codes of the next responses; 0 for no failure.
    failures: VecDeque<u16>,
}

impl Cluster {
    fn new(nodes: &[Value]) -> Self {
        let cluster = Self::default();
        let mut state = cluster.0.lock();
        state.nodes = nodes.to_vec();
        state.service_cidrs = vec!["10.96.0.0/12"];
        drop(state);
        cluster
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let (code, value) = cluster.0.lock().respond(&parts, &body);
                let mut response = Response::new(Body::from(value.to_string().into_bytes()));
                *response.status_mut() = code.try_into().expect("a code");
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "ns")
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().requests)
    }

    /// Adds pending requests. Returns them as the observer does.
    fn pending(&self, csrs: &[CertificateSigningRequest]) -> Vec<PendingRequest> {
        let mut pending = PendingRequests::default();
        for csr in csrs {
            pending.apply(csr);
            self.0.lock().csrs.insert(csr.metadata.name.clone().expect("a name"), csr.clone());
        }
        pending.iter().cloned().collect()
    }
}

impl State {
    fn respond(&mut self, parts: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        self.requests.push(format!("{} {path}?{query}", parts.method));
        if let Some(code) = self.failures.pop_front().filter(|code| *code != 0) {
            let status = json!({ "kind": "Status", "status": "Failure", "code": code, "message": "failed", "reason": "X" });
            return (code, status);
        }
        let missing = || {
            let status = json!({ "kind": "Status", "status": "Failure", "code": 404, "message": "not found", "reason": "NotFound" });
            (404, status)
        };
        let found = |found: Option<Value>| found.map_or_else(missing, |found| (200, found));
        let list = |kind: &str, items: Value, next: &str| {
            let metadata = json!({ "resourceVersion": "9", "continue": next });
            (200, json!({ "kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items }))
        };
        match path.split('/').skip(1).collect::<Vec<_>>()[..] {
            ["api", "v1", "nodes"] => {
                let parameter = |name: &str| {
                    let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
                    pair.and_then(|value| value.parse::<usize>().ok())
                };
                let (from, limit) =
                    (parameter("continue").unwrap_or(0), parameter("limit").expect("a limit"));
                let end = (from + limit).min(self.nodes.len());
                let next = if end < self.nodes.len() { end.to_string() } else { String::new() };
                list("NodeList", json!(self.nodes[from..end]), &next)
            }
            ["api", "v1", "nodes", name] => {
                found(self.nodes.iter().find(|node| node["metadata"]["name"] == name).cloned())
            }
            ["api", "v1", "pods"] => {
                let query = query.replace("%3D", "=").replace("%2C", ",").replace("%21", "!");
                assert!(
                    query.contains("spec.hostNetwork=false") && query.contains("phase!=Failed"),
                    "{query}"
                );
                let pods =
                    self.pods.iter().filter(|(address, _)| query.contains(&format!("podIP={address},")));
                list("PartialObjectMetadataList", pods.map(|(_, pod)| pod.clone()).collect(), "")
            }
            ["apis", "networking.k8s.io", "v1", "servicecidrs"] => {
                let cidrs: Vec<_> = self
                    .service_cidrs
                    .iter()
                    .map(|cidr| json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": [cidr] } }))
                    .collect();
                list("ServiceCIDRList", json!(cidrs), "")
            }
            ["apis", "discovery.k8s.io", "v1", "namespaces", "default", "endpointslices", "kubernetes"] => {
                found(self.slice.clone())
            }
            ["apis", "certificates.k8s.io", "v1", "certificatesigningrequests", name] => {
                found(self.csrs.get(name).map(|csr| serde_json::to_value(csr).expect("a request")))
            }
            ["apis", "certificates.k8s.io", "v1", "certificatesigningrequests", _, "approval"] => {
                assert_eq!(parts.method, Method::PUT);
                let approved: Value = serde_json::from_slice(body).expect("a request");
                self.approved.push(approved.clone());
                (200, approved)
            }
            _ => panic!("{path}"),
        }
    }
}

/// The CA of kube-apiserver, and servers with its certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// Serves a certificate with these names on an address of the loopback network. Returns the port.
    async fn serve(&self, address: &str, names: &[&str]) -> u16 {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("params");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a configuration");
        let listener = TcpListener::bind((address, 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                _ = acceptor.accept(stream).await;
            }
        });
        port
    }

    /// Returns a configuration for a server of this CA.
    fn servers(&self, host: &str, port: u16) -> ApiServers {
        let mut config = kube::Config::new(format!("https://{host}:{port}").parse().expect("a URL"));
        config.root_cert = Some(vec![self.der.clone()]);
        ApiServers::of(&config)
    }
}

fn node(name: &str, addresses: &[&str]) -> Value {
    let addresses: Vec<_> =
        addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
    json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": name }, "spec": {}, "status": { "addresses": addresses } })
}

fn slice(address: &str, port: u16) -> Value {
    json!({
        "metadata": { "name": "kubernetes" }, "addressType": "IPv4",
        "endpoints": [{ "addresses": [address] }], "ports": [{ "name": "https", "port": port }],
    })
}

/// Returns an csr_approver for the cluster, whose kube-apiserver has these names.
async fn csr_approver(cluster: &Cluster, names: &[&str]) -> Approver {
    let authority = Authority::new();
    let port = authority.serve("127.0.0.1", names).await;
    Approver::new(cluster.client(), authority.servers("127.0.0.1", port))
}

async fn approve(
    csr_approver: &mut Approver,
    pending: &[PendingRequest],
) -> (Vec<String>, Vec<(String, &'static str)>) {
    let approvals = csr_approver.approve_pending(pending, &AllowList::default()).await;
    assert_eq!(approvals.error, None);
    let mut approved: Vec<_> = approvals.approved.into_iter().map(|(name, _)| name).collect();
    approved.sort();
    let refused = approvals.not_approved.into_iter().map(|(name, reason)| (name, reason.code())).collect();
    (approved, refused)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn approves_the_version_that_was_checked() {
    let cluster =
        Cluster::new(&[node("node-1", &["node-1", "10.0.0.1"]), node("192.168.0.47", &["192.168.0.47"])]);
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let csrs =
        [request("a", "node-1", &["node-1", "10.0.0.1"]), request("b", "192.168.0.47", &["192.168.0.47"])];
    let pending = cluster.pending(&csrs);
    assert_eq!(approve(&mut csr_approver, &pending).await, (strings(&["a", "b"]), vec![]));
    let written = cluster.0.lock().approved.clone();
    for approved in written {
        assert_eq!(approved["metadata"]["resourceVersion"], "7");
        assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    }
    cluster.requests();
    // Until the watch reports the approval, nothing more is sent.
    csr_approver.approve_pending(&pending, &AllowList::default()).await;
    csr_approver.approve_pending(&[], &AllowList::default()).await;
    assert!(cluster.requests().is_empty());
}

#[tokio::test]
async fn approves_nothing_that_changed_after_the_check() {
    let cluster = Cluster::new(&[node("node-1", &["node-1", "10.0.0.1"])]);
    let checked = request("a", "node-1", &["node-1"]);
    let mut denied = checked.clone();
    denied.status =
        serde_json::from_value(json!({ "conditions": [{ "type": "Denied", "status": "True" }] })).ok();
    let recreated = CertificateSigningRequest {
        metadata: kube::core::ObjectMeta { uid: Some("another".into()), ..checked.metadata.clone() },
        ..checked.clone()
    };
    // The same name and UID, but more names, as no kube-apiserver returns.
    let other = request("a", "node-1", &["node-1", "10.0.0.1"]);
    for now in [Some(denied), Some(recreated), Some(other), None] {
        let pending = cluster.pending(std::slice::from_ref(&checked));
        let mut csrs = BTreeMap::new();
        csrs.extend(now.map(|csr| ("a".to_owned(), csr)));
        cluster.0.lock().csrs = csrs;
        let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
        assert_eq!(approve(&mut csr_approver, &pending).await, (vec![], vec![]));
        assert!(cluster.0.lock().approved.is_empty());
    }
}

#[tokio::test]
async fn refuses_the_names_in_the_certificates_of_all_kube_apiservers_to_workers() {
    let claims = ["api.example.org", "10.0.0.100", "vip.example.org", "127.0.0.2", "node-1"];
    let mut control_plane = node("cp-1", &["api.example.org"]);
    control_plane["metadata"]["labels"] = json!({ "node-role.kubernetes.io/control-plane": "" });
    let cluster = Cluster::new(&[node("node-1", &claims), control_plane]);
    let authority = Authority::new();
    let configured = authority.serve("127.0.0.1", &["kubernetes", "api.example.org", "10.0.0.100"]).await;
    let second = authority.serve("127.0.0.2", &["vip.example.org"]).await;
    cluster.0.lock().slice = Some(slice("127.0.0.2", second));
    for (claim, verdict) in claims.iter().zip(["api_server", "api_server", "api_server", "name", ""]) {
        let mut csr_approver = Approver::new(cluster.client(), authority.servers("127.0.0.1", configured));
        let pending = cluster.pending(&[request("a", "node-1", &[claim])]);
        let (approved, refused) = approve(&mut csr_approver, &pending).await;
        let code = refused.first().map_or("", |(_, code)| code);
        assert_eq!((code, approved.is_empty()), (verdict, !verdict.is_empty()), "{claim}");
    }
    // While node-1 claims it, it is nobody's alone.
    cluster.0.lock().nodes.remove(0);
    let mut csr_approver = Approver::new(cluster.client(), authority.servers("127.0.0.1", configured));
    let pending = cluster.pending(&[request("a", "cp-1", &["api.example.org"])]);
    assert_eq!(approve(&mut csr_approver, &pending).await.0, ["a"]);
}

#[tokio::test]
async fn approves_nothing_while_the_names_of_a_kube_apiserver_are_unknown() {
    let cluster = Cluster::new(&[node("node-1", &["node-1"])]);
    let pending = cluster.pending(&[request("a", "node-1", &["node-1"])]);
    let (authority, stranger) = (Authority::new(), Authority::new());
    let port = authority.serve("127.0.0.1", &["kubernetes"]).await;
    let forged = stranger.serve("127.0.0.1", &["harmless"]).await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        listener.local_addr().expect("an address").port()
    };
    for (port, other, words) in [
        (forged, None, "invalid peer certificate"),
        (closed, None, "refused"),
        (port, Some(forged), "invalid peer certificate"),
        (port, Some(closed), "refused"),
    ] {
        cluster.0.lock().slice = other.map(|other| slice("127.0.0.1", other));
        let mut csr_approver = Approver::new(cluster.client(), authority.servers("127.0.0.1", port));
        let approvals = csr_approver.approve_pending(&pending, &AllowList::default()).await;
        let error = approvals.error.expect("an error");
        assert!(
            error.contains("the names in the certificate of kube-apiserver") && error.contains(words),
            "{error}"
        );
        assert!(approvals.approved.is_empty() && cluster.0.lock().approved.is_empty());
        // It is tried again soon, not with a growing delay.
        assert!(approvals.retry_after.is_some_and(|after| after <= Duration::from_secs(5)));
    }
}

#[tokio::test]
async fn approves_nothing_if_anything_cannot_be_read() {
    // The slice, ServiceCIDRs, the Node, all Nodes, pods, the request, its approval.
    for failing in 0..7 {
        let cluster = Cluster::new(&[node("node-1", &["10.0.0.1"])]);
        let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
        let pending = cluster.pending(&[request("a", "node-1", &["10.0.0.1"])]);
        cluster.0.lock().failures = std::iter::repeat_n(0, failing).chain([500]).collect();
        // It was checked before, so that its next delay would be longer.
        let before = Instant::now().checked_sub(Duration::from_secs(60)).expect("a time");
        csr_approver.schedule.take(&["uid-a"], 1, before);
        let approvals = csr_approver.approve_pending(&pending, &AllowList::default()).await;
        assert!(approvals.error.is_some(), "request {failing}: {:?}", cluster.requests());
        assert!(approvals.approved.is_empty() && cluster.0.lock().approved.is_empty(), "request {failing}");
        assert!(approvals.retry_after.is_some_and(|after| after <= Duration::from_secs(5)));
    }
    let cluster = Cluster::new(&[node("node-1", &["10.0.0.1"])]);
    cluster.0.lock().service_cidrs.clear();
    let pending = cluster.pending(&[request("a", "node-1", &["10.0.0.1"])]);
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let approvals = csr_approver.approve_pending(&pending, &AllowList::default()).await;
    assert!(approvals.error.is_some_and(|error| error.contains("ServiceCIDR")));
}

#[tokio::test]
async fn lists_nodes_in_small_pages_and_only_for_requests_that_pass_the_rest() {
    let mut nodes: Vec<_> =
        (0..999).map(|at| node(&format!("n{at}"), &[&format!("10.1.{}.{}", at / 250, at % 250)])).collect();
    nodes.push(node("last", &["10.1.0.7"]));
    let cluster = Cluster::new(&nodes);
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let hopeless = [request("a", "n1", &["10.1.0.2"]), request("b", "gone", &["10.1.0.2"])];
    let (_, refused) = approve(&mut csr_approver, &cluster.pending(&hopeless)).await;
    let expected = [("b".to_owned(), "unknown_node"), ("a".to_owned(), "not_in_node_status")];
    assert_eq!(refused, expected);
    let lists = |requests: &[String]| requests.iter().filter(|request| request.contains("/nodes?")).count();
    assert_eq!(lists(&cluster.requests()), 0);
    // Two requests of one batch need one list. One of them conflicts with the last Node.
    let two = [request("c", "n5", &["10.1.0.5"]), request("d", "n7", &["10.1.0.7"])];
    let (approved, refused) = approve(&mut csr_approver, &cluster.pending(&two)).await;
    assert_eq!((approved, refused), (strings(&["c"]), vec![("d".to_owned(), "shared")]));
    let requests = cluster.requests();
    assert_eq!(lists(&requests), 20);
    assert!(
        requests.iter().filter(|request| request.contains("/nodes?")).all(|one| one.contains("limit=50"))
    );
}

#[tokio::test]
async fn refuses_addresses_of_pods() {
    let cluster = Cluster::new(&[node("node-1", &["10.5.0.1", "10.5.0.2"])]);
    cluster.0.lock().pods.insert(
        "10.5.0.2".to_owned(),
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": { "name": "web", "namespace": "shop" } }),
    );
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let csrs = [request("a", "node-1", &["10.5.0.1"]), request("b", "node-1", &["10.5.0.2"])];
    let approvals = csr_approver.approve_pending(&cluster.pending(&csrs), &AllowList::default()).await;
    assert_eq!(approvals.approved, [("a".to_owned(), "node-1".to_owned())]);
    assert!(approvals.not_approved[0].1.to_string().contains("pod shop/web"), "{:?}", approvals.not_approved);
}

/// What a tenant can write: Services, and EndpointSlices other than kube-apiserver's.
#[tokio::test]
async fn requests_nothing_that_a_tenant_can_write() {
    let cluster = Cluster::new(&[node("node-1", &["node-1", "10.0.0.1"])]);
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let pending = cluster.pending(&[request("a", "node-1", &["node-1", "10.0.0.1"])]);
    assert_eq!(approve(&mut csr_approver, &pending).await.0, ["a"]);
    for request in cluster.requests() {
        assert!(!request.contains("/services") && !request.contains("ingress"), "{request}");
        assert!(!request.contains("endpointslices?"), "only the slice that kube-apiserver writes: {request}");
    }
}

#[tokio::test]
async fn a_thousand_malformed_requests_do_not_keep_a_good_one_waiting() {
    let cluster = Cluster::new(&[node("node-1", &["node-1"])]);
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let template = malformed("m");
    let mut csrs: Vec<_> = (0..1000)
        .map(|at| {
            let mut csr = template.clone();
            csr.metadata.name = Some(format!("a-{at:04}"));
            csr.metadata.uid = csr.metadata.name.clone();
            csr
        })
        .collect();
    csrs.push(request("z-good", "node-1", &["node-1"]));
    let pending = cluster.pending(&csrs);
    let (approved, refused) = approve(&mut csr_approver, &pending).await;
    assert_eq!((approved, refused.len()), (strings(&["z-good"]), MAX_REPORTS));
    assert!(cluster.requests().len() < 10);
    // The rest is reported bit by bit, each once, without a request.
    let rest: Vec<_> = pending.iter().filter(|request| request.name != "z-good").cloned().collect();
    let mut names: BTreeSet<String> = refused.into_iter().map(|(name, _)| name).collect();
    for _ in 0..100 {
        let approvals = csr_approver.approve_pending(&rest, &AllowList::default()).await;
        assert!(approvals.not_approved.len() <= MAX_REPORTS);
        for (name, _) in approvals.not_approved {
            assert!(names.insert(name), "reported twice");
        }
    }
    assert_eq!(names.len(), rest.len());
    assert!(cluster.requests().is_empty());
}

#[tokio::test]
async fn the_allow_list_limits_what_is_approved() {
    let cluster = Cluster::new(&[node("node-1", &["node-1", "10.0.0.1"])]);
    let pending = cluster.pending(&[request("a", "node-1", &["node-1", "10.0.0.1"])]);
    let list = |entries: &[&str]| AllowList::parse(Some(&strings(entries))).expect("a list");
    let mut csr_approver = csr_approver(&cluster, &["kubernetes"]).await;
    let refused = csr_approver.approve_pending(&pending, &list(&["10.0.0.0/24"])).await;
    assert_eq!(refused.not_approved[0].1.code(), "not_in_allow_list");
    let reasons = csr_approver.reasons(&pending);
    assert!(reasons["node-1"].1.contains("csrAllowList") && reasons["node-1"].0 == "a", "{reasons:?}");
    let mut csr_approver = Approver::new(cluster.client(), {
        let authority = Authority::new();
        let port = authority.serve("127.0.0.1", &["kubernetes"]).await;
        authority.servers("127.0.0.1", port)
    });
    let approved = csr_approver.approve_pending(&pending, &list(&["10.0.0.0/24", "node-*"])).await;
    assert_eq!(approved.approved.len(), 1, "{:?}", approved.error);
}
