//! What one connection does: its open requests and how long it has been idle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::requests::{RequestLabels, RequestMetrics};
use super::stall::Stall;

/// The requests of one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    close: Notify,
    /// Of an HTTP/1.1 connection's watch; over HTTP/2 each stream has its own.
    pub(super) stall: Arc<Stall>,
}

struct State {
    next: u64,
    /// When each open request began, but for watches.
    open: BTreeMap<u64, Instant>,
    /// Open watches.
    watches: usize,
    /// When the last one ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = State { next: 0, open: BTreeMap::new(), watches: 0, idle_since: Instant::now() };
        Arc::new(Self { state: Mutex::new(state), close: Notify::new(), stall: Arc::default() })
    }

    /// How long there has been no request; zero while there is one.
    pub(super) fn idle(&self) -> Duration {
        let state = self.state.lock();
        if state.open.is_empty() && state.watches == 0 { state.idle_since.elapsed() } else { Duration::ZERO }
    }

    /// Whether a watch is open.
    pub(super) fn watches(&self) -> bool {
        self.state.lock().watches > 0
    }

    /// How long the oldest open request has been open. Watches end by themselves.
    pub(super) fn oldest(&self) -> Duration {
        self.state.lock().open.first_key_value().map_or(Duration::ZERO, |(_, begun)| begun.elapsed())
    }

    /// Has the connection closed when its open requests are answered.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Waits for [`Self::close`].
    pub(super) async fn closing(&self) {
        self.close.notified().await;
    }

    fn begin(&self, watch: bool) -> Option<u64> {
        let mut state = self.state.lock();
        if watch {
            state.watches += 1;
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Instant::now());
        Some(id)
    }

    fn end(&self, id: Option<u64>) {
        let mut state = self.state.lock();
        match id {
            Some(id) => drop(state.open.remove(&id)),
            None => state.watches -= 1,
        }
        state.idle_since = Instant::now();
    }
}

/// An open request; it ends when this is dropped.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// None for a watch.
    id: Option<u64>,
    /// Of a watch.
    pub(super) stall: Option<Arc<Stall>>,
    begun: Instant,
    requests: RequestMetrics,
    labels: RequestLabels,
    /// The answer's code; 499 until there is one: the client went away before.
    pub(super) code: u16,
    /// The request's share of the limit.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// A request begins; a watch is bound by none of the limits for requests.
    pub(super) fn begin(
        activity: Arc<Activity>,
        requests: RequestMetrics,
        labels: RequestLabels,
        watch: bool,
    ) -> Self {
        requests.begun(watch);
        let id = activity.begin(watch);
        let stall = watch.then(|| Stall::follow(&activity.stall));
        Self { activity, id, stall, begun: Instant::now(), requests, labels, code: 499, permit: None }
    }

    /// Whether it is a watch.
    pub(super) fn is_watch(&self) -> bool {
        self.id.is_none()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.end(self.id);
        if let Some(stall) = &self.stall {
            stall.asked();
        }
        self.requests.ended(&self.labels, self.code, self.begun.elapsed(), self.id.is_none());
    }
}
