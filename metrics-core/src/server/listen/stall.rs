//! Closes watches whose client stops reading.
//!
//! hyper polls a body only when the client can receive more, so a body can't end itself while its client reads
//! nothing: the task that drives the body must do it. Over HTTP/2 that is the task of the stream, so that other
//! requests on the connection continue (kube-apiserver sends the requests of all its users over one). Over HTTP/1.1
//! it is the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::ConnectionMetrics;
use super::metrics::CloseCause;

tokio::task_local! {
    /// The stall timer of the HTTP/2 stream that the current task serves.
    static OF_STREAM: Arc<Stall>;
}

/// Measures how long a frame has been waiting for the client.
#[derive(Debug, Default)]
pub(super) struct Stall {
    waiting_since: Mutex<Option<Instant>>,
    followed: Notify,
}

impl Stall {
    /// Returns the timer of the stream that the current task serves, otherwise `of_connection`, and enables it.
    pub(super) fn follow(of_connection: &Arc<Self>) -> Arc<Self> {
        let stall = OF_STREAM.try_with(Arc::clone).unwrap_or_else(|_| of_connection.clone());
        stall.followed.notify_one();
        stall
    }

    /// Records that the body returned a frame.
    pub(super) fn filled(&self) {
        *self.waiting_since.lock() = Some(Instant::now());
    }

    /// Records that the client can receive more, or that the watch ended.
    pub(super) fn drained(&self) {
        *self.waiting_since.lock() = None;
    }

    /// Resolves when a frame has been waiting for `timeout`, once the timer is enabled.
    pub(super) async fn overdue(&self, timeout: Duration) {
        self.followed.notified().await;
        loop {
            let waiting = self.waiting_since.lock().map_or(Duration::ZERO, |since| since.elapsed());
            if waiting >= timeout {
                return;
            }
            sleep(timeout.saturating_sub(waiting)).await;
        }
    }
}

/// Runs each stream of an HTTP/2 connection in a task that ends when its client stalls.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    pub(super) timeout: Duration,
    pub(super) metrics: ConnectionMetrics,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { timeout, metrics } = self.clone();
        tokio::spawn(async move {
            let stall = Arc::new(Stall::default());
            tokio::select! {
                _ = OF_STREAM.scope(stall.clone(), stream) => {}
                // Dropping the stream resets it.
                () = stall.overdue(timeout) => metrics.closed(CloseCause::SlowWatch),
            }
        });
    }
}
