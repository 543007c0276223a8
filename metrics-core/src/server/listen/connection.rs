//! One connection, from its handshake to its end.

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

use super::activity::Activity;
use super::metrics::Close;
use super::stall::Streams;
use super::{Chain, Limits, Metrics, handshake};
use crate::server::authentication::Peer;

/// What all connections share.
pub(super) struct Port {
    pub(super) chain: Arc<Chain>,
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
}

/// Serves one connection until it ends, or `closing` turns true and its open requests are answered.
pub(super) async fn serve(
    port: Arc<Port>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    closing: watch::Receiver<bool>,
) {
    let _open = port.metrics.opened();
    let _ = stream.set_nodelay(true);
    let shaken = timeout(port.limits.handshake, handshake::shake(stream, port.config.clone())).await;
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err((cause, detail))) => return port.metrics.handshake_failed(cause, peer, &detail),
        Err(_) => return port.metrics.handshake_failed(HandshakeCause::Timeout, peer, ""),
    };
    port.metrics.handshake_done();
    let (_, tls) = stream.get_ref();
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let certificates =
        tls.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let certificates = Arc::new(Peer::new(peer.ip(), certificates));
    let activity = Activity::new();
    let service = service_fn(|request: http::Request<Incoming>| {
        let (chain, certificates, activity) = (port.chain.clone(), certificates.clone(), activity.clone());
        async move { Ok::<_, std::convert::Infallible>(chain.answer(request, &certificates, activity).await) }
    });
    let limits = &port.limits;
    let io = TokioIo::new(stream);
    if http2 {
        let streams = Streams { patience: limits.stall, metrics: port.metrics.clone() };
        let mut builder = hyper::server::conn::http2::Builder::new(streams);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(limits.idle / 3)
            .keep_alive_timeout(limits.handshake);
        drive(builder.serve_connection(io, service), &activity, limits, &port.metrics, closing).await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(limits.header_count)
            .max_buf_size(limits.header_bytes as usize);
        drive(builder.serve_connection(io, service), &activity, limits, &port.metrics, closing).await;
    }
}

async fn drive<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    limits: &Limits,
    metrics: &Metrics,
    mut closing: watch::Receiver<bool>,
) {
    let mut connection = pin!(connection);
    let mut look = interval(limits.idle.min(limits.request) / 4);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stalled = pin!(activity.stall.overdue(limits.stall));
    let mut closing_since: Option<Instant> = None;
    loop {
        let close = tokio::select! {
            // What breaks a connection (resets, protocol errors) is the client's affair.
            _ = connection.as_mut() => return,
            () = stalled.as_mut() => return metrics.closed(Close::SlowWatch),
            () = activity.closing() => true,
            _ = closing.wait_for(|closing| *closing), if closing_since.is_none() => true,
            _ = look.tick() => {
                let overdue = closing_since.is_some_and(|since| since.elapsed() > limits.request)
                    && !activity.watches();
                if overdue || activity.oldest() > limits.request + limits.headers {
                    metrics.closed(Close::SlowClient);
                    return;
                }
                let idle = closing_since.is_none() && activity.idle() > limits.idle;
                if idle {
                    metrics.closed(Close::Idle);
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

/// Whether a request came by HTTP/2, where one connection carries many.
pub(super) fn is_http2(version: Version) -> bool {
    version == Version::HTTP_2
}
