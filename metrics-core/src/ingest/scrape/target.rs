//! The scrape target for one node: its connection and the address that works.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout;

use super::ScrapeContext;
use super::client::{Connection, KubeletBody, authority, reach};
use super::error::Error;
use super::tls::NodeTls;
use crate::ingest::decode::{DecodeOptions, decode};
use crate::ingest::discover::Node;
use crate::ingest::store::{PutSummary, RequestTime, Ticket};
use crate::telemetry::excerpt;

/// How long to wait for an address before the next one is tried in parallel (as in RFC 8305).
const STAGGER: Duration = Duration::from_millis(300);

/// The maximum length of the excerpt of a body without metrics.
const EXCERPT_CHARS: usize = 40;

/// The state of a node that is kept between two scrapes.
pub(super) struct Target {
    node: Arc<Node>,
    connection: Option<Connection>,
    /// The index of the address that worked last.
    address: usize,
    /// The IP address to which the last connection was opened.
    peer: Option<IpAddr>,
    tls: Option<NodeTls>,
    /// How far the current or last scrape got.
    progress: ScrapeProgress,
}

/// How far a scrape got, to explain a timeout or a failure.
#[derive(Default)]
struct ScrapeProgress {
    /// The index of the address that this is about.
    at: usize,
    /// Whether there was a connection.
    connected: bool,
    /// Whether the connection was kept from an earlier scrape.
    reused: bool,
    /// The index plus one of the last address that accepted a TCP connection; 0 if none did.
    reached: AtomicUsize,
    /// The error at that address.
    failed: Option<Error>,
}

