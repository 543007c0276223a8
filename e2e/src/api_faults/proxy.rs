//! The proxy between the operator and kube-apiserver: plain HTTP on one side, TLS on the other. It forwards every request
//! with the operator's own token, records the writes, and injects one fault.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::call::{Call, Target};
use super::fault::{Decision, Fault, Injector};
use crate::error::{Doing as _, Error, Result};
use crate::testbed::cluster::control_plane::{ADDRESS, PORT};

/// A write that reached kube-apiserver.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) call: Call,
    /// The number of the operator that sent it.
    pub(super) operator: usize,
    pub(super) status: u16,
    /// When it was forwarded.
    pub(super) sent: Instant,
    /// The certificate of the CA, if the write stores one.
    pub(super) ca: Option<String>,
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Proxy(Arc<Shared>);

struct Shared {
    tls: TlsConnector,
    injector: Mutex<Injector>,
    writes: Mutex<Vec<Write>>,
    /// The process of each operator, by its number.
    pids: Mutex<Vec<Option<u32>>>,
}

/// A connection that ends without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
struct Closed;

type Upstream = Arc<tokio::sync::Mutex<Option<http1::SendRequest<Full<Bytes>>>>>;

impl Proxy {
    /// Creates the proxy with a TLS configuration for kube-apiserver.
    pub(super) fn new(mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(Shared {
            tls: TlsConnector::from(Arc::new(tls)),
            injector: Mutex::new(Injector::new(Fault::Nothing)),
            writes: Mutex::default(),
            pids: Mutex::default(),
        }))
    }

    /// Listens for the operator of this number; returns the address.
    pub(super) async fn listen(&self, operator: usize) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.doing(|| "listen".to_owned())?;
        let address = listener.local_addr().doing(|| "listen".to_owned())?;
        let shared = self.0.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                let upstream = Upstream::default();
                let service = service_fn(move |request| {
                    let (shared, upstream) = (shared.clone(), upstream.clone());
                    async move { shared.handle(request, operator, upstream).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(address)
    }

    /// Sets the process of an operator, which faults kill or stop.
    pub(super) fn set_process(&self, operator: usize, pid: Option<u32>) {
        let mut pids = self.0.pids.lock();
        if pids.len() <= operator {
            pids.resize(operator + 1, None);
        }
        pids[operator] = pid;
    }

    /// Prepares the fault of the next run and forgets the writes of the last one.
    pub(super) fn arm(&self, fault: Fault) {
        *self.0.injector.lock() = Injector::new(fault);
        self.0.writes.lock().clear();
    }

    /// The journey begins.
    pub(super) fn begin(&self) {
        self.0.injector.lock().begin();
        self.0.writes.lock().clear();
    }

    /// Whether the fault was injected.
    pub(super) fn fired(&self) -> bool {
        self.0.injector.lock().fired()
    }

    /// Returns the kinds of requests since the journey began.
    pub(super) fn seen(&self) -> BTreeSet<Target> {
        self.0.injector.lock().seen()
    }

    /// Returns the writes that reached kube-apiserver since the journey began.
    pub(super) fn writes(&self) -> Vec<Write> {
        self.0.writes.lock().clone()
    }
}

impl Shared {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        operator: usize,
        upstream: Upstream,
    ) -> Result<Response<Lines>, Closed> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", http_path).to_owned();
        let call = Call::of(head.method.as_str(), head.uri.path(), head.uri.query().unwrap_or_default());
        let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
        let decision = self.injector.lock().decide(&call, &path);
        match decision {
            Decision::Kill => {
                self.signal(operator, Signal::KILL);
                return std::future::pending().await;
            }
            Decision::Hang => return std::future::pending().await,
            Decision::Respond(status) => return Ok(failure(status)),
            Decision::Replay(status, body) => return Ok(response(status, body)),
            Decision::Forward | Decision::ForwardAndKill | Decision::ForwardAndStop => {}
        }
        let sent = Instant::now();
        let mut forwarded = Request::builder().method(head.method).uri(path.as_str());
        for (name, value) in &head.headers {
            // Compressed responses could not be read here.
            if !matches!(name.as_str(), "host" | "accept-encoding" | "content-length" | "transfer-encoding") {
                forwarded = forwarded.header(name, value);
            }
        }
        let forwarded = forwarded
            .header("host", format!("{ADDRESS}:{PORT}"))
            .body(Full::new(body.clone()))
            .map_err(|_| Closed)?;
        let mut connection = upstream.lock().await;
        let mut sender = match connection.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await.map_err(|_| Closed)?,
        };
        sender.ready().await.map_err(|_| Closed)?;
        let received = sender.send_request(forwarded).await.map_err(|_| Closed)?;
        *connection = Some(sender);
        drop(connection);
        let status = received.status().as_u16();
        if call.target.verb == "watch" && status == 200 {
            return Ok(self.watch(call, received));
        }
        let received = received.into_body().collect().await.map_err(|_| Closed)?.to_bytes();
        if call.target.is_write() {
            let ca = stored_ca(&call, &body).filter(|_| status < 300);
            self.writes.lock().push(Write { call, operator, status, sent, ca });
        } else {
            self.injector.lock().keep(&call, &path, status, &received);
        }
        match decision {
            Decision::ForwardAndKill => {
                self.signal(operator, Signal::KILL);
                return std::future::pending().await;
            }
            Decision::ForwardAndStop => self.signal(operator, Signal::STOP),
            _ => {}
        }
        Ok(response(status, received))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>> {
        let doing = || "connect to kube-apiserver".to_owned();
        let stream = TcpStream::connect((ADDRESS, PORT)).await.doing(doing)?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::IpAddress(std::net::IpAddr::from(ADDRESS).into());
        let stream = self.tls.connect(name, stream).await.doing(doing)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Invalid(format!("kube-apiserver: {error}")))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Forwards the events of a watch line by line, and drops the one that the fault names.
    fn watch(self: Arc<Self>, call: Call, received: Response<Incoming>) -> Response<Lines> {
        let (sender, lines) = mpsc::unbounded_channel();
        let mut events = received.into_body();
        tokio::spawn(async move {
            let mut rest = Vec::new();
            loop {
                let frame = tokio::select! {
                    frame = events.frame() => frame,
                    // The operator ended the watch.
                    () = sender.closed() => return,
                };
                let Some(Ok(frame)) = frame else { return };
                let Ok(data) = frame.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if !self.injector.lock().drops(&call, &line) && sender.send(Bytes::from(line)).is_err() {
                        return;
                    }
                }
            }
        });
        with_status(200, Lines(lines))
    }

    fn signal(&self, operator: usize, signal: Signal) {
        let pid = self.pids.lock().get(operator).copied().flatten();
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

fn http_path(path: &PathAndQuery) -> &str {
    path.as_str()
}

/// Returns the certificate that a write stores as the operator's CA.
fn stored_ca(call: &Call, body: &[u8]) -> Option<String> {
    if call.target.resource != "secrets" || call.name != "metrics-core-ca" {
        return None;
    }
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body["data"]["tls.crt"].as_str().map(str::to_owned)
}

/// Returns the error that kube-apiserver returns with this status.
fn failure(status: u16) -> Response<Lines> {
    let (reason, message) = match status {
        409 => ("Conflict", "Operation cannot be fulfilled: the object has been modified (injected)"),
        429 => ("TooManyRequests", "the server has received too many requests (injected)"),
        _ => ("InternalError", "Internal error occurred: etcdserver: request timed out (injected)"),
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    let mut response = response(status, Bytes::from(body.to_string()));
    if status == 429 {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    response
}

fn response(status: u16, body: Bytes) -> Response<Lines> {
    let (sender, lines) = mpsc::unbounded_channel();
    let _ = sender.send(body);
    with_status(status, Lines(lines))
}

fn with_status(status: u16, body: Lines) -> Response<Lines> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::BAD_GATEWAY);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// A body that is written while it is sent.
struct Lines(mpsc::UnboundedReceiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ca_that_a_write_stores() {
        let body = br#"{"data":{"tls.crt":"Q0E=","tls.key":"S0VZ"}}"#;
        let path = "/api/v1/namespaces/a/secrets/metrics-core-ca";
        assert_eq!(stored_ca(&Call::of("PATCH", path, ""), body).as_deref(), Some("Q0E="));
        let other = "/api/v1/namespaces/a/secrets/metrics-core-serving";
        assert_eq!(stored_ca(&Call::of("PATCH", other, ""), body), None);
        assert_eq!(stored_ca(&Call::of("DELETE", path, ""), b""), None);
    }
}
