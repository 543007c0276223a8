//! A fake kube-apiserver in memory, over HTTP/1.1 or HTTP/2, whose connections and watches can be made silent.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Config;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::Service;

use super::Cluster;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// The server. Clones are the same server.
#[derive(Clone)]
pub(crate) struct FakeApiServer(Arc<State>);

struct State {
    is_http2: bool,
    /// All objects of all kinds, in order of their creation.
    objects: watch::Sender<Vec<Value>>,
    connections: Mutex<Vec<Arc<AtomicBool>>>,
    /// Whether new connections are silent.
    silent: AtomicBool,
    /// The number of streams that fell silent: watches that began before it send nothing and do not end.
    stalled: AtomicUsize,
    /// What a new watch returns.
    watches: Mutex<NewWatch>,
    requests: Mutex<Vec<String>>,
}

/// What a new watch returns.
#[derive(Clone, Copy, Default)]
enum NewWatch {
    #[default]
    Events,
    /// A response head.
    Nothing,
    /// An empty body.
    End,
    /// An error event.
    Error,
    /// Status 500.
    Refusal,
}

impl FakeApiServer {
    pub(crate) fn new(is_http2: bool) -> Self {
        Self(Arc::new(State {
            is_http2,
            objects: watch::Sender::new(Vec::new()),
            connections: Mutex::default(),
            silent: AtomicBool::new(false),
            stalled: AtomicUsize::new(0),
            watches: Mutex::default(),
            requests: Mutex::default(),
        }))
    }

    /// One server for each version of HTTP.
    pub(crate) fn both() -> [Self; 2] {
        [Self::new(false), Self::new(true)]
    }

    /// Returns clients of the server.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut config = Config::new(Uri::from_static("http://fake"));
        config.default_retry = false;
        Cluster::with_connector(config, self.clone())
    }

    /// Creates an object.
    pub(crate) fn create(&self, kind: &str, namespace: &str, name: &str, mut object: Value) {
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        object["metadata"] = json!({"name": name, "namespace": namespace, "uid": name});
        self.0.objects.send_modify(|objects| {
            object["metadata"]["resourceVersion"] = json!((objects.len() + 1).to_string());
            objects.push(object);
        });
    }

    /// Neither reads from nor writes to the open connections any more, as if they were half-open.
    pub(crate) fn freeze_connections(&self) {
        for frozen in &*self.0.connections.lock() {
            frozen.store(true, Ordering::Relaxed);
        }
    }

    /// Accepts connections and is silent on them, or not.
    pub(crate) fn freeze_new_connections(&self, silent: bool) {
        self.0.silent.store(silent, Ordering::Relaxed);
    }

    /// Sends nothing more on the open watches, and does not end them. The connection works, as behind a proxy.
    pub(crate) fn stall_watches(&self) {
        self.0.stalled.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends nothing more on any watch, and does not end them.
    pub(crate) fn stall_all_watches(&self) {
        self.stall_watches();
        *self.0.watches.lock() = NewWatch::Nothing;
    }

    /// Ends every new watch at once.
    pub(crate) fn end_watches(&self) {
        *self.0.watches.lock() = NewWatch::End;
    }

    /// Sends only error events on new watches, and nothing on open ones.
    pub(crate) fn fail_watches(&self) {
        self.stall_watches();
        *self.0.watches.lock() = NewWatch::Error;
    }

    /// Refuses new watches, and sends nothing on open ones.
    pub(crate) fn refuse_watches(&self) {
        self.stall_watches();
        *self.0.watches.lock() = NewWatch::Refusal;
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.0.connections.lock().len()
    }

    /// The requests so far: method, path and query.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.requests.lock().clone()
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        self.0.requests.lock().push(format!("{} {}", request.method(), request.uri()));
        if request.method() == Method::POST {
            return review(request.uri().path());
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let kind = match request.uri().path().rsplit('/').next() {
            Some("nodes") => "Node",
            Some("pods") => "Pod",
            Some("configmaps") => "ConfigMap",
            _ => "Secret",
        };
        if query.contains("watch=true") {
            let mut response = Response::new(self.watch(kind, &query));
            if matches!(*self.0.watches.lock(), NewWatch::Refusal) {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            return response;
        }
        let objects = self.0.objects.borrow();
        let items: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
        json_response(&json!({
            "kind": format!("{kind}List"), "apiVersion": "v1",
            "metadata": {"resourceVersion": objects.len().to_string()}, "items": items,
        }))
    }

    /// Streams the events after `resourceVersion`. Ends after `timeoutSeconds`, with a bookmark before.
    fn watch(&self, kind: &'static str, query: &str) -> Body {
        let value = |key: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(key));
            pair.and_then(|value| value.parse::<u64>().ok())
        };
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
            "message": "etcd", "reason": "InternalError"});
        match *self.0.watches.lock() {
            NewWatch::Events => {}
            NewWatch::Nothing => {
                let nothing = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                return StreamBody::new(nothing).boxed_unsync();
            }
            NewWatch::End => return Full::default().boxed_unsync(),
            NewWatch::Refusal => return Full::from(status.to_string()).boxed_unsync(),
            NewWatch::Error => {
                let event = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
                return Full::from(event).boxed_unsync();
            }
        }
        let initial = query.contains("sendInitialEvents=true");
        let from = if initial { 0 } else { value("resourceVersion=").unwrap_or_default() };
        let end = Instant::now() + Duration::from_secs(value("timeoutSeconds=").unwrap_or(1800));
        let objects = self.0.objects.subscribe();
        let start = WatchState {
            server: self.clone(),
            stalled: self.0.stalled.load(Ordering::Relaxed),
            objects,
            seen: usize::try_from(from).unwrap(),
            kind,
            initial,
            end,
            bookmarked: false,
        };
        let events = stream::unfold(start, WatchState::next);
        StreamBody::new(events.map(|line| Ok(Frame::data(Bytes::from(line))))).boxed_unsync()
    }
}

