//! Kubelets that respond by a script, any body, status or delay, and record their requests.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::error::Result;
use crate::testbed::fake_kubelet::{Framing, KubeletConnection, Listening, TEXT_FORMAT, spawn};
use crate::testbed::pki::Identity;

/// One response.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The status code.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// The time from the request to the response.
    pub delay: Duration,
}

impl Reply {
    /// Returns a 200 in the text format of Prometheus, without delay.
    #[must_use]
    pub(super) fn metrics(body: String) -> Self {
        Self { status: 200, content_type: TEXT_FORMAT, body, delay: Duration::ZERO }
    }

    /// Returns an error.
    #[must_use]
    pub(super) fn error(status: u16) -> Self {
        let (content_type, body) = ("text/plain; charset=utf-8", "no\n".to_owned());
        Self { status, content_type, body, delay: Duration::ZERO }
    }
}

/// A request that was answered.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Seen {
    node: Ipv4Addr,
    step: usize,
    path: String,
    agent: String,
}

struct Shared {
    /// The replies of each node, one for each step; the last one also counts for all later steps.
    scripts: HashMap<Ipv4Addr, Vec<Reply>>,
    step: AtomicUsize,
    seen: Mutex<HashSet<Seen>>,
}

/// The kubelets of all fake nodes; dropping this closes them.
pub(super) struct Kubelets {
    shared: Arc<Shared>,
    _listening: Listening,
}

impl Kubelets {
    /// Listens in the network that the calling thread is in. `scripts` has the replies of each node, by address.
    pub(super) fn start(
        port: u16,
        identity: &Identity,
        scripts: HashMap<Ipv4Addr, Vec<Reply>>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared { scripts, step: AtomicUsize::new(0), seen: Mutex::default() });
        let state = Arc::clone(&shared);
        let listening = spawn(port, identity, move |stream, acceptor| {
            let shared = Arc::clone(&state);
            // A broken connection concerns its client alone.
            async move { drop(connection(stream, &acceptor, &shared).await) }
        })?;
        Ok(Self { shared, _listening: listening })
    }

    /// Moves all kubelets to a step.
    pub(super) fn go_to(&self, step: usize) {
        self.shared.step.store(step, Ordering::Relaxed);
    }

    /// Returns whether a node has served a client with `agent` in its User-Agent in this step.
    #[must_use]
    pub(super) fn has_served(&self, node: IpAddr, step: usize, agent: &str) -> bool {
        let seen = self.shared.seen.lock();
        seen.iter().any(|seen| seen.node == node && seen.step == step && seen.agent.contains(agent))
    }

    /// Returns the requests to a node, each kind once.
    #[must_use]
    pub(super) fn served(&self, node: IpAddr) -> Vec<String> {
        let seen = self.shared.seen.lock();
        let of_node = seen.iter().filter(|seen| seen.node == node);
        of_node.map(|seen| format!("step {}: {} by {}", seen.step, seen.path, seen.agent)).collect()
    }
}

async fn connection(stream: TcpStream, acceptor: &TlsAcceptor, shared: &Shared) -> std::io::Result<()> {
    let IpAddr::V4(node) = stream.local_addr()?.ip() else { return Ok(()) };
    let mut connection = KubeletConnection::accept(stream, acceptor).await?;
    while let Some(request) = connection.request().await? {
        let step = shared.step.load(Ordering::Relaxed);
        let script = shared.scripts.get(&node).map(Vec::as_slice).unwrap_or_default();
        let reply = script.get(step).or(script.last()).cloned().unwrap_or_else(|| Reply::error(503));
        tokio::time::sleep(reply.delay).await;
        let body = reply.body.as_bytes();
        connection.respond(reply.status, reply.content_type, body, Framing::Length).await?;
        shared.seen.lock().insert(Seen { node, step, path: request.path, agent: request.user_agent });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::http::Request;
    use crate::testbed::pki::{Authority, Subject};

    #[test]
    fn responds_by_node_and_step_and_records_requests() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let nodes = [Ipv4Addr::new(127, 0, 7, 1), Ipv4Addr::new(127, 0, 7, 2)];
        let authority = Authority::create("test").unwrap();
        let identity = authority.issue(&Subject::server("kubelet", &[], &nodes.map(IpAddr::from))).unwrap();
        let scripts = HashMap::from([
            (nodes[0], vec![Reply::metrics("a 1\n".into()), Reply::error(500)]),
            (nodes[1], vec![Reply { delay: Duration::from_millis(100), ..Reply::metrics("b 1\n".into()) }]),
        ]);
        let kubelets = Kubelets::start(free, &identity, scripts).unwrap();
        let get = |node: Ipv4Addr| {
            let url = format!("https://{node}:{free}/metrics/resource");
            let request = Request::get(url).header("User-Agent", "test/1");
            Request { authority: Some(authority.certificate().to_owned()), ..request }.send().unwrap()
        };
        let first = get(nodes[0]);
        assert_eq!(
            (first.status, &*first.text(), first.header("content-type").as_deref()),
            (200, "a 1\n", Some(TEXT_FORMAT))
        );
        let slow = get(nodes[1]);
        assert_eq!(slow.text(), "b 1\n");
        assert!(slow.took >= Duration::from_millis(100));
        kubelets.go_to(1);
        assert_eq!(get(nodes[0]).status, 500);
        assert_eq!(get(nodes[1]).text(), "b 1\n");
        // A request is recorded once its response is written, which may be after the client has read it.
        crate::wait::until(Duration::from_secs(5), "the last request is recorded", || {
            let recorded = kubelets.has_served(nodes[1].into(), 1, "test");
            if recorded { Ok(()) } else { Err(format!("{:?}", kubelets.served(nodes[1].into())).into()) }
        })
        .unwrap();
        assert!(kubelets.has_served(nodes[0].into(), 0, "test/1"));
        assert!(!kubelets.has_served(nodes[0].into(), 0, "other"));
        assert_eq!(kubelets.served(nodes[0].into()).len(), 2);
    }
}
