//! metrics-server and metrics-core side by side: the same API server, the same kubelets, the same questions.
//!
//! ```text
//! fleet, kubelet   fake nodes whose kubelets answer what they are told, in steps
//! edge_cases          what is rarer: other kinds of kubelets, and objects that change between steps
//! matrix           the questions            https    asks them
//! decode, compare  what differs             intended what may differ, and why
//! ```
//!
//! Besides the fake kubelets there is the real one; of its numbers only the form is compared.

mod compare;
mod decode;
mod edge_cases;
mod fleet;
mod https;
mod intended;
mod kubelet;
mod matrix;
mod openapi;
mod report;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub use compare::Difference;
pub use matrix::{Request, User};
pub use report::Report;

use crate::bench::servers::{self, Server};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::testbed::binaries;
use crate::testbed::cluster::Cluster;
use crate::testbed::images::{self, BUSYBOX};
use crate::testbed::pki::{Authority, Subject};
use crate::wait::{self, Pending};
use https::Client;
use kubelet::Kubelet;

/// The shortest resolution that metrics-server takes.
const RESOLUTION: &str = "10s";
const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// How long a step may take: a resolution, and as much again on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// A pod that runs, on the real node.
const SLEEPER: &str = "sleeper";
const NAMESPACES: [&str; 5] = ["team-a", "team-b", "edges", "edge-cases", "crowd"];

