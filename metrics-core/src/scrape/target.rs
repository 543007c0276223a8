//! One node as it is scraped: its connection and the address that works.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout;

use super::Shared;
use super::client::{Body, Connection};
use super::error::Error;
use super::tls::NodeTls;
use crate::decode::{Context, decode};
use crate::discover::Node;
use crate::store::{Put, Ticket};

/// How long an address is waited for before the next is tried beside it (as RFC 8305 does for families).
const STAGGER: Duration = Duration::from_millis(300);

/// What is kept of a node between two scrapes.
pub(super) struct Target {
    node: Arc<Node>,
    connection: Option<Connection>,
    /// The address that worked last.
    address: usize,
    tls: Option<NodeTls>,
}

impl Target {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, connection: None, address: 0, tls: None }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.node.name
    }

    /// Takes the node as it is now. The connection stays unless it leads elsewhere.
    pub(super) fn update(&mut self, node: Arc<Node>) {
        if Arc::ptr_eq(&self.node, &node) {
            return;
        }
        if self.node.addresses != node.addresses || self.node.port != node.port {
            (self.connection, self.address) = (None, 0);
        }
        if self.node.identities != node.identities {
            self.tls = None;
        }
        self.node = node;
    }

    /// Asks for the metrics and stores them.
    pub(super) async fn ask(
        &mut self,
        shared: &Shared,
        ticket: Ticket,
        requested_ms: u64,
    ) -> Result<Put, Error> {
        let token = shared.token.as_ref().map(super::Reloaded::get).transpose()?;
        let token = token.as_ref().map(|token| token.as_str());
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let node = self.node.clone();
        let kept = self.connection.take();
        let was_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect(shared).await?,
        };
        let mut lease = shared.pool.lease();
        match connection.get(&node.path, token, &mut lease).await {
            Ok((connection, body)) => {
                self.connection = connection;
                store(shared, ticket, requested_ms, now_ns, body?)
            }
            // Kept too long for the kubelet's taste, or the kubelet was restarted.
            Err(_) if was_kept => {
                let connection = self.connect(shared).await?;
                let (connection, body) =
                    connection.get(&node.path, token, &mut lease).await.map_err(|stale| stale.0)?;
                self.connection = connection;
                store(shared, ticket, requested_ms, now_ns, body?)
            }
            Err(stale) => Err(stale.0),
        }
    }

    /// Connects to the address that worked last. When it fails, or does not answer soon, the next one is
    /// tried beside it, and so on: a name that no resolver answers must not cost a first scrape seconds.
    async fn connect(&mut self, shared: &Shared) -> Result<Connection, Error> {
        let node = self.node.clone();
        let tls = shared.tls.for_node(&node, self.tls.take())?;
        let config = self.tls.insert(tls).config.clone();
        let count = node.addresses.len();
        let mut untried = (0..count).map(|step| (self.address + step) % count);
        let mut trying = FuturesUnordered::new();
        let mut failed: Option<Error> = None;
        loop {
            let next = untried.next();
            if let Some(at) = next {
                let open = Connection::open(&node, &node.addresses[at].host, config.clone(), &shared.pool);
                trying.push(async move { (at, open.await) });
            }
            let patience = if next.is_some() { STAGGER } else { shared.timeout };
            match timeout(patience, trying.next()).await {
                Ok(Some((at, Ok(connection)))) => {
                    shared.metrics.connected();
                    self.address = at;
                    return Ok(connection);
                }
                Ok(Some((_, Err(error)))) => {
                    failed = Some(match failed {
                        Some(other) => other.further(error),
                        None => error,
                    });
                }
                Ok(None) => return Err(failed.unwrap_or(Error::NoAddress)),
                Err(_) => {}
            }
        }
    }
}

fn store(
    shared: &Shared,
    ticket: Ticket,
    requested_ms: u64,
    now_ns: i64,
    body: Body<'_>,
) -> Result<Put, Error> {
    let mut intake = shared.store.intake(ticket).ok_or(Error::Gone)?;
    let context = Context { format: body.format, default_timestamp_ns: now_ns };
    let report = decode(body.bytes, context, &mut intake);
    shared.metrics.decoded(&report, body.wire_bytes, body.bytes.len());
    if report.taken == 0 {
        return Err(Error::BadBody("no resource metrics in it"));
    }
    shared.store.put(ticket, intake, requested_ms).ok_or(Error::Gone)
}
