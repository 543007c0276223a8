//! The open requests of a connection, and its idle time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::requests::{RequestLabels, RequestMetrics};
use super::stall::Stall;

/// The open requests of one connection.
pub(super) struct OpenRequests {
    state: Mutex<OpenRequestsState>,
    close: Notify,
    /// The stall timer of a watch over HTTP/1.1; over HTTP/2 each stream has its own.
    pub(super) stall: Arc<Stall>,
}

struct OpenRequestsState {
    next_id: u64,
    /// The start of each open request, without watches.
    started: BTreeMap<u64, Instant>,
    /// The number of open watches.
    watches: usize,
    /// The end of the last request, or the start of the connection.
    idle_since: Instant,
}

impl OpenRequests {
    pub(super) fn new() -> Arc<Self> {
        let state = OpenRequestsState {
            next_id: 0,
            started: BTreeMap::new(),
            watches: 0,
            idle_since: Instant::now(),
        };
        Arc::new(Self { state: Mutex::new(state), close: Notify::new(), stall: Arc::default() })
    }

    /// Returns how long the connection has had no request; zero while there is one.
    pub(super) fn idle(&self) -> Duration {
        let state = self.state.lock();
        if state.started.is_empty() && state.watches == 0 {
            state.idle_since.elapsed()
        } else {
            Duration::ZERO
        }
    }

    /// Returns whether a watch is open.
    pub(super) fn watches(&self) -> bool {
        self.state.lock().watches > 0
    }

    /// Returns the age of the oldest open request, without watches.
    pub(super) fn oldest(&self) -> Duration {
        self.state.lock().started.first_key_value().map_or(Duration::ZERO, |(_, start)| start.elapsed())
    }

    /// Requests that the connection be closed after its open requests.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Waits for a call of [`Self::close`].
    pub(super) async fn closing(&self) {
        self.close.notified().await;
    }

    fn start(&self, watch: bool) -> Option<u64> {
        let mut state = self.state.lock();
        if watch {
            state.watches += 1;
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.started.insert(id, Instant::now());
        Some(id)
    }

    fn end(&self, id: Option<u64>) {
        let mut state = self.state.lock();
        match id {
            Some(id) => drop(state.started.remove(&id)),
            None => state.watches -= 1,
        }
        state.idle_since = Instant::now();
    }
}

/// An open request. It ends when this is dropped.
pub(super) struct InFlight {
    open_requests: Arc<OpenRequests>,
    /// `None` for a watch.
    id: Option<u64>,
    /// The stall timer of a watch.
    pub(super) stall: Option<Arc<Stall>>,
    started: Instant,
    metrics: RequestMetrics,
    labels: RequestLabels,
    /// The status code of the response; 499 until there is one: the client closed the request.
    pub(super) code: u16,
    /// The permit of the limit of requests in flight.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Starts a request. The limits of requests do not apply to a watch.
    pub(super) fn start(
        open_requests: Arc<OpenRequests>,
        metrics: RequestMetrics,
        labels: RequestLabels,
        watch: bool,
    ) -> Self {
        metrics.started(watch);
        let id = open_requests.start(watch);
        let stall = watch.then(|| Stall::follow(&open_requests.stall));
        Self { open_requests, id, stall, started: Instant::now(), metrics, labels, code: 499, permit: None }
    }

    /// Returns whether this is a watch.
    pub(super) fn is_watch(&self) -> bool {
        self.id.is_none()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.open_requests.end(self.id);
        if let Some(stall) = &self.stall {
            stall.drained();
        }
        self.metrics.ended(&self.labels, self.code, self.started.elapsed(), self.id.is_none());
    }
}
