//! Compares metrics-core with metrics-server: the same API server, the same kubelets, the same requests.
//!
//! ```text
//! fleet, kubelets   fake nodes whose kubelets respond by a script, in steps
//! edge_cases        rare cases: other kinds of kubelets, objects that change between steps
//! matrix            the requests
//! decode, compare   finds differences
//! intended          lists the intended differences with their reasons
//! report            what is intended and what is not
//! ```
//!
//! The real kubelet is scraped too; of its values only the form is compared.

mod compare;
mod decode;
mod edge_cases;
mod fleet;
mod intended;
mod kubelets;
mod matrix;
mod openapi;
mod report;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub use compare::Difference;
pub use matrix::{MatrixRequest, User};
pub use report::Report;

use crate::bench::servers::{self, Server};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::Cluster;
use crate::testbed::http;
use crate::testbed::images::{self, BUSYBOX};
use crate::testbed::pki::{Authority, Identity, Subject};
use crate::wait::{self, Pending};
use kubelets::Kubelets;

/// The shortest scrape interval that metrics-server accepts.
const RESOLUTION: &str = "10s";
const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// The timeout of a step: several scrape intervals, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(40);
/// A running pod on the real node.
const SLEEPER: &str = "sleeper";
const NAMESPACES: [&str; 5] = ["team-a", "team-b", "edges", "edge-cases", "crowd"];

/// Runs the comparison on a cluster that is otherwise idle.
///
/// # Errors
/// If the comparison itself fails. Differences are in the report.
pub fn run(cluster: &Cluster, progress: &Progress) -> Result<Report> {
    let metrics_core = servers::metrics_core(progress)?;
    let metrics_server = binaries::metrics_server(progress)?;
    let directory = cluster.layout().data.join("differential");
    fs::create_dir_all(&directory)
        .map_err(|source| Error::Io { what: "create a directory".into(), source })?;

    // The first step is in the past by the duration of all steps, so that no sample is from the future.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let origin = i64::try_from(now.as_millis()).unwrap_or_default() - 32_000;
    let nodes = fleet::nodes(origin);
    let authority = cluster.cluster_authority()?;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.into()).collect();
    let identity = authority.issue(&Subject::server("fake-kubelet", &[], &addresses))?;
    let scripts = nodes.iter().map(|node| (node.address, node.replies.clone())).collect();
    let kubelets = cluster.network().inside(|| Kubelets::start(fleet::PORT, &identity, scripts))?;
    progress.step("fake nodes and pods created", |_| populate(cluster, &nodes))?;

    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let core_server = Server::start(cluster, &directory, &metrics_core, local(4443), RESOLUTION)?;
    let reference_server = Server::start(cluster, &directory, &metrics_server, local(4444), RESOLUTION)?;
    let admin = authority.issue(&Subject::user("admin", Some("system:masters")))?;
    let fetch = |address: SocketAddr, target: &str| -> Result<Value, Pending> {
        let request = http::Request {
            authority: Some(authority.certificate().to_owned()),
            only_http1: true,
            ..http::Request::get(format!("https://{address}{target}")).identity(&admin)
        };
        let response = request.send()?;
        serde_json::from_slice(&response.body)
            .map_err(|error| Pending(format!("{}: {error}", response.status)))
    };
    let report = cluster.network().inside(|| {
        for step in 0..fleet::STEPS {
            edge_cases::depart(step, &cluster.client())?;
            kubelets.go_to(step);
            edge_cases::arrive(step, &cluster.client(), &nodes)?;
            progress.step(&format!("both servers have scraped step {}", step + 1), |_| {
                wait::every(
                    Duration::from_millis(50),
                    TIMEOUT,
                    "both servers have scraped every kubelet",
                    || all_scraped(&nodes, &kubelets, step),
                )
            })?;
        }
        // A sample is served only after it was stored.
        let last = origin + 15_012 * 2;
        let last = jiff::Timestamp::from_second(last.div_euclid(1000))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        for server in [&core_server, &reference_server] {
            wait::until(TIMEOUT, "the last samples and the real pod are served", || {
                let node = fetch(server.address, &format!("{NODES}/fake-a"))?;
                let shown = node["timestamp"].as_str().unwrap_or_default();
                if shown != last.to_string() {
                    return Err(Pending(format!("{node}, not {last}")));
                }
                let real = format!("{NODES}/{}", cluster.node().name);
                let pod = format!("/apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods/{SLEEPER}");
                for path in [real, pod] {
                    let object = fetch(server.address, &path)?;
                    if object["timestamp"].is_null() {
                        return Err(Pending(object.to_string()));
                    }
                }
                Ok(())
            })?;
        }
        let users = Users::create(cluster)?;
        let requests = matrix::requests(&cluster.node().name, SLEEPER);
        // Objects without timestamps of their own have the time of each server's request.
        let real = [
            cluster.node().name.clone(),
            format!("team-a/{SLEEPER}"),
            "fake-untimed".to_owned(),
            "edge-cases/untimed".to_owned(),
        ];
        progress.step(&format!("{} requests sent to both", requests.len()), |_| {
            Ok(send_all(requests, &users, [core_server.address, reference_server.address], &|key| {
                real.iter().any(|name| name == key)
            }))
        })
    })?;
    Ok(report)
}

