//! Watches whose client takes nothing: noticed by time, and let go.
//!
//! hyper asks a body for more only when the client has room, so a body can't end itself while its client takes
//! nothing; whoever drives it has to. Over HTTP/2 that is the task of its stream, so that the other requests on the
//! connection (kube-apiserver sends all of its users' over one) go on; over HTTP/1.1 it is the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Metrics;
use super::metrics::Close;

tokio::task_local! {
    /// Of the HTTP/2 stream whose task this is.
    static OF_STREAM: Arc<Stall>;
}

/// Whether what a client was given still waits to be taken.
#[derive(Debug, Default)]
pub(super) struct Stall {
    waits_since: Mutex<Option<Instant>>,
    followed: Notify,
}

impl Stall {
    /// That of the stream which the calling task serves, else `of_connection`. From now on it is followed.
    pub(super) fn follow(of_connection: &Arc<Self>) -> Arc<Self> {
        let stall = OF_STREAM.try_with(Arc::clone).unwrap_or_else(|_| of_connection.clone());
        stall.followed.notify_one();
        stall
    }

    /// The client was given something.
    pub(super) fn gave(&self) {
        *self.waits_since.lock() = Some(Instant::now());
    }

    /// The client can take more, or needs no more.
    pub(super) fn asked(&self) {
        *self.waits_since.lock() = None;
    }

    /// Resolves once a client that is followed has taken nothing for `patience`.
    pub(super) async fn overdue(&self, patience: Duration) {
        self.followed.notified().await;
        loop {
            let waits = self.waits_since.lock().map_or(Duration::ZERO, |since| since.elapsed());
            if waits >= patience {
                return;
            }
            sleep(patience.saturating_sub(waits)).await;
        }
    }
}

/// Runs the streams of an HTTP/2 connection, each in a task that ends when its client stalls.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) patience: Duration,
    pub(super) metrics: Metrics,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { patience, metrics } = self.clone();
        tokio::spawn(async move {
            let stall = Arc::new(Stall::default());
            tokio::select! {
                _ = OF_STREAM.scope(stall.clone(), stream) => {}
                // Dropped, the stream is reset.
                () = stall.overdue(patience) => metrics.closed(Close::SlowWatch),
            }
        });
    }
}
