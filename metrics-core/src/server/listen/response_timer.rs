//! Ends responses whose client reads too slowly or not at all.
//!
//! hyper polls a body only when the client can receive more, so a body can't end itself while its client reads
//! nothing: the task that drives the body must do it. Over HTTP/2 that is the task of the stream, so that other
//! requests on the connection continue (kube-apiserver sends the requests of all its users over one). Over HTTP/1.1
//! it is the connection.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::ConnectionMetrics;
use super::metrics::CloseCause;
use crate::memory::Holder;

tokio::task_local! {
    /// The timer of the HTTP/2 stream that the current task serves.
    static OF_STREAM: Arc<ResponseTimer>;
}

/// The time of the last write below TLS that made progress.
pub(super) type LastWrite = Mutex<Option<Instant>>;

/// Measures how long a response takes, and how long a frame of it has been waiting for the client.
#[derive(Debug, Default)]
pub(super) struct ResponseTimer {
    state: Mutex<TimerState>,
    started: Notify,
    /// The memory of the response that is being sent.
    holder: Mutex<Option<Holder>>,
    held: Notify,
    /// The last write of the connection that made progress. Set over HTTP/1.1, where hyper and TLS take frames into their
    /// buffers while the client reads nothing.
    last_write: Option<Arc<LastWrite>>,
    /// Notified when the memory of a response must be freed whose stream has no task any more.
    must_end: Arc<Notify>,
}

#[derive(Debug, Default)]
struct TimerState {
    /// The time at which the response must be complete; `None` for a watch.
    deadline: Option<Instant>,
    waiting_since: Option<Instant>,
    is_watch: bool,
}

impl ResponseTimer {
    /// Returns the timer of a connection that records its writes in `last_write`.
    pub(super) fn of_connection(last_write: Arc<LastWrite>) -> Self {
        Self { last_write: Some(last_write), ..Self::default() }
    }

    /// Returns since when the client has been taking nothing, if a frame waits for it.
    fn stalled_since(&self, state: &TimerState) -> Option<Instant> {
        let written = self.last_write.as_ref().and_then(|last_write| *last_write.lock());
        state.waiting_since.map(|since| written.map_or(since, |written| written.max(since)))
    }

    /// Starts the timer of the stream that the current task serves, otherwise `of_connection`, and returns it.
    pub(super) fn start(of_connection: &Arc<Self>, deadline: Instant) -> Arc<Self> {
        let timer = OF_STREAM.try_with(Arc::clone).unwrap_or_else(|_| of_connection.clone());
        *timer.state.lock() = TimerState { deadline: Some(deadline), ..TimerState::default() };
        timer.started.notify_one();
        timer
    }

    /// Records that the response is a watch, which has no deadline.
    pub(super) fn set_watch(&self) {
        let mut state = self.state.lock();
        state.deadline = None;
        state.is_watch = true;
    }

    /// Ends what this timer measures when the memory of the response is revoked, or the connection, whose timer is
    /// `of_connection`, if HTTP/2 holds the rest of the response and its stream has no task any more.
    pub(super) fn hold(&self, of_connection: &Self, holder: Holder) {
        holder.end_connection(of_connection.must_end.clone());
        *self.holder.lock() = Some(holder);
        self.held.notify_one();
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
        self.state.lock().waiting_since.get_or_insert_with(Instant::now);
    }

    /// Records that the body waits for data, not for the client.
    pub(super) fn idle(&self) {
        self.state.lock().waiting_since = None;
    }

    /// Records that HTTP takes the next frame. Over HTTP/2 the client can receive more; over HTTP/1.1 only a write tells.
    pub(super) fn drained(&self) {
        let waited = {
            let mut state = self.state.lock();
            let stalled_since = self.stalled_since(&state);
            let remains = self.last_write.as_ref().and(stalled_since);
            let before = std::mem::replace(&mut state.waiting_since, remains);
            before.is_some() && before != remains
        };
        if waited && let Some(holder) = &*self.holder.lock() {
            holder.progressed();
        }
    }

    /// Records that the response ended.
    pub(super) fn end(&self) {
        *self.state.lock() = TimerState::default();
    }

