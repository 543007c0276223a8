//! The connections to kube-apiserver.
//!
//! hyper's pool does not know whether an idle or a shared connection still works. When a response is slow, all later
//! requests therefore use a new pool, with new connections: a second attempt must not wait on the connection of the
//! first. Requests that are under way continue on theirs.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tower::{BoxError, Service};

/// The timeout for TCP and TLS together. SYNs are repeated after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing was received for this time gets a ping, also without requests.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// The time after which a connection without a response to a ping is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The flow-control windows of HTTP/2, which bound what is buffered. A stream that is read slowly leaves room for others.
const CONNECTION_WINDOW: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 256 * 1024;
/// The maximum number of idle HTTP/1.1 connections.
const MAX_IDLE: usize = 16;

/// Sends one request.
type SendRequest = Arc<dyn Fn(Request<Body>) -> Sending + Send + Sync>;
/// A request under way, until the response head.
pub(super) type Sending = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

/// The connections, shared by all clients of one kubeconfig.
pub(super) struct Connections {
    open_pool: Box<dyn Fn() -> SendRequest + Send + Sync>,
    current: Mutex<Pool>,
    replaced: Counter,
}

#[derive(Clone)]
struct Pool {
    number: u64,
    send: SendRequest,
}

impl Connections {
    /// Returns a pool of connections that `connector` opens.
    pub(super) fn new<C>(connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        ConnectTimeout<C>: Connect,
    {
        let open_pool = move || {
            let client: Client<_, Body> = Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(MAX_IDLE)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(PING_TIMEOUT)
                .http2_keep_alive_while_idle(true)
                .build(ConnectTimeout(connector.clone()));
            let send: SendRequest =
                Arc::new(move |request| client.request(request).map(|sent| Ok(sent?)).boxed());
            send
        };
        let current = Mutex::new(Pool { number: 0, send: open_pool() });
        Self { open_pool: Box::new(open_pool), current, replaced: Counter::default() }
    }

    /// Sends a request. Also returns the number of the pool, for [`Connections::replace`].
    pub(super) fn send(&self, request: Request<Body>) -> (u64, Sending) {
        let Pool { number, send } = self.current.lock().clone();
        (number, send(request))
    }

    /// Sends all later requests over new connections, unless this pool has already been replaced.
    pub(super) fn replace(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
            *current = Pool { number: number + 1, send: (self.open_pool)() };
            self.replaced.inc();
        }
    }

    /// Sends all later requests over new connections.
    pub(super) fn replace_current(&self) {
        let number = self.current.lock().number;
        self.replace(number);
    }

    /// Registers the metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "metrics_core_apiserver_connections_replaced",
            "Times that requests to kube-apiserver moved to a new connection: a response was slow, or the client \
             certificate changed",
            self.replaced.clone(),
        );
    }
}

/// Limits the time in which a connection opens.
#[derive(Clone)]
pub(super) struct ConnectTimeout<C>(C);

impl<C> Service<Uri> for ConnectTimeout<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.0.call(uri));
        async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}").into()),
            }
        }
        .boxed()
    }
}
