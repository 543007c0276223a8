//! One node as it is scraped: its connection and the address that works.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout;

use super::Shared;
use super::client::{Body, Connection, authority, reach};
use super::error::Error;
use super::tls::NodeTls;
use crate::ingest::decode::{Context, decode};
use crate::ingest::discover::Node;
use crate::ingest::store::{Put, Ticket};
use crate::telemetry::excerpt;

/// How long an address is waited for before the next is tried beside it (as RFC 8305 does for families).
const STAGGER: Duration = Duration::from_millis(300);

/// How much of a body without metrics is told.
const BEGINNING: usize = 40;

/// What is kept of a node between two scrapes.
pub(super) struct Target {
    node: Arc<Node>,
    connection: Option<Connection>,
    /// The address that worked last.
    address: usize,
    tls: Option<NodeTls>,
    /// Where the scrape that runs, or ran last, came to.
    came: Came,
}

/// Where a scrape came to, for when it is broken off for its time or fails.
#[derive(Default)]
struct Came {
    /// The address that this is about.
    at: usize,
    /// Whether there was a connection.
    connected: bool,
    /// Whether it was one of an earlier scrape.
    kept: bool,
    /// The last address whose TCP connection stood, counted from 1.
    reached: AtomicUsize,
    /// What failed there.
    failed: Option<Error>,
}

impl Target {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, connection: None, address: 0, tls: None, came: Came::default() }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.node.name
    }

    /// Where the last scrape asked, as `host:port`.
    pub(super) fn asked(&self) -> Option<Box<str>> {
        let address = self.node.addresses.get(self.came.at)?;
        Some(authority(&address.host, self.node.port))
    }

    /// Why a scrape failed that was broken off as its time was over.
    pub(super) async fn late(&mut self) -> Error {
        let doing = "connecting";
        // On a connection that was kept a filter that drops packets looks like a kubelet that takes its time.
        if self.came.kept
            && let Some(address) = self.node.addresses.get(self.came.at)
            && let Err(error) = reach(&address.host, self.node.port).await
        {
            return error;
        }
        let reached = self.came.reached.get_mut().checked_sub(1);
        if let (false, Some(at)) = (self.came.connected, reached) {
            self.came.at = at;
            return Error::SlowResponse { doing: "in the TLS handshake" };
        }
        match (self.came.failed.take(), self.asked()) {
            _ if self.came.connected => Error::SlowResponse { doing: "waiting for its metrics" },
            (Some(failed), _) => failed,
            (None, Some(address)) => Error::Timeout { address, doing },
            (None, None) => Error::NoAddress,
        }
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
        self.came = Came { at: self.address, ..Came::default() };
        // A certificate, theirs or ours, is shown once in the life of a connection.
        let kept = self.connection.take().filter(|kept| shared.tls.holds(&kept.base));
        let was_kept = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect(shared).await?,
        };
        self.came = Came { at: self.address, connected: true, kept: was_kept, ..Came::default() };
        let mut lease = shared.pool.lease();
        match connection.get(&node.path, token, &mut lease).await {
            Ok((connection, body)) => {
                self.keep(connection, token, &body);
                store(shared, &node, ticket, (requested_ms, now_ns), token, body?)
            }
            // Kept too long for the kubelet's taste, or the kubelet was restarted.
            Err(_) if was_kept => {
                (self.came.connected, self.came.kept) = (false, false);
                let connection = self.connect(shared).await?;
                self.came = Came { at: self.address, connected: true, ..Came::default() };
                let (connection, body) =
                    connection.get(&node.path, token, &mut lease).await.map_err(|stale| stale.0)?;
                self.keep(connection, token, &body);
                store(shared, &node, ticket, (requested_ms, now_ns), token, body?)
            }
            Err(stale) => Err(stale.0),
        }
    }

    /// Keeps a connection for the next scrape, unless it is the connection that was refused: without a token it is by
    /// our certificate that we are known, and another one is shown only to whom we connect anew.
    fn keep(
        &mut self,
        connection: Option<Connection>,
        token: Option<&str>,
        answer: &Result<Body<'_>, Error>,
    ) {
        let refused = token.is_none() && matches!(answer, Err(Error::Unauthorized));
        self.connection = connection.filter(|_| !refused);
    }

    /// Connects to the address that worked last. When it fails, or does not answer soon, the next one is
    /// tried beside it, and so on: a name that no resolver answers must not cost a first scrape seconds.
    async fn connect(&mut self, shared: &Shared) -> Result<Connection, Error> {
        let node = self.node.clone();
        let tls = shared.tls.for_node(&node, self.tls.take())?;
        let tls = &*self.tls.insert(tls);
        let Came { at: about, failed, reached, .. } = &mut self.came;
        let reached = &*reached;
        let count = node.addresses.len();
        let mut untried = (0..count).map(|step| (self.address + step) % count);
        let mut trying = FuturesUnordered::new();
        loop {
            let next = untried.next();
            if let Some(at) = next {
                let stands = move || reached.store(at + 1, Ordering::Relaxed);
                let host = &node.addresses[at].host;
                let open = Connection::open(&node, host, tls, stands, &shared.pool);
                trying.push(async move { (at, open.await) });
            }
            let patience = if next.is_some() { STAGGER } else { shared.timeout };
            match timeout(patience, trying.next()).await {
                Ok(Some((at, Ok(connection)))) => {
                    shared.metrics.connected();
                    self.address = at;
                    return Ok(connection);
                }
                Ok(Some((at, Err(error)))) => {
                    if failed.as_ref().is_none_or(|other| error.says_more(at, other, *about)) {
                        (*about, *failed) = (at, Some(error));
                    }
                }
                Ok(None) => return Err(failed.take().unwrap_or(Error::NoAddress)),
                Err(_) => {}
            }
        }
    }
}

fn store(
    shared: &Shared,
    node: &Node,
    ticket: Ticket,
    (requested_ms, now_ns): (u64, i64),
    token: Option<&str>,
    body: Body<'_>,
) -> Result<Put, Error> {
    let mut intake = shared.store.intake(ticket).ok_or(Error::Gone)?;
    let context = Context { format: body.format, default_timestamp_ns: now_ns };
    let report = decode(body.bytes, context, &mut intake);
    shared.metrics.decoded(&report, body.wire_bytes, body.bytes.len());
    if report.taken == 0 {
        return Err(Error::NoMetrics {
            path: node.path.clone(),
            bad: report.bad.iter().sum(),
            began: excerpt(&Error::said(body.bytes, token), BEGINNING).into(),
        });
    }
    shared.store.put(ticket, intake, requested_ms).ok_or(Error::Gone)
}