    /// Resolves when the response is not complete at its deadline, or when a frame has been waiting for `stall`.
    /// Returns the cause.
    pub(super) async fn expired(&self, stall: Duration) -> CloseCause {
        self.started.notified().await;
        loop {
            let now = Instant::now();
            let (due, is_watch) = {
                let state = self.state.lock();
                let stalled = self.stalled_since(&state).map(|since| since + stall);
                (state.deadline.into_iter().chain(stalled).min(), state.is_watch)
            };
            if due.is_some_and(|due| due <= now) {
                return if is_watch { CloseCause::SlowWatch } else { CloseCause::SlowClient };
            }
            // A frame that begins to wait meanwhile does not wake this task, but can't be overdue earlier than this.
            let recheck = now + stall;
            sleep_until(due.map_or(recheck, |due| due.min(recheck))).await;
        }
    }
}

/// Runs each stream of an HTTP/2 connection in a task that ends when its response is overdue.
#[derive(Clone)]
pub(super) struct StreamExecutor {
    pub(super) stall: Duration,
    pub(super) metrics: ConnectionMetrics,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { stall, metrics } = self.clone();
        tokio::spawn(async move {
            let timer = Arc::new(ResponseTimer::default());
            tokio::select! {
                _ = OF_STREAM.scope(timer.clone(), stream) => {}
                // Dropping the stream resets it.
                cause = timer.expired(stall) => metrics.closed(cause),
                () = timer.revoked() => metrics.closed(CloseCause::Memory),
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
    use tokio::time::Instant;

    use super::{CloseCause, ConnectionMetrics, LastWrite, ResponseTimer, StreamExecutor};
    use crate::memory::MemoryBudget;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn ends_the_stream_whose_memory_is_revoked() {
        let budget = MemoryBudget::new(1 << 20);
        let executor =
            StreamExecutor { stall: Duration::from_secs(30), metrics: ConnectionMetrics::default() };
        let streams = [(); 2].map(|()| {
            let lease = budget.lease(1000, 0).unwrap();
            let (alive, ended) = oneshot::channel::<()>();
            let (of_connection, holder) = (Arc::new(ResponseTimer::default()), lease.holder());
            executor.execute(async move {
                ResponseTimer::start(&of_connection, Instant::now() + HOUR).hold(&of_connection, holder);
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
            StreamExecutor { stall: Duration::from_secs(30), metrics: ConnectionMetrics::default() };
        let of_connection = Arc::new(ResponseTimer::default());
        let lease = budget.lease(1000, 0).unwrap();
        let holder = lease.holder();
        let connection = of_connection.clone();
        // hyper has passed the whole body on.
        executor.execute(async move {
            ResponseTimer::start(&connection, Instant::now() + HOUR).hold(&connection, holder);
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        lease.revoke();
        assert!(tokio::time::timeout(Duration::from_secs(1), of_connection.revoked()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_only_buffers_take_is_no_progress() {
        let stall = Duration::from_secs(30);
        for writes in [false, true] {
            let last_write = Arc::new(LastWrite::default());
            let timer = Arc::new(ResponseTimer::of_connection(last_write.clone()));
            ResponseTimer::start(&timer, Instant::now() + HOUR);
            timer.filled();
            let start = Instant::now();
            let expired = tokio::spawn({
                let timer = timer.clone();
                async move { timer.expired(stall).await }
            });
            tokio::time::sleep(stall / 2).await;
            if writes {
                *last_write.lock() = Some(Instant::now());
            }
            timer.drained();
            timer.filled();
            assert_eq!(expired.await.unwrap(), CloseCause::SlowClient);
            assert_eq!(start.elapsed() > stall * 4 / 3, writes, "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_without_data_does_not_expire() {
        let timer = Arc::new(ResponseTimer::of_connection(Arc::default()));
        ResponseTimer::start(&timer, Instant::now() + HOUR).set_watch();
        timer.filled();
        timer.drained();
        timer.idle();
        let expired = timer.expired(Duration::from_secs(30));
        assert!(tokio::time::timeout(HOUR, expired).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_follows_its_latest_response() {
        let budget = MemoryBudget::new(1 << 20);
        let timer = Arc::new(ResponseTimer::default());
        let first = budget.lease(1000, 0).unwrap();
        timer.hold(&timer, first.holder());
        let revoked = tokio::spawn({
            let timer = timer.clone();
            async move { timer.revoked().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = budget.lease(1000, 0).unwrap();
        timer.hold(&timer, second.holder());
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(first);
        assert!(!revoked.is_finished());
        second.revoke();
        tokio::time::timeout(Duration::from_secs(1), revoked).await.unwrap().unwrap();
    }
}
