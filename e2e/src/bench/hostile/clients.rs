//! Well-behaved clients: they list at a fixed rate, directly and through kube-apiserver, and probe.
//!
//! The direct client has a certificate of group system:masters, which metrics-core authorizes without asking
//! kube-apiserver, as it does for the same user behind the front proxy. So a failure is metrics-core's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::bench::scale::population::namespace_name;
use crate::error::{Error, Result};
use crate::testbed::cluster::server;
use crate::testbed::http::{Connection, Response};

pub(super) const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(super) const PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
/// The number of connections of each of the two clients; each lists once a second.
const LANES: u32 = 10;
/// A connection is replaced after this number of lists: new connections must work, too.
const LISTS_PER_CONNECTION: u32 = 20;
/// How often client-go repeats a request that is answered with 429 and Retry-After.
const RETRIES: u32 = 10;

/// A kind of request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Lists the pods of a namespace, ten times a second.
    Direct,
    /// Lists all pods, every 10 s; repeats after 429, as client-go does.
    Large,
    /// Lists the pods of a namespace through kube-apiserver, ten times a second.
    Aggregated,
    /// `/livez` over a new connection, once a second.
    Livez,
    /// `/readyz` over a new connection, once a second.
    Readyz,
    /// `/version` of kube-apiserver over a new connection, once a second.
    Version,
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) client: Client,
    /// When it was due, since the start of the run.
    pub(super) at: Duration,
    /// From then to the last byte of the response.
    pub(super) took: Duration,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// Whether it was repeated on a new connection.
    pub(super) repeated: bool,
}

/// The requests of all clients.
pub(super) type Log = Arc<Mutex<Vec<Sent>>>;

/// One connection of a client.
struct Lane {
    client: Client,
    address: SocketAddr,
    config: Arc<ClientConfig>,
    path: String,
    accept: &'static str,
    period: Duration,
    /// The place of the first request within a period.
    offset: Duration,
    timeout: Duration,
    requests_per_connection: u32,
    /// The least number of objects of a complete list.
    items: usize,
}

/// The clients of a run.
pub(super) struct Clients {
    /// The address of metrics-core.
    pub(super) address: SocketAddr,
    /// The TLS configuration with the certificate of group system:masters.
    pub(super) config: Arc<ClientConfig>,
    /// The least number of pods in the first namespace.
    pub(super) pods_of_namespace: usize,
    /// The least number of pods.
    pub(super) pods: usize,
}

impl Clients {
    /// Starts all clients.
    pub(super) fn start(&self, began: Instant, log: &Log, tasks: &mut JoinSet<()>) -> Result<()> {
        let apiserver = server().strip_prefix("https://").and_then(|address| address.parse().ok());
        let apiserver: SocketAddr =
            apiserver.ok_or_else(|| Error::Invalid("kube-apiserver has no address".into()))?;
        let seconds = Duration::from_secs;
        let namespace = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", namespace_name(0));
        let lane = |client, address, path: &str, number: u32| Lane {
            client,
            address,
            config: self.config.clone(),
            path: path.to_owned(),
            accept: JSON,
            period: seconds(1),
            offset: seconds(1) * number / LANES,
            timeout: seconds(5),
            requests_per_connection: LISTS_PER_CONNECTION,
            items: self.pods_of_namespace,
        };
        let mut lanes = Vec::new();
        for number in 0..LANES {
            lanes.push(lane(Client::Direct, self.address, &namespace, number));
            lanes.push(lane(Client::Aggregated, apiserver, &namespace, number));
        }
        let large = lane(Client::Large, self.address, PODS, 0);
        let (period, timeout, items) = (seconds(10), seconds(30), self.pods);
        lanes.push(Lane { accept: PROTOBUF, period, timeout, items, ..large });
        for (client, address, path) in [
            (Client::Livez, self.address, "/livez"),
            (Client::Readyz, self.address, "/readyz"),
            (Client::Version, apiserver, "/version"),
        ] {
            let probe = lane(client, address, path, 0);
            lanes.push(Lane { timeout: seconds(2), requests_per_connection: 1, items: 0, ..probe });
        }
        for lane in lanes {
            let log = log.clone();
            tasks.spawn(async move { lane.run(began, &log).await });
        }
        Ok(())
    }
}

impl Lane {
    /// Sends a request each period, forever. A list that is late counts from the time at which it was due. A probe does not:
    /// a kubelet sends the next one when the last one has ended.
    async fn run(&self, began: Instant, log: &Log) {
        let (mut connection, mut used) = (None, 0);
        let is_probe = matches!(self.client, Client::Livez | Client::Readyz | Client::Version);
        for number in 0.. {
            let mut at = self.offset + self.period * number;
            if is_probe && began.elapsed() > at + self.period {
                continue;
            }
            sleep_until((began + at).into()).await;
            if is_probe {
                at = began.elapsed();
            }
            let due = began + at;
            if used >= self.requests_per_connection {
                (connection, used) = (None, 0);
            }
            used += 1;
            let left = (due + self.timeout).saturating_duration_since(Instant::now());
            let mut repeated = false;
            let result = match timeout(left, self.list(&mut connection, &mut repeated)).await {
                Ok(result) => result,
                Err(_) => Err(Error::Invalid(format!("no response within {} s", self.timeout.as_secs()))),
            };
            if result.is_err() {
                connection = None;
            }
            let error = result.err().map(|error| error.to_string());
            log.lock().push(Sent { client: self.client, at, took: due.elapsed(), error, repeated });
        }
    }

    async fn list(&self, connection: &mut Option<Connection>, repeated: &mut bool) -> Result<()> {
        for _ in 0..RETRIES {
            let response = self.get(connection, repeated).await?;
            let wait = response.header("retry-after").and_then(|seconds| seconds.parse().ok());
            match wait {
                Some(seconds) if self.client == Client::Large && response.status == 429 => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ => return self.check(response, connection),
            }
        }
        Err(Error::Invalid(format!("429 {RETRIES} times")))
    }

    /// Sends the request. The server may close an idle connection while the request is on its way; Go's client, too, then
    /// opens another one.
    async fn get(&self, connection: &mut Option<Connection>, repeated: &mut bool) -> Result<Response> {
        if let Some(open) = connection {
            match open.get(&self.path, self.accept).await {
                Ok(response) => return Ok(response),
                Err(_) => *repeated = true,
            }
        }
        let new = connection.insert(Connection::tls(self.address, self.config.clone()).await?);
        new.get(&self.path, self.accept).await
    }

    fn check(&self, response: Response, connection: &mut Option<Connection>) -> Result<()> {
        let response = response.ok()?;
        if self.items > 0 && self.accept == JSON {
            let items = count(&response.body, b"\"timestamp\":");
            if items < self.items {
                return Err(Error::Invalid(format!("{items} pods instead of {}", self.items)));
            }
        }
        if let Some(connection) = connection {
            connection.reuse(response);
        }
        Ok(())
    }
}

/// Returns how often `pattern` occurs.
pub(super) fn count(text: &[u8], pattern: &[u8]) -> usize {
    let Some(first) = pattern.first() else { return 0 };
    let (mut rest, mut found) = (text, 0);
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(pattern) {
            found += 1;
        }
        rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_occurrences() {
        assert_eq!(count(b"\"timestamp\":1,\"timestamp\":2,\"timest", b"\"timestamp\":"), 2);
        assert_eq!(count(b"", b"a"), 0);
    }
}
