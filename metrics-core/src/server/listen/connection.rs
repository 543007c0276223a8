//! One connection, from its TLS handshake to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use crds::cause::HandshakeCause;
use http::Version;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::metrics::CloseCause;
use super::open_requests::OpenRequests;
use super::stall::StreamExecutor;
use super::{Chain, ConnectionMetrics, Limits, handshake};
use crate::server::authentication::ClientConnection;

/// The part that all connections share.
pub(super) struct Port {
    pub(super) chain: Arc<Chain>,
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) limits: Limits,
    pub(super) metrics: ConnectionMetrics,
}

/// Serves one connection until it ends, or until `closing` is true and its open requests are finished.
pub(super) async fn serve(
    port: Arc<Port>,
    stream: TcpStream,
    address: std::net::SocketAddr,
    closing: watch::Receiver<bool>,
) {
    let _open = port.metrics.opened();
    let _ = stream.set_nodelay(true);
    let handshake = timeout(port.limits.handshake, handshake::accept(stream, port.config.clone())).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err((cause, detail))) => return port.metrics.handshake_failed(cause, address, &detail),
        Err(_) => return port.metrics.handshake_failed(HandshakeCause::Timeout, address, ""),
    };
    port.metrics.handshake_done();
    let (_, tls) = stream.get_ref();
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let certificates =
        tls.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let client = Arc::new(ClientConnection::new(address.ip(), certificates));
    let open_requests = OpenRequests::new();
    let service = service_fn(|request: http::Request<Incoming>| {
        let (chain, client, open_requests) = (port.chain.clone(), client.clone(), open_requests.clone());
        async move { Ok::<_, std::convert::Infallible>(chain.handle(request, &client, open_requests).await) }
    });
    let limits = &port.limits;
    let io = TokioIo::new(stream);
    if http2 {
        let streams = StreamExecutor { timeout: limits.stall, metrics: port.metrics.clone() };
        let mut builder = hyper::server::conn::http2::Builder::new(streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(limits.idle / 3)
            .keep_alive_timeout(limits.handshake);
        drive(builder.serve_connection(io, service), &open_requests, limits, &port.metrics, closing).await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(limits.header_count)
            .max_buf_size(limits.header_bytes as usize);
        drive(builder.serve_connection(io, service), &open_requests, limits, &port.metrics, closing).await;
    }
}

async fn drive<C: GracefulConnection>(
    connection: C,
    open_requests: &OpenRequests,
    limits: &Limits,
    metrics: &ConnectionMetrics,
    mut closing: watch::Receiver<bool>,
) {
    let mut connection = pin!(connection);
    let mut check = interval(limits.idle.min(limits.request) / 4);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stalled = pin!(open_requests.stall.overdue(limits.stall));
    let mut revoked = pin!(open_requests.stall.revoked());
    let mut closing_since: Option<Instant> = None;
    loop {
        let close = tokio::select! {
            // Resets and protocol errors are the client's.
            _ = connection.as_mut() => return,
            () = stalled.as_mut() => return metrics.closed(CloseCause::SlowWatch),
            () = revoked.as_mut() => return metrics.closed(CloseCause::Memory),
            () = open_requests.closing() => true,
            _ = closing.wait_for(|closing| *closing), if closing_since.is_none() => true,
            _ = check.tick() => {
                let overdue = closing_since.is_some_and(|since| since.elapsed() > limits.request)
                    && !open_requests.watches();
                if overdue || open_requests.oldest() > limits.request + limits.headers {
                    metrics.closed(CloseCause::SlowClient);
                    return;
                }
                let idle = closing_since.is_none() && open_requests.idle() > limits.idle;
                if idle {
                    metrics.closed(CloseCause::Idle);
                }
                idle
            }
        };
        if close && closing_since.is_none() {
            closing_since = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Returns whether a request came over HTTP/2, where a connection has many requests.
pub(super) fn is_http2(version: Version) -> bool {
    version == Version::HTTP_2
}
