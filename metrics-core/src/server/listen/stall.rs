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
use crate::memory::Holder;

tokio::task_local! {
    /// The stall timer of the HTTP/2 stream that the current task serves.
    static OF_STREAM: Arc<Stall>;
}

/// Measures how long a frame has been waiting for the client.
#[derive(Debug, Default)]
pub(super) struct Stall {
    waiting_since: Mutex<Option<Instant>>,
    followed: Notify,
    /// The memory of the response that is being sent.
    holder: Mutex<Option<Holder>>,
    held: Notify,
    /// Notified when the memory of a response must be freed whose stream has no task any more.
    must_end: Arc<Notify>,
}

impl Stall {
    /// Returns the timer of the stream that the current task serves, otherwise `of_connection`, and enables it.
    pub(super) fn follow(of_connection: &Arc<Self>) -> Arc<Self> {
        let stall = OF_STREAM.try_with(Arc::clone).unwrap_or_else(|_| of_connection.clone());
        stall.followed.notify_one();
        stall
    }

    /// Ends the stream that the current task serves, otherwise the connection, when the memory of its response is
    /// revoked.
    pub(super) fn hold(of_connection: &Arc<Self>, holder: Holder) {
        holder.end_connection(of_connection.must_end.clone());
        let stall = OF_STREAM.try_with(Arc::clone).unwrap_or_else(|_| of_connection.clone());
        *stall.holder.lock() = Some(holder);
        stall.held.notify_one();
    }

    /// Resolves when the memory of the response is revoked.
    pub(super) async fn revoked(&self) {
        let mut holder: Option<Holder> = None;
        loop {
            let revoked = async {
                match &holder {
                    Some(holder) => holder.revoked().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = revoked => return,
                () = self.must_end.notified() => return,
                () = self.held.notified() => {}
            }
            holder.clone_from(&self.holder.lock());
        }
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
                () = stall.revoked() => metrics.closed(CloseCause::Memory),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    use super::{ConnectionMetrics, Stall, StreamExecutor};
    use crate::memory::MemoryBudget;

    #[tokio::test(start_paused = true)]
    async fn ends_the_stream_whose_memory_is_revoked() {
        let budget = MemoryBudget::new(1 << 20);
        let executor =
            StreamExecutor { timeout: Duration::from_secs(30), metrics: ConnectionMetrics::default() };
        let streams = [(); 2].map(|()| {
            let lease = budget.lease(1000).unwrap();
            let (alive, ended) = oneshot::channel::<()>();
            let (of_connection, holder) = (Arc::new(Stall::default()), lease.holder());
            executor.execute(async move {
                Stall::hold(&of_connection, holder);
                std::future::pending::<()>().await;
                drop(alive);
            });
            (lease, ended)
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        let [(first, ended), (_second, mut open)] = streams;
        first.revoke();
        let ended = tokio::time::timeout(Duration::from_secs(1), ended).await;
        assert!(ended.is_ok_and(|ended| ended.is_err()));
        assert!(open.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_the_connection_if_the_stream_of_a_revoked_response_has_no_task() {
        let budget = MemoryBudget::new(1 << 20);
        let executor =
            StreamExecutor { timeout: Duration::from_secs(30), metrics: ConnectionMetrics::default() };
        let of_connection = Arc::new(Stall::default());
        let lease = budget.lease(1000).unwrap();
        let holder = lease.holder();
        let stall = of_connection.clone();
        // hyper has passed the whole body on.
        executor.execute(async move { Stall::hold(&stall, holder) });
        tokio::time::sleep(Duration::from_secs(1)).await;
        lease.revoke();
        assert!(tokio::time::timeout(Duration::from_secs(1), of_connection.revoked()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_follows_its_latest_response() {
        let budget = MemoryBudget::new(1 << 20);
        let stall = Arc::new(Stall::default());
        let first = budget.lease(1000).unwrap();
        Stall::hold(&stall, first.holder());
        let revoked = tokio::spawn({
            let stall = stall.clone();
            async move { stall.revoked().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = budget.lease(1000).unwrap();
        Stall::hold(&stall, second.holder());
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        assert!(!revoked.is_finished());
        second.revoke();
        tokio::time::timeout(Duration::from_secs(1), revoked).await.unwrap().unwrap();
    }
}