/// Returns an error until both servers have scraped every kubelet in this step.
fn all_scraped(nodes: &[fleet::FakeNode], kubelets: &Kubelets, step: usize) -> Result<(), Pending> {
    for node in nodes {
        // metrics-core scrapes a failing kubelet less and less often.
        let steady = node.replies.iter().all(|reply| reply.status == 200 && reply.delay.is_zero());
        for agent in ["metrics-server", "metrics-core"] {
            if steady && !kubelets.has_served(node.address.into(), step, agent) {
                return Err(Pending(format!(
                    "{} was not scraped by {agent}; so far: {:?}",
                    node.name,
                    kubelets.served(node.address.into())
                )));
            }
        }
    }
    Ok(())
}

/// Creates the fake nodes and pods, and one real pod.
fn populate(cluster: &Cluster, nodes: &[fleet::FakeNode]) -> Result<()> {
    cluster.load(&images::busybox()?)?;
    let client = cluster.client();
    let namespaces = NAMESPACES
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .to_vec();
    client.apply(&json!({"apiVersion": "v1", "kind": "List", "items": namespaces}).to_string())?;
    client.wait_for("the namespaces have their service accounts", Duration::from_secs(30), |client| {
        for namespace in NAMESPACES {
            client.run(&["-n", namespace, "get", "serviceaccount", "default"])?;
        }
        Ok(())
    })?;
    fleet::objects(nodes, |_, _| true).make(&client)?;
    let sleeper = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": SLEEPER, "namespace": "team-a"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeName": cluster.node().name,
            "containers": [{
                "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "while :; do sleep 0.2; done"],
            }],
        },
    });
    client.apply(&sleeper.to_string())?;
    Ok(())
}

/// The identities of the users.
struct Users {
    /// The PEM of the authority that signs both servers.
    authority: String,
    identities: HashMap<User, Identity>,
}

impl Users {
    fn create(cluster: &Cluster) -> Result<Self> {
        let trusted = cluster.cluster_authority()?;
        let masters = Subject::user("admin", Some("system:masters"));
        let other_proxy = Subject::user("not-the-proxy", None);
        let identities = HashMap::from([
            (User::Admin, trusted.issue(&masters)?),
            (User::Jane, trusted.issue(&Subject::user("jane", Some("developers")))?),
            (User::Stranger, Authority::create("stranger")?.issue(&masters)?),
            (User::FrontProxy, cluster.front_proxy_identity()?),
            (User::OtherProxy, cluster.front_proxy_authority()?.issue(&other_proxy)?),
        ]);
        Ok(Self { authority: trusted.certificate().to_owned(), identities })
    }

    /// Returns a request of the matrix as it is sent to a server.
    fn request(&self, request: &MatrixRequest, address: SocketAddr) -> http::Request {
        let mut headers = request.headers.clone();
        if matches!(request.method, "POST" | "PUT" | "PATCH") {
            let body = [("Content-Type", "application/json"), ("Content-Length", "0")];
            headers.splice(..0, body.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        http::Request {
            headers,
            identity: self.identities.get(&request.user).cloned(),
            authority: Some(self.authority.clone()),
            only_http1: true,
            ..http::Request::new(request.method, format!("https://{address}{}", request.target))
        }
    }
}

fn send_all(
    requests: Vec<MatrixRequest>,
    users: &Users,
    servers: [SocketAddr; 2],
    is_moving: &dyn Fn(&str) -> bool,
) -> Report {
    let mut compared = Vec::new();
    for request in requests {
        let send = |address| users.request(&request, address).send();
        let responses = servers.map(send);
        let found = match responses {
            [Ok(metrics_core), Ok(metrics_server)] => {
                compare::compare(&metrics_core, &metrics_server, is_moving)
            }
            [metrics_core, metrics_server] => {
                let show = |response: Result<http::Response>| match response {
                    Ok(response) => response.status.to_string(),
                    Err(error) => error.to_string(),
                };
                let (metrics_core, metrics_server) = (show(metrics_core), show(metrics_server));
                vec![Difference { aspect: "connection".into(), metrics_core, metrics_server }]
            }
        };
        compared.push((request, found));
    }
    Report::new(compared, intended::INTENDED)
}
