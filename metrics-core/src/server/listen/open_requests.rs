//! The open requests of a connection, and its idle time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::places::{Place, Standing};
use super::requests::{RequestLabels, RequestMetrics};
use super::response_timer::{LastWrite, ResponseTimer};
use crate::memory::Reservation;

/// The open requests of one connection.
pub(super) struct OpenRequests {
    state: Mutex<OpenRequestsState>,
    close: Notify,
    place: Arc<Place>,
    /// The timer of the response over HTTP/1.1; over HTTP/2 each stream has its own.
    pub(super) timer: Arc<ResponseTimer>,
}

struct OpenRequestsState {
    /// The number of open requests, watches included.
    open: usize,
    /// The number of open watches.
    watches: usize,
    /// The number of requests so far; saturates.
    total: usize,
    /// Whether a request started since the last [`OpenRequests::take_started`].
    started: bool,
    /// The end of the last request, or the start of the connection.
    idle_since: Instant,
    standing: Standing,
}

impl OpenRequests {
    /// Returns those of a connection that records its writes in `last_write`.
    pub(super) fn new(place: Arc<Place>, last_write: Arc<LastWrite>) -> Arc<Self> {
        let state = OpenRequestsState {
            open: 0,
            watches: 0,
            total: 0,
            started: false,
            idle_since: Instant::now(),
            standing: Standing::Unauthenticated,
        };
        let timer = Arc::new(ResponseTimer::of_connection(last_write));
        Arc::new(Self { state: Mutex::new(state), close: Notify::new(), place, timer })
    }

    /// Returns when the connection became idle; `None` while a request is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.open == 0).then_some(state.idle_since)
    }

    /// Returns whether there was a request, finished or not.
    pub(super) fn had_any(&self) -> bool {
        self.state.lock().total > 0
    }

    /// Returns whether a watch is open.
    pub(super) fn watches(&self) -> bool {
        self.state.lock().watches > 0
    }

    /// Returns whether a request started since the last call.
    pub(super) fn take_started(&self) -> bool {
        std::mem::take(&mut self.state.lock().started)
    }

    /// Returns who uses the connection.
    pub(super) fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    /// Records who uses the connection. A front proxy stays one.
    pub(super) fn authenticated(&self, standing: Standing) {
        {
            let mut state = self.state.lock();
            if state.standing == standing || state.standing == Standing::FrontProxy {
                return;
            }
            state.standing = standing;
        }
        self.place.authenticated(standing);
    }

    /// Requests that the connection be closed after its open requests.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Waits for a call of [`Self::close`].
    pub(super) async fn closing(&self) {
        self.close.notified().await;
    }

    fn start(&self) {
        let mut state = self.state.lock();
        state.open += 1;
        state.total = state.total.saturating_add(1);
        state.started = true;
        if state.open == 1 {
            // Within the lock, so that two requests can't swap their reports.
            self.place.busy(true);
        }
    }

    fn end(&self, watch: bool) {
        let mut state = self.state.lock();
        state.open -= 1;
        state.watches -= usize::from(watch);
        state.idle_since = Instant::now();
        if state.open == 0 {
            self.place.busy(false);
        }
    }
}

/// An open request. It ends when this is dropped.
pub(super) struct InFlight {
    open_requests: Arc<OpenRequests>,
    is_watch: bool,
    pub(super) timer: Arc<ResponseTimer>,
    started: Instant,
    metrics: RequestMetrics,
    labels: RequestLabels,
    /// The status code of the response; 499 until there is one: the client closed the request.
    pub(super) code: u16,
    /// The permit of the limit of requests in flight.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// The memory of the request.
    pub(super) memory: Option<Reservation>,
}

impl InFlight {
    /// Starts a request, whose response must be complete within `timeout` unless it is a watch.
    pub(super) fn start(
        open_requests: Arc<OpenRequests>,
        metrics: RequestMetrics,
        labels: RequestLabels,
        timeout: Duration,
    ) -> Self {
        metrics.started();
        open_requests.start();
        let started = Instant::now();
        let timer = ResponseTimer::start(&open_requests.timer, started + timeout);
        Self {
            open_requests,
            is_watch: false,
            timer,
            started,
            metrics,
            labels,
            code: 499,
            permit: None,
            memory: None,
        }
    }

    /// Records that the response is a watch: the limit of requests in flight and the timeout do not apply.
    pub(super) fn become_watch(&mut self) {
        self.is_watch = true;
        self.permit = None;
        self.timer.set_watch();
        self.open_requests.state.lock().watches += 1;
        self.metrics.became_watch();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.open_requests.end(self.is_watch);
        self.timer.end();
        self.metrics.ended(&self.labels, self.code, self.started.elapsed(), self.is_watch);
    }
}
