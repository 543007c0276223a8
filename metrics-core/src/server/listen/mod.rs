//! The port: connections, their limits, and the way of a request through authentication and authorization.
//!
//! accept → handshake → [`chain`] (request info → authenticate → limit → authorize → health, metrics, the report or the API) → answer.

mod accept;
mod activity;
mod body;
mod chain;
mod connection;
mod handshake;
pub mod health;
mod metrics;
mod requests;
mod stall;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::request::Parts;
use http::{Method, Response, Uri};
use tokio::net::TcpListener;

pub use accept::serve;
pub use body::Body;
pub use chain::{Chain, ReportSource};
pub use metrics::Metrics;
pub use requests::RequestMetrics;

use crate::server::request_info::RequestInfo;

/// What answers requests that are allowed, and words failures in the client's encoding.
pub trait Resources: Send + Sync + 'static {
    /// What a request asks for.
    fn request_info(&self, method: &Method, uri: &Uri) -> RequestInfo;

    /// The answer to an allowed request.
    fn handle(&self, request: &Parts, info: &RequestInfo) -> Response<Body>;

    /// A failure as `metav1.Status`.
    fn failure(&self, request: &Parts, failure: Failure<'_>) -> Response<Body>;
}

/// A failure before a request got to the API.
#[derive(Clone, Debug)]
pub struct Failure<'a> {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `Forbidden`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What the failure is about, if it has details.
    pub about: Option<&'a RequestInfo>,
}

/// Bounds of what clients may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; more are closed at once.
    pub connections: usize,
    /// From a connection's beginning to the end of its TLS handshake.
    pub handshake: Duration,
    /// For the headers of one HTTP/1.1 request, idle time before them included.
    pub headers: Duration,
    /// Bytes of one request's headers.
    pub header_bytes: u32,
    /// Headers of one request.
    pub header_count: usize,
    /// A connection without a request is closed after this.
    pub idle: Duration,
    /// One request, from its headers to the last byte of its answer. Watches end by themselves.
    pub request: Duration,
    /// A watch whose client takes nothing for this long is broken off.
    pub stall: Duration,
    /// Requests at once, watches apart; more get 429.
    pub in_flight: Option<usize>,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Open requests get this long to end after the port closed.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(32),
            header_bytes: 64 << 10,
            header_count: 128,
            idle: Duration::from_secs(90),
            request: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            in_flight: Some(400),
            streams: 250,
            drain: Duration::from_secs(20),
        }
    }
}

/// Binds the port. An unspecified address means all, IPv4 and IPv6 (as Go has it), or IPv4 alone where there is no
/// IPv6.
pub async fn bind(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let wanted = SocketAddr::new(address, port);
    let failed = |source| BindError { address: wanted, source };
    if address.is_unspecified()
        && let Ok(both) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await
    {
        return Ok(both);
    }
    let address = if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        address
    };
    TcpListener::bind((address, port)).await.map_err(failed)
}

/// The port can't be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address}: {source}; choose another --secure-port or --bind-address (ports below 1024 need a privilege)"
)]
pub struct BindError {
    /// The address asked for.
    address: SocketAddr,
    /// Why.
    source: std::io::Error,
}
