//! Until when this process may write: the last line of defence against two writers.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::TryFutureExt;
use futures::future::{Either, ErrInto, Ready, ready};
use http::{Method, Request};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Service};

/// Until when the Lease is held. Shared by the election, which extends it, and the client, which checks it before each write.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseHold(Arc<Mutex<Option<Instant>>>);

impl LeaseHold {
    /// Allows writes until `end`.
    pub(super) fn extend(&self, end: Instant) {
        *self.0.lock() = Some(end);
    }

    /// Allows no more writes.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }

    /// Whether writes are allowed now.
    pub(super) fn allows_writes(&self) -> bool {
        self.0.lock().is_some_and(|end| Instant::now() < end)
    }
}

/// A write was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the Lease is not held, so the request was not sent")]
struct NotHeld;

/// Sends writes only while the Lease is held. The loop is cancelled when the Lease is lost; this also stops a write that was
/// about to be sent when the process was stopped or starved meanwhile.
#[derive(Clone)]
pub(super) struct WriteFence<S> {
    inner: S,
    hold: Option<LeaseHold>,
}

impl<S> WriteFence<S> {
    /// Without a `hold` every request is sent.
    pub(super) const fn new(inner: S, hold: Option<LeaseHold>) -> Self {
        Self { inner, hold }
    }
}

impl<S, B> Service<Request<B>> for WriteFence<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<Ready<Result<S::Response, BoxError>>, ErrInto<S::Future, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads || self.hold.as_ref().is_none_or(LeaseHold::allows_writes) {
            Either::Right(self.inner.call(request).err_into())
        } else {
            Either::Left(ready(Err(NotHeld.into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_are_sent_only_while_the_lease_is_held() {
        let hold = LeaseHold::default();
        let sent = async |method: Method| {
            let inner = tower::service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(())));
            let request = Request::builder().method(method).body(()).expect("a request");
            WriteFence::new(inner, Some(hold.clone())).call(request).await.is_ok()
        };
        assert!(sent(Method::GET).await);
        assert!(!sent(Method::PATCH).await, "not acquired");
        hold.extend(Instant::now() + Duration::from_secs(10));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(sent(method).await);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!sent(Method::DELETE).await, "expired");
        hold.extend(Instant::now() + Duration::from_secs(10));
        hold.end();
        assert!(!sent(Method::POST).await, "lost");
        assert!(sent(Method::GET).await);
    }
}
