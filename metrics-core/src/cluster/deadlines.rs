//! The timeouts of a request to kube-apiserver.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use kube::client::Body;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::{BoxError, Service};

use super::connections::Connections;
use crate::telemetry::Heartbeat;

/// The time after which a response head is slow, and later requests use a new connection.
const SLOW_HEAD: Duration = Duration::from_secs(2);
/// The timeout of a response head. kube-apiserver can queue a request for up to 15 s (API Priority and Fairness).
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The time after which kube-apiserver ends a watch. A new one costs it little: it resumes from the last bookmark, which
/// kube-apiserver sends 2 s before the end.
const WATCH_SECONDS: u64 = 30;
/// The maximum pause in the body of a watch: it has no changes, and some time passes until its end arrives.
const WATCH_IDLE_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS + 5);
/// The maximum pause in the body of any other response, and of a watch that begins with a list: its end, or the end of the
/// list, should arrive without pauses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// A watch that ends earlier, without an event, has failed (as in client-go).
const MIN_WATCH: Duration = Duration::from_secs(1);
/// The beginning of an event of a watch that reports an error.
const ERROR_EVENT: &[u8] = b"{\"type\":\"ERROR\"";

/// An exceeded timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeadlineError {
    /// No response head.
    #[error("kube-apiserver did not respond within {HEAD_TIMEOUT:?}")]
    Head,
    /// The body made no progress.
    #[error("kube-apiserver sent nothing for {IDLE_TIMEOUT:?} within a response")]
    Idle,
    /// The watch ended at once. As an error it is retried with backoff.
    #[error("the watch ended at once and without an event")]
    ShortWatch,
}

/// The service that sends requests within timeouts.
#[derive(Clone)]
pub(super) struct Deadlines {
    connections: Arc<Connections>,
    /// Beats when kube-apiserver confirms what a watch knows.
    view: Option<Heartbeat>,
}

impl Deadlines {
    pub(super) fn new(connections: Arc<Connections>, view: Option<Heartbeat>) -> Self {
        Self { connections, view }
    }
}

impl Service<Request<Body>> for Deadlines {
    type Response = Response<TimedBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<TimedBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let kind = limit_watch(request.uri_mut());
        let (connections, view) = (self.connections.clone(), self.view.clone());
        async move {
            let (pool, mut head) = connections.send(request);
            let response = if let Ok(response) = timeout(SLOW_HEAD, &mut head).await {
                response?
            } else {
                connections.replace(pool);
                let rest = HEAD_TIMEOUT.saturating_sub(SLOW_HEAD);
                timeout(rest, head).await.map_err(|_| DeadlineError::Head)??
            };
            let (kind, view) =
                if response.status().is_success() { (kind, view) } else { (BodyKind::Complete, None) };
            Ok(response.map(|body| TimedBody::new(body, kind, view)))
        }
        .boxed()
    }
}

/// What a response body consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    /// An object or a list.
    Complete,
    /// A list and the events after it.
    ListAndWatch,
    /// Events.
    Watch,
}

impl BodyKind {
    const fn idle_timeout(self) -> Duration {
        match self {
            Self::Complete | Self::ListAndWatch => IDLE_TIMEOUT,
            Self::Watch => WATCH_IDLE_TIMEOUT,
        }
    }
}

/// Returns what a request is for, and limits the duration of a watch that does not begin with a list: a long list must not
/// be cut off.
fn limit_watch(uri: &mut Uri) -> BodyKind {
    let pairs = uri.query().unwrap_or_default().split('&');
    if !pairs.clone().any(|pair| pair == "watch=true" || pair == "watch=1") {
        return BodyKind::Complete;
    }
    if pairs.clone().any(|pair| pair == "sendInitialEvents=true") {
        return BodyKind::ListAndWatch;
    }
    let mut limited = format!("{}?timeoutSeconds={WATCH_SECONDS}", uri.path());
    for pair in pairs.filter(|pair| !pair.is_empty() && !pair.starts_with("timeoutSeconds=")) {
        limited.push('&');
        limited.push_str(pair);
    }
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = limited.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    BodyKind::Watch
}

/// A response body with a timeout for each pause. A watch that is silent for too long ends, so that it is resumed; any
/// other body fails.
pub(super) struct TimedBody {
    body: Incoming,
    kind: BodyKind,
    view: Option<Heartbeat>,
    started: Instant,
    /// When the last frame arrived, if one did.
    last: Option<Instant>,
    idle: Pin<Box<Sleep>>,
    is_ended: bool,
}

impl TimedBody {
    fn new(body: Incoming, kind: BodyKind, view: Option<Heartbeat>) -> Self {
        let started = Instant::now();
        let idle = Box::pin(sleep_until(started + kind.idle_timeout()));
        Self { body, kind, view, started, last: None, idle, is_ended: false }
    }

    fn is_watch(&self) -> bool {
        self.kind != BodyKind::Complete
    }

    fn confirm(&self) {
        if let Some(view) = &self.view {
            view.beat();
        }
    }

    /// Handles the end of the body.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        if !std::mem::replace(&mut self.is_ended, true) {
            if self.is_watch() && self.last.is_none() && self.started.elapsed() < MIN_WATCH {
                return Some(Err(DeadlineError::ShortWatch.into()));
            }
            self.confirm();
        }
        None
    }
}

impl hyper::body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.last = Some(Instant::now());
                if frame.data_ref().is_some_and(|data| data.starts_with(ERROR_EVENT)) {
                    self.view = None;
                }
                // A list is confirmed when it is complete.
                if self.is_watch() {
                    self.confirm();
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => {
                self.is_ended = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => return Poll::Ready(self.end()),
            Poll::Pending => {}
        }
        loop {
            ready!(self.idle.as_mut().poll(context));
            let deadline = self.last.unwrap_or(self.started) + self.kind.idle_timeout();
            if deadline <= Instant::now() {
                break;
            }
            self.idle.as_mut().reset(deadline);
        }
        self.is_ended = true;
        Poll::Ready(if self.is_watch() { None } else { Some(Err(DeadlineError::Idle.into())) })
    }

    fn is_end_stream(&self) -> bool {
        // The end must be polled, because it confirms the view.
        self.is_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