struct WatchState {
    server: FakeApiServer,
    stalled: usize,
    objects: watch::Receiver<Vec<Value>>,
    /// The number of objects that were sent or skipped.
    seen: usize,
    kind: &'static str,
    initial: bool,
    end: Instant,
    bookmarked: bool,
}

impl WatchState {
    async fn next(mut self) -> Option<(String, Self)> {
        loop {
            if self.stalled != self.server.0.stalled.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let next = self.objects.borrow_and_update().get(self.seen).cloned();
            if let Some(object) = next {
                self.seen += 1;
                if object["kind"] == self.kind {
                    return Some((format!("{}\n", json!({"type": "ADDED", "object": object})), self));
                }
                continue;
            }
            if std::mem::take(&mut self.initial) {
                return Some((self.bookmark(true), self));
            }
            let bookmark = self.end.checked_sub(Duration::from_secs(2)).filter(|_| !self.bookmarked);
            tokio::select! {
                _ = self.objects.changed() => {}
                () = sleep_until(bookmark.unwrap_or(self.end)) => {
                    if self.stalled == self.server.0.stalled.load(Ordering::Relaxed) {
                        bookmark?;
                        self.bookmarked = true;
                        return Some((self.bookmark(false), self));
                    }
                }
            }
        }
    }

    fn bookmark(&self, ends_list: bool) -> String {
        let annotations = if ends_list { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
        let metadata = json!({"resourceVersion": self.seen.max(1).to_string(), "annotations": annotations});
        let object = json!({"kind": self.kind, "apiVersion": "v1", "metadata": metadata});
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }
}

fn review(path: &str) -> Response<Body> {
    let status = if path.ends_with("tokenreviews") {
        json!({"authenticated": true, "user": {"username": "jane"}})
    } else {
        json!({"allowed": true})
    };
    json_response(&json!({"metadata": {}, "spec": {}, "status": status}))
}

fn json_response(value: &Value) -> Response<Body> {
    Response::new(Full::from(value.to_string()).boxed_unsync())
}

/// The connector: every connection is a pipe to the server.
impl Service<Uri> for FakeApiServer {
    type Response = ClientIo;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<ClientIo>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, server) = tokio::io::duplex(256 * 1024);
        let frozen = Arc::new(AtomicBool::new(self.0.silent.load(Ordering::Relaxed)));
        self.0.connections.lock().push(frozen.clone());
        let (state, is_http2) = (self.clone(), self.0.is_http2);
        tokio::spawn(async move {
            let handler = service_fn(move |request: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(state.respond(&request)))
            });
            let io = TokioIo::new(Freezable { io: server, frozen });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(io, handler).await;
        });
        async move { Ok(ClientIo { io: TokioIo::new(client), is_http2 }) }.boxed()
    }
}

/// The client's end of a connection.
pub(crate) struct ClientIo {
    io: TokioIo<DuplexStream>,
    is_http2: bool,
}

impl Connection for ClientIo {
    fn connected(&self) -> Connected {
        if self.is_http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl hyper::rt::Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// The server's end of a connection. Frozen, it neither reads nor writes, for ever.
struct Freezable {
    io: DuplexStream,
    frozen: Arc<AtomicBool>,
}

impl AsyncRead for Freezable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frozen.load(Ordering::Relaxed) {
            Poll::Pending
        } else {
            Pin::new(&mut self.io).poll_read(context, buffer)
        }
    }
}

impl AsyncWrite for Freezable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.frozen.load(Ordering::Relaxed) {
            Poll::Pending
        } else {
            Pin::new(&mut self.io).poll_write(context, bytes)
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
