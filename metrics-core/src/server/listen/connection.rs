//! One connection, from its first byte to its end.
//!
//! Each phase allocates only what it needs: a silent connection has no TLS session, and one without a request has no
//! HTTP buffers. The memory of the phase is accounted in its place.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use crds::cause::HandshakeCause;
use http::Version;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::client_stream::{ClientStream, HttpStream, Meter};
use super::metrics::CloseCause;
use super::open_requests::OpenRequests;
use super::places::{Place, Source, Standing};
use super::response_timer::StreamExecutor;
use super::turns::Turns;
use super::{Chain, ConnectionMetrics, Limits, handshake};
use crate::server::authentication::ClientConnection;

/// The memory of a connection before its first byte: the task and the socket. Measured (docs/limits.md), with a margin.
pub(super) const SILENT_BYTES: usize = 3 << 10;
/// The memory of a TLS session without its client's certificates.
const TLS_BYTES: usize = 14 << 10;
/// The memory of HTTP on top of it: the buffers of hyper and h2.
const HTTP_BYTES: usize = 32 << 10;
/// How often the client's certificate chain is held: by the TLS library and for authentication.
const COPIES_OF_CHAIN: usize = 2;

/// The maximum number of unsent response bytes that an HTTP/2 stream buffers, and of frame bytes beyond it.
const SEND_BUFFER: usize = 64 << 10;
/// The HTTP/2 window of a stream. No endpoint reads the body of a request, and h2 ends a connection with many short DATA
/// frames that nobody reads: one user of kube-apiserver could end the connection that all its users share.
const STREAM_WINDOW: u32 = 0;
/// The maximum number of requests that a client cancels before they are read.
const MAX_UNREAD_RESETS: usize = 32;
/// The same for front proxies: kube-apiserver cancels the requests of all its users after this process was suspended.
const MAX_UNREAD_RESETS_OF_PROXY: usize = 4096;
/// The maximum number of malformed requests on one connection. There is no limit for front proxies, which forward what
/// their users send.
const MAX_MALFORMED_REQUESTS: usize = 1024;

/// The part that all connections share.
pub(super) struct Port {
    pub(super) chain: Arc<Chain>,
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) limits: Limits,
    pub(super) turns: Arc<Turns>,
    pub(super) metrics: ConnectionMetrics,
}

/// Serves one connection until it ends, until its place is needed, or until `closing` is true and its open requests
/// are finished.
pub(super) async fn serve<S>(
    port: Arc<Port>,
    stream: S,
    address: SocketAddr,
    place: Place,
    closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Arc::new(place);
    tokio::select! {
        () = serve_phases(&port, stream, address, &place, closing) => {}
        () = place.evicted() => {}
    }
}

async fn serve_phases<S>(
    port: &Arc<Port>,
    stream: S,
    address: SocketAddr,
    place: &Arc<Place>,
    closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let meter = Meter::new(place.clone());
    let tls = match timeout(port.limits.handshake, shake_hands(port, stream, address, &meter)).await {
        Ok(Ok(Some(tls))) => tls,
        Ok(Ok(None)) => return,
        Ok(Err((cause, detail))) => return port.metrics.handshake_failed(cause, address, &detail),
        Err(_) => return port.metrics.handshake_failed(HandshakeCause::Timeout, address, ""),
    };
    port.metrics.handshake_done();
    Box::pin(serve_http(port, tls, address, place, meter, closing)).await;
}

/// Returns the TLS stream; `None` if the place is lost.
async fn shake_hands<S>(
    port: &Port,
    mut stream: S,
    address: SocketAddr,
    meter: &Arc<Meter>,
) -> Result<Option<TlsStream<ClientStream<S>>>, (HandshakeCause, String)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let first = handshake::first_byte(&mut stream).await?;
    if !meter.enter(TLS_BYTES) {
        return Ok(None);
    }
    // The timers of responses, which know more, come first.
    let write_timeout = 2 * port.limits.stall;
    let stream = ClientStream::new(stream, first, meter.clone(), write_timeout, port.metrics.clone());
    let source = Source::from(address.ip());
    let mut tls = Box::pin(handshake::accept(stream, port.config.clone(), &port.turns, source)).await?;
    tls.get_mut().0.handshake_done();
    Ok(Some(tls))
}

