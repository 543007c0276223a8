//! `/healthz`, `/readyz` and `/metrics` over plain HTTP, for the kubelet and a Prometheus.

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

/// Connections at a time; a kubelet and two Prometheus need three.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may take in all.
const CONNECTION: Duration = Duration::from_secs(60);

/// A loop that has not come round for so long is stuck: its longest wait is a minute, and each request in it
/// ends by itself.
const STUCK: Duration = Duration::from_secs(15 * 60);

/// How the process is.
#[derive(Debug, Default)]
pub struct Health {
    /// When the loop last came round.
    beat: Mutex<Option<Instant>>,
    reached: std::sync::atomic::AtomicBool,
}

impl Health {
    /// The loop came round.
    pub fn beat(&self) {
        *self.beat.lock() = Some(Instant::now());
    }

    /// kube-apiserver was reached.
    pub fn ready(&self) {
        self.reached.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_active(&self) -> bool {
        // Before the first round it stands by.
        self.beat.lock().is_none_or(|beat| beat.elapsed() < STUCK)
    }

    fn is_ready(&self) -> bool {
        self.reached.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>, telemetry: Telemetry) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let health = health.clone();
        let telemetry = telemetry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &health, &telemetry);
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

fn answer(request: &Request<Incoming>, health: &Health, telemetry: &Telemetry) -> Response<Full<Bytes>> {
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
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served\n".to_owned());
    }
    match request.uri().path() {
        "/healthz" | "/livez" => check(health.is_active(), "the reconcile loop is stuck"),
        "/readyz" => check(health.is_ready(), "kube-apiserver was not reached yet"),
        "/metrics" => text(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            telemetry.encode(),
        ),
        _ => text(StatusCode::NOT_FOUND, "text/plain", "see /healthz, /readyz and /metrics\n".to_owned()),
    }
}

/// Opens the listener.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // A node without IPv6 has no [::].
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let ipv4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
            tracing::debug!(%error, "IPv6 can't be listened on; IPv4 alone is");
            TcpListener::bind(ipv4).await
        }
        other => other,
    }
}