/// Runs the bench on a cluster that has nothing else to do.
///
/// # Errors
/// When the bench itself fails. Differences are in the report.
pub fn run(cluster: &Cluster, progress: &Progress) -> Result<Report> {
    let ours = servers::metrics_core(progress)?;
    let peer = binaries::peer(progress)?;
    let directory = cluster.layout().data.join("differential");
    fs::create_dir_all(&directory)
        .map_err(|source| Error::Io { what: "create a directory".into(), source })?;

    // The first step lies in the past by all steps' worth, so that no sample is from the future.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let origin = i64::try_from(now.as_millis()).unwrap_or_default() - 32_000;
    let nodes = fleet::nodes(origin);
    let authority = cluster.cluster_authority()?;
    let addresses: Vec<_> = nodes.iter().map(|node| node.address.ip()).collect();
    let identity = authority.issue(&Subject::server("fake-kubelet", &[], &addresses))?;
    let kubelets = cluster.network().inside(|| {
        nodes
            .iter()
            .map(|node| Kubelet::start(node.address, &identity, node.replies.clone()))
            .collect::<Result<Vec<_>>>()
    })?;
    progress.step("fake nodes and pods", |_| populate(cluster, &nodes))?;

    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let our_server = Server::start(cluster, &directory, &ours, local(4443), RESOLUTION)?;
    let peer_server = Server::start(cluster, &directory, &peer, local(4444), RESOLUTION)?;
    let admin = authority.issue(&Subject::user("admin", Some("system:masters")))?;
    let admin = Client::new(authority.certificate(), Some(&admin))?;
    let fetch = |address: SocketAddr, target: &str| -> Result<Value, Pending> {
        let answer = admin.send(address, "GET", target, &[])?;
        serde_json::from_slice(&answer.body).map_err(|error| Pending(format!("{}: {error}", answer.status)))
    };
    let report = cluster.network().inside(|| {
        for step in 0..fleet::STEPS {
            edge_cases::depart(step, &cluster.client())?;
            for kubelet in &kubelets {
                kubelet.go_to(step);
            }
            edge_cases::arrive(step, &cluster.client(), &nodes)?;
            progress.step(&format!("both servers have step {}", step + 1), |_| {
                wait::every(Duration::from_millis(50), PATIENCE, "every kubelet is asked by both", || {
                    asked(&nodes, &kubelets, step)
                })
            })?;
        }
        // What they fetched last is shown once it is stored.
        let last = origin + 15_012 * 2;
        let last = jiff::Timestamp::from_second(last.div_euclid(1000))
            .map_err(|error| Error::Invalid(error.to_string()))?;
        for server in [&our_server, &peer_server] {
            wait::until(PATIENCE, "the last samples and the real pod are shown", || {
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
        let clients = clients(cluster)?;
        let requests = matrix::requests(&cluster.node().name, SLEEPER);
        // What has no times of its own is as old as each server's request.
        let real = [
            cluster.node().name.clone(),
            format!("team-a/{SLEEPER}"),
            "fake-untimed".to_owned(),
            "edge-cases/untimed".to_owned(),
        ];
        progress.step(&format!("{} requests to both", requests.len()), |_| {
            ask(requests, &clients, [our_server.address, peer_server.address], &|key| {
                real.iter().any(|name| name == key)
            })
        })
    })?;
    Ok(report)
}

/// Whether every kubelet of this step was asked by both servers.
fn asked(nodes: &[fleet::FakeNode], kubelets: &[Kubelet], step: usize) -> Result<(), Pending> {
    for (node, kubelet) in nodes.iter().zip(kubelets) {
        // One that fails or hangs is asked less and less often by metrics-core.
        let steady = node.replies.iter().all(|reply| reply.status == 200 && reply.delay.is_zero());
        for agent in ["metrics-server", "metrics-core"] {
            if steady && !kubelet.was_asked(step, agent) {
                return Err(Pending(format!(
                    "{} waits for {agent}; so far: {:?}",
                    node.name,
                    kubelet.seen()
                )));
            }
        }
    }
    Ok(())
}

/// Makes the fake nodes and pods, and one real pod.
fn populate(cluster: &Cluster, nodes: &[fleet::FakeNode]) -> Result<()> {
    cluster.load(&images::busybox()?)?;
    let client = cluster.client();
    let namespaces = NAMESPACES
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .to_vec();
    client.apply(&json!({"apiVersion": "v1", "kind": "List", "items": namespaces}).to_string())?;
    client.wait_for("the namespaces have their accounts", Duration::from_secs(30), |client| {
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

fn clients(cluster: &Cluster) -> Result<HashMap<&'static str, Client>> {
    let trusted = cluster.cluster_authority()?;
    let front_proxy = cluster.front_proxy_authority()?;
    let identities = [
        ("Admin", Some(trusted.issue(&Subject::user("admin", Some("system:masters")))?)),
        ("Jane", Some(trusted.issue(&Subject::user("jane", Some("developers")))?)),
        ("Anonymous", None),
        (
            "Stranger",
            Some(Authority::create("stranger")?.issue(&Subject::user("admin", Some("system:masters")))?),
        ),
        ("FrontProxy", Some(cluster.front_proxy_identity()?)),
        ("OtherProxy", Some(front_proxy.issue(&Subject::user("not-the-proxy", None))?)),
    ];
    identities
        .into_iter()
        .map(|(name, identity)| Ok((name, Client::new(trusted.certificate(), identity.as_ref())?)))
        .collect()
}

fn ask(
    requests: Vec<Request>,
    clients: &HashMap<&'static str, Client>,
    servers: [SocketAddr; 2],
    is_moving: &dyn Fn(&str) -> bool,
) -> Result<Report> {
    let mut compared = Vec::new();
    for request in requests {
        let name = format!("{:?}", request.user);
        let client = clients
            .get(name.as_str())
            .ok_or_else(|| Error::Invalid(format!("there is no client for {name}")))?;
        let send = |address| client.send(address, request.method, &request.target, &request.headers);
        let answers = servers.map(send);
        let found = match answers {
            [Ok(ours), Ok(peer)] => compare::compare(&ours, &peer, is_moving),
            [ours, peer] => {
                let told = |answer: Result<https::Answer>| match answer {
                    Ok(answer) => answer.status.to_string(),
                    Err(error) => error.to_string(),
                };
                let (ours, peer) = (told(ours), told(peer));
                vec![Difference { aspect: "connection".into(), ours, peer }]
            }
        };
        compared.push((request, found));
    }
    Ok(Report::new(compared, intended::INTENDED))
}
