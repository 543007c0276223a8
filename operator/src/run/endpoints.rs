//! `/healthz`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::report::Telemetry;

/// The maximum count of concurrent connections; a kubelet and two Prometheus servers need three.
const MAX_CONNECTIONS: usize = 16;

/// The maximum duration of a connection.
const CONNECTION: Duration = Duration::from_secs(60);

/// A reconcile loop without an iteration for this time is stuck: its longest pause is a minute, and each request in it has a
/// timeout.
const STUCK: Duration = Duration::from_secs(15 * 60);

/// The health of the process.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// When the loop last finished an iteration.
    beat: Mutex<Option<Instant>>,
    reached: std::sync::atomic::AtomicBool,
}

impl Health {
    /// Records an iteration of the loop.
    pub(super) fn beat(&self) {
        *self.beat.lock() = Some(Instant::now());
    }

    /// Records that kube-apiserver responded.
    pub(super) fn ready(&self) {
        self.reached.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_live(&self) -> bool {
        // Before the first iteration the process stands by.
        self.beat.lock().is_none_or(|beat| beat.elapsed() < STUCK)
    }

    fn is_ready(&self) -> bool {
        self.reached.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, health: Arc<Health>, telemetry: Telemetry) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let health = health.clone();
        let telemetry = telemetry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(&request, &health, &telemetry);
                async { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(permit);
        });
    }
}

fn respond(request: &Request<Incoming>, health: &Health, telemetry: &Telemetry) -> Response<Full<Bytes>> {
    let text = |code: StatusCode, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = code;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    };
    let check = |good: bool, why: &str| {
        let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        text(code, "text/plain", format!("{}\n", if good { "ok" } else { why }))
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is allowed\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" | "/livez" => check(health.is_live(), "the reconcile loop is stuck"),
        "/readyz" => check(health.is_ready(), "kube-apiserver has not responded yet"),
        "/metrics" => text(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            telemetry.encode(),
        ),
        _ => text(StatusCode::NOT_FOUND, "text/plain", "see /healthz, /readyz and /metrics\n".to_owned()),
    }
}

/// Binds the listener.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // A node without IPv6 has no [::].
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let ipv4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
            tracing::debug!(%error, "cannot listen on IPv6; listening on IPv4 only");
            TcpListener::bind(ipv4).await
        }
        other => other,
    }
}