async fn serve_http<S>(
    port: &Arc<Port>,
    mut tls: TlsStream<ClientStream<S>>,
    address: SocketAddr,
    place: &Arc<Place>,
    meter: Arc<Meter>,
    mut closing: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = &port.limits;
    let (_, session) = tls.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let chain: Vec<_> =
        session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let chain_bytes = COPIES_OF_CHAIN * chain.iter().map(|der| der.len()).sum::<usize>();
    let client = Arc::new(ClientConnection::new(address.ip(), chain));
    let open_requests = OpenRequests::new(place.clone(), meter.last_write());
    place.connected();
    if port.chain.is_front_proxy(&client) {
        open_requests.authenticated(Standing::FrontProxy);
    }
    let is_proxy = open_requests.standing() == Standing::FrontProxy;
    if !meter.enter(TLS_BYTES + chain_bytes) {
        return;
    }
    let connected = Instant::now();
    let first_request = connected + if is_proxy { limits.idle } else { limits.first_request };
    let mut first = [0];
    let read = tokio::select! {
        read = tls.read(&mut first) => read,
        () = sleep_until(first_request) => return port.metrics.closed(CloseCause::NoRequest),
        _ = closing.wait_for(|closing| *closing) => return,
    };
    if !matches!(read, Ok(1)) {
        return;
    }
    if !meter.enter(TLS_BYTES + chain_bytes + HTTP_BYTES) {
        return;
    }
    let (header_bytes, header_count) = if is_proxy {
        (limits.proxy_header_bytes, limits.proxy_header_count)
    } else {
        (limits.header_bytes, limits.header_count)
    };
    let (max_resets, max_malformed) = if is_proxy {
        (MAX_UNREAD_RESETS_OF_PROXY, None)
    } else {
        (MAX_UNREAD_RESETS, Some(MAX_MALFORMED_REQUESTS))
    };
    let stream = HttpStream::new(tls, first[0], meter, open_requests.clone(), header_bytes as usize);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (chain, client, open_requests) = (port.chain.clone(), client.clone(), open_requests.clone());
        async move { Ok::<_, std::convert::Infallible>(chain.handle(request, &client, open_requests).await) }
    });
    let io = TokioIo::new(stream);
    let driver =
        Driver { open_requests: &open_requests, limits, metrics: &port.metrics, http2, first_request };
    if http2 {
        let executor = StreamExecutor { stall: limits.stall, metrics: port.metrics.clone() };
        let mut builder = hyper::server::conn::http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(header_bytes)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_pending_accept_reset_streams(max_resets)
            .max_local_error_reset_streams(max_malformed)
            .keep_alive_interval(limits.idle / 3)
            .keep_alive_timeout(limits.handshake);
        driver.drive(builder.serve_connection(io, service), closing).await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(header_count)
            .max_buf_size(header_bytes as usize);
        driver.drive(builder.serve_connection(io, service), closing).await;
    }
}

/// Drives a connection and holds its deadlines.
struct Driver<'a> {
    open_requests: &'a OpenRequests,
    limits: &'a Limits,
    metrics: &'a ConnectionMetrics,
    http2: bool,
    /// The time by which the headers of the first request must be complete.
    first_request: Instant,
}

impl Driver<'_> {
    async fn drive<C: GracefulConnection>(&self, connection: C, mut closing: watch::Receiver<bool>) {
        let mut connection = pin!(connection);
        let mut expired = pin!(self.open_requests.timer.expired(self.limits.stall));
        let mut revoked = pin!(self.open_requests.timer.revoked());
        let mut closing_since: Option<Instant> = None;
        loop {
            let close = tokio::select! {
                // Resets and protocol errors are the client's.
                _ = connection.as_mut() => return,
                // Over HTTP/1.1. Over HTTP/2 the timer of the connection is never started.
                cause = expired.as_mut() => return self.metrics.closed(cause),
                () = revoked.as_mut() => return self.metrics.closed(CloseCause::Memory),
                () = self.open_requests.closing() => true,
                _ = closing.wait_for(|closing| *closing), if closing_since.is_none() => true,
                () = sleep_until(self.next_check(closing_since)) => {
                    match self.overdue(closing_since) {
                        Some(CloseCause::NoRequest) if !self.http2 => {
                            return self.metrics.closed(CloseCause::NoRequest);
                        }
                        Some(cause) if closing_since.is_some() => return self.metrics.closed(cause),
                        Some(cause) => {
                            self.metrics.closed(cause);
                            true
                        }
                        None => false,
                    }
                }
            };
            if close && closing_since.is_none() {
                closing_since = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }

    /// Returns the time at which the connection is overdue, as of now; `None` if it may continue.
    fn deadline(&self, closing_since: Option<Instant>) -> Option<Instant> {
        let limits = self.limits;
        match (closing_since, self.open_requests.idle_since()) {
            // The client must confirm the end of an idle connection.
            (Some(since), Some(idle)) => Some(since.max(idle) + limits.handshake),
            (Some(_), None) if self.open_requests.watches() => None,
            (Some(since), None) => Some(since + limits.response_timeout()),
            (None, Some(_)) if !self.open_requests.had_any() => Some(self.first_request),
            (None, Some(idle)) => Some(idle + limits.idle),
            // Each response has a timer of its own.
            (None, None) => None,
        }
    }

    /// Returns the time at which to check the deadline. It can move closer only while the connection is being closed.
    fn next_check(&self, closing_since: Option<Instant>) -> Instant {
        let limits = self.limits;
        let latest = Instant::now() + if closing_since.is_some() { limits.handshake } else { limits.idle };
        self.deadline(closing_since).map_or(latest, |deadline| deadline.min(latest))
    }

    /// Returns the cause to close the connection, if it is overdue.
    fn overdue(&self, closing_since: Option<Instant>) -> Option<CloseCause> {
        self.deadline(closing_since).filter(|deadline| *deadline <= Instant::now())?;
        Some(if closing_since.is_some() {
            CloseCause::SlowClient
        } else if self.open_requests.had_any() {
            CloseCause::Idle
        } else {
            CloseCause::NoRequest
        })
    }
}

/// Returns whether a request came over HTTP/2, where a connection has many requests.
pub(super) fn is_http2(version: Version) -> bool {
    version == Version::HTTP_2
}