impl Target {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            connection: None,
            address: 0,
            peer: None,
            tls: None,
            progress: ScrapeProgress::default(),
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.node.name
    }

    /// Returns the address of the last request as `host:port`.
    pub(super) fn last_address(&self) -> Option<Box<str>> {
        let address = self.node.addresses.get(self.progress.at)?;
        Some(authority(&address.host, self.node.port))
    }

    /// Returns the IP address of the last connection and the Node as it was scraped.
    pub(super) fn responder(&self) -> Option<(IpAddr, &Node)> {
        Some((self.peer?, &*self.node))
    }

    /// Returns the error for a scrape that timed out.
    pub(super) async fn timeout_error(&mut self) -> Error {
        let doing = "connecting";
        // On a kept connection, dropped packets look the same as a slow kubelet, so try to reconnect.
        if self.progress.reused
            && let (Some(address), Some(peer)) = (self.node.addresses.get(self.progress.at), self.peer)
            && let Err(error) = reach(&address.host, SocketAddr::new(peer, self.node.port)).await
        {
            return error;
        }
        let reached = self.progress.reached.get_mut().checked_sub(1);
        if let (false, Some(at)) = (self.progress.connected, reached) {
            self.progress.at = at;
            return Error::SlowResponse { doing: "during the TLS handshake" };
        }
        match (self.progress.failed.take(), self.last_address()) {
            _ if self.progress.connected => Error::SlowResponse { doing: "while waiting for metrics" },
            (Some(failed), _) => failed,
            (None, Some(address)) => Error::Timeout { address, doing },
            (None, None) => Error::NoAddress,
        }
    }

    /// Replaces the node. Keeps the connection unless addresses or port changed.
    pub(super) fn update(&mut self, node: Arc<Node>) {
        if Arc::ptr_eq(&self.node, &node) {
            return;
        }
        if self.node.addresses != node.addresses || self.node.port != node.port {
            (self.connection, self.address, self.peer) = (None, 0, None);
        }
        if self.node.identities != node.identities {
            self.tls = None;
        }
        self.node = node;
    }

    /// Requests the metrics and stores them.
    pub(super) async fn scrape(
        &mut self,
        shared: &ScrapeContext,
        ticket: Ticket,
        requested_ms: u64,
    ) -> Result<PutSummary, Error> {
        let token = shared.token.as_ref().map(super::ReloadedFile::get).transpose()?;
        let token = token.as_ref().map(|token| token.as_str());
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let node = self.node.clone();
        self.progress = ScrapeProgress { at: self.address, ..ScrapeProgress::default() };
        // Certificates, the kubelet's and our own, are presented only when a connection opens.
        let kept = self.connection.take().filter(|kept| shared.tls.is_current(&kept.tls));
        let was_reused = kept.is_some();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect(shared).await?,
        };
        self.progress = ScrapeProgress {
            at: self.address,
            connected: true,
            reused: was_reused,
            ..ScrapeProgress::default()
        };
        let mut lease = shared.pool.lease();
        match connection.get(&node.path, token, &mut lease).await {
            Ok((connection, body)) => {
                self.keep(connection, token, &body);
                store(shared, &node, ticket, (requested_ms, now_ns), token, body?)
            }
            // The kubelet closed the idle connection or was restarted.
            Err(_) if was_reused => {
                (self.progress.connected, self.progress.reused) = (false, false);
                let connection = self.connect(shared).await?;
                self.progress =
                    ScrapeProgress { at: self.address, connected: true, ..ScrapeProgress::default() };
                let (connection, body) =
                    connection.get(&node.path, token, &mut lease).await.map_err(|stale| stale.0)?;
                self.keep(connection, token, &body);
                store(shared, &node, ticket, (requested_ms, now_ns), token, body?)
            }
            Err(stale) => Err(stale.0),
        }
    }

    /// Keeps a connection for the next scrape unless the kubelet returned 401 to a client certificate: a renewed
    /// certificate is presented only on a new connection.
    fn keep(
        &mut self,
        connection: Option<Connection>,
        token: Option<&str>,
        response: &Result<KubeletBody<'_>, Error>,
    ) {
        let rejected = token.is_none() && matches!(response, Err(Error::Unauthorized));
        self.connection = connection.filter(|_| !rejected);
    }

    /// Connects to the address that worked last. If it fails, or takes longer than [`STAGGER`], the next one is
    /// tried in parallel, and so on: a name that does not resolve must not delay a first scrape by seconds. A token for
    /// a kubelet that is not verified goes to the first address only ([`ScrapeContext::first_address_only`]).
    async fn connect(&mut self, shared: &ScrapeContext) -> Result<Connection, Error> {
        let node = self.node.clone();
        let tls = shared.tls.for_node(&node, self.tls.take())?;
        let tls = &*self.tls.insert(tls);
        let ScrapeProgress { at: failed_at, failed, reached, .. } = &mut self.progress;
        let reached = &*reached;
        let count = node.addresses.len().min(if shared.first_address_only { 1 } else { usize::MAX });
        let mut untried = (0..count).map(|step| (self.address + step) % count);
        let mut trying = FuturesUnordered::new();
        loop {
            let next = untried.next();
            if let Some(at) = next {
                let connected = move || reached.store(at + 1, Ordering::Relaxed);
                let host = &node.addresses[at].host;
                let open = Connection::open(&node, host, tls, connected, &shared.resolver, &shared.pool);
                trying.push(async move { (at, open.await) });
            }
            let wait = if next.is_some() { STAGGER } else { shared.timeout };
            match timeout(wait, trying.next()).await {
                Ok(Some((at, Ok(connection)))) => {
                    shared.metrics.connected();
                    (self.address, self.peer) = (at, Some(connection.peer));
                    return Ok(connection);
                }
                Ok(Some((at, Err(error)))) => {
                    if failed.as_ref().is_none_or(|other| error.is_more_specific_than(at, other, *failed_at))
                    {
                        (*failed_at, *failed) = (at, Some(error));
                    }
                }
                Ok(None) => return Err(failed.take().unwrap_or(Error::NoAddress)),
                Err(_) => {}
            }
        }
    }
}

fn store(
    shared: &ScrapeContext,
    node: &Node,
    ticket: Ticket,
    (requested_ms, now_ns): (u64, i64),
    token: Option<&str>,
    body: KubeletBody<'_>,
) -> Result<PutSummary, Error> {
    let mut batch = shared.store.begin_batch(ticket).ok_or(Error::NodeDeleted)?;
    let context = DecodeOptions { format: body.format, default_timestamp_ns: now_ns };
    let report = decode(body.bytes, context, &mut batch);
    shared.metrics.decoded(&report, body.wire_bytes, body.bytes.len());
    if report.accepted == 0 && report.scrape_error {
        return Err(Error::NotCollected);
    }
    if report.accepted == 0 {
        return Err(Error::NoMetrics {
            path: node.path.clone(),
            bad: report.bad.iter().sum(),
            beginning: excerpt(&Error::excerpt(body.bytes, token), EXCERPT_CHARS).into(),
        });
    }
    let request = RequestTime { monotonic_ms: requested_ms, unix_ns: now_ns };
    let mut put = shared.store.put(ticket, batch, request).ok_or(Error::NodeDeleted)?;
    put.problems.scrape_error = report.scrape_error;
    Ok(put)
}
