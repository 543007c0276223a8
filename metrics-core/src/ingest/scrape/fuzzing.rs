//! Entry points for the fuzz targets in `metrics-core/fuzz`. Not part of the API.

use std::time::Duration;

use libdeflater::Decompressor;

use super::buffers::BufferPool;
use super::client::{Connection, StaleConnection};
use super::inflate::{MAX_BODY, inflate as undo};
use super::pins::Pins;
use super::resolver::Resolver;
use super::response::{BodyFraming, ChunkDecoder, MAX_HEAD, parse_head};
use super::tls::TlsConfigs;
use super::{Credentials, KubeletTls};
use crate::ingest::discover::Node;
use crate::model::labels::Labels;

/// The client of one kubelet on this machine, as a scrape uses it: one connection, kept from request to request.
pub struct KubeletClient {
    node: Node,
    tls: TlsConfigs,
    pool: BufferPool,
    kept: Option<Connection>,
}

impl KubeletClient {
    /// Returns a client that accepts any certificate.
    #[must_use]
    pub fn new(port: u16) -> Self {
        let credentials = Credentials::Token(std::path::PathBuf::from("/nonexistent").into());
        let node = Node {
            name: "n".into(),
            uid: "u".into(),
            labels: Labels::default(),
            addresses: Box::default(),
            identities: Box::default(),
            port,
            path: "/metrics/resource".into(),
            ready: true,
            cpu_millicores: 4000,
        };
        let interval = Duration::from_secs(15);
        let tls = TlsConfigs::new(&KubeletTls::Insecure, &credentials, interval, Pins::default());
        Self { node, tls, pool: BufferPool::default(), kept: None }
    }

    /// Requests the metrics, over the kept connection if there is one. Returns the body, or the cause in the metrics.
    pub async fn get(&mut self) -> Result<Vec<u8>, &'static str> {
        let cause = |error: super::Error| error.cause().as_str();
        let mut lease = self.pool.lease();
        let connection = if let Some(connection) = self.kept.take() {
            connection
        } else {
            let tls = self.tls.for_node(&self.node, None).map_err(cause)?;
            Connection::open(&self.node, "127.0.0.1", &tls, || {}, &Resolver::default(), &self.pool)
                .await
                .map_err(cause)?
        };
        let (kept, body) = match connection.get(&self.node.path, None, &mut lease).await {
            Ok(response) => response,
            Err(StaleConnection(error)) => return Err(cause(error)),
        };
        let body = body.map(|body| body.bytes.to_vec()).map_err(cause);
        drop(lease);
        self.kept = kept;
        body
    }

    /// Returns whether a connection is kept.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.kept.is_some()
    }
}

/// Parses a response that arrives `step` bytes at a time and asserts that the result is the same as when it arrives
/// at once. Returns whether it is chunked and whether it is complete; `None` if the header section is invalid.
#[must_use]
pub fn response(bytes: &[u8], step: usize) -> Option<(bool, bool)> {
    let Ok(Some((found, length))) = parse_head(bytes) else { return None };
    assert!(length <= bytes.len().min(MAX_HEAD));
    if found.framing != BodyFraming::Chunked {
        return Some((false, true));
    }
    let mut whole = bytes.to_vec();
    let at_once = ChunkDecoder::new(length).advance(&mut whole).map(|end| end.is_some());
    let mut buffer = bytes[..length].to_vec();
    let mut chunks = ChunkDecoder::new(length);
    let mut outcome = Ok(false);
    for piece in bytes[length..].chunks(step) {
        buffer.extend_from_slice(piece);
        outcome = chunks.advance(&mut buffer).map(|end| end.is_some());
        if outcome != Ok(false) {
            break;
        }
    }
    if at_once == Ok(true) {
        assert_eq!(outcome, Ok(true));
        assert_eq!(buffer, whole);
    }
    Some((true, at_once == Ok(true)))
}

/// Decompresses a body and asserts that the output stays within its limit. Returns whether it succeeded.
#[must_use]
pub fn inflate(wire: &[u8]) -> bool {
    let mut out = Vec::new();
    let inflated = undo(&mut Decompressor::new(), wire, &mut out).is_ok();
    assert!(out.len() <= MAX_BODY);
    inflated
}
