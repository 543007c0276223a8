//! What one connection does: its open requests and how long it has been idle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::telemetry::{RequestLabels, Requests};

/// The requests of one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    close: Notify,
}

struct State {
    next: u64,
    /// When each open request began.
    open: BTreeMap<u64, Instant>,
    /// When the last one ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = State { next: 0, open: BTreeMap::new(), idle_since: Instant::now() };
        Arc::new(Self { state: Mutex::new(state), close: Notify::new() })
    }

    /// How long there has been no request; zero while there is one.
    pub(super) fn idle(&self) -> Duration {
        let state = self.state.lock();
        if state.open.is_empty() { state.idle_since.elapsed() } else { Duration::ZERO }
    }

    /// How long the oldest open request has been open.
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

    fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Instant::now());
        id
    }

    fn end(&self, id: u64) {
        let mut state = self.state.lock();
        state.open.remove(&id);
        state.idle_since = Instant::now();
    }
}

/// An open request; it ends when this is dropped.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    id: u64,
    begun: Instant,
    requests: Requests,
    labels: RequestLabels,
    /// The answer's code; 499 until there is one: the client went away before.
    pub(super) code: u16,
    /// The request's share of the limit.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    pub(super) fn begin(activity: Arc<Activity>, requests: Requests, labels: RequestLabels) -> Self {
        requests.begun();
        let id = activity.begin();
        Self { activity, id, begun: Instant::now(), requests, labels, code: 499, permit: None }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.end(self.id);
        self.requests.ended(&self.labels, self.code, self.begun.elapsed());
    }
}
