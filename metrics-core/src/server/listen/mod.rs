//! The HTTPS port: connections, their limits, and the handler chain of a request.
//!
//! accept → [`places`] → handshake → connection → [`chain`] (request info → authenticate → limit → authorize → health, metrics,
//! report or the API) → response.

mod accept;
mod bind;
mod body;
mod chain;
mod client_stream;
mod connection;
mod handshake;
pub mod health;
mod metrics;
mod open_requests;
mod places;
mod requests;
mod response_timer;
mod turns;

use std::sync::Arc;
use std::time::Duration;

pub use accept::{Listener, serve};
pub use bind::{BindError, bind};
pub(crate) use body::DirectClient;
pub use body::{BoxedBody, LongRunning};
pub use chain::{Chain, Handlers, ReportSource};
use http::request::Parts;
use http::{Method, Response, Uri};
pub use metrics::ConnectionMetrics;
pub use requests::RequestMetrics;

use crate::memory::MemoryBudget;
use crate::server::request_info::RequestInfo;

/// Handles the requests of the API.
pub trait ApiHandler: Send + Sync + 'static {
    /// Returns the attributes of a request.
    fn request_info(&self, method: &Method, uri: &Uri) -> RequestInfo;

    /// Returns the response to an authorized request.
    fn handle(&self, request: &Parts, info: &RequestInfo) -> Response<BoxedBody>;

    /// Returns a failure as `metav1.Status` in the encoding that the client accepts.
    fn failure(&self, request: &Parts, failure: Failure<'_>) -> Response<BoxedBody>;
}

/// A failure before the request reaches the API.
#[derive(Clone, Debug)]
pub struct Failure<'a> {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `Forbidden`.
    pub(crate) reason: &'static str,
    /// The message.
    pub message: String,
    /// The request, if the Status has details.
    pub(crate) about: Option<&'a RequestInfo>,
}

/// Limits for clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of connections. When it is reached, a new connection takes the place of an idle one.
    pub connections: usize,
    /// The budget from which connections reserve their memory, without responses.
    pub memory: Arc<MemoryBudget>,
    /// Timeout from accepting a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// Timeout from the end of the TLS handshake to the end of the headers of the first request. Does not apply to front
    /// proxies, which may connect in advance.
    pub first_request: Duration,
    /// Timeout for the headers of a further HTTP/1.1 request, idle time before them included.
    pub headers: Duration,
    /// Maximum size of the headers of a request, in bytes.
    pub header_bytes: u32,
    /// Maximum number of headers of an HTTP/1.1 request.
    pub header_count: usize,
    /// As `header_bytes`, for front proxies: they send a header for each group of their user.
    pub proxy_header_bytes: u32,
    /// As `header_count`, for front proxies.
    pub proxy_header_count: usize,
    /// Idle timeout: a connection without a request is closed.
    pub idle: Duration,
    /// Timeout of a request, from its headers to the headers of its response.
    pub request: Duration,
    /// A response whose client reads nothing for this time ends: over HTTP/2 the stream, over HTTP/1.1 the connection.
    pub stall: Duration,
    /// Maximum number of requests in flight, without watches; more get 429.
    pub in_flight: Option<usize>,
    /// Maximum number of concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Timeout for open requests after the port is closed.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            memory: MemoryBudget::new(64 << 20),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(10),
            headers: Duration::from_secs(32),
            header_bytes: 32 << 10,
            header_count: 128,
            proxy_header_bytes: 256 << 10,
            proxy_header_count: 2048,
            idle: Duration::from_secs(90),
            request: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            in_flight: Some(400),
            streams: 250,
            drain: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Returns the timeout from the headers of a request to the last byte of its response. Does not apply to watches.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.request + self.stall
    }
}
