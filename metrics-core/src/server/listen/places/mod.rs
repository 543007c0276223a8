//! The places for connections, shared fairly by source.
//!
//! A newcomer is preferred over idle connections: when all places are taken, the connection that is closed is the
//! oldest unauthenticated idle one of the source with most of them. A source with few connections (a kubelet that
//! probes, a Prometheus) is therefore hardly affected by a source with thousands. Connections of front proxies are
//! never closed, and the sources from which front proxies connected recently keep their new connections, too.
//!
//! Places are counted and weighed: a connection in a TLS session takes many times the memory of a silent one.

mod idle_queue;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ConnectionMetrics;
use super::metrics::{CloseCause, ConnectionState};
use crate::memory::{MemoryBudget, MemoryClass, Reservation};
use idle_queue::{IdleQueue, Since};
pub(super) use source::Source;

/// A source with at most this many idle connections of a kind loses one only if no other source has more.
const FREE: usize = 8;
/// The maximum number of idle connections that a recent front proxy's source keeps in any case.
const PROXY_FREE: usize = 64;
/// How long a source is known after its last connection of a front proxy.
const PROXY_MEMORY: Duration = Duration::from_secs(600);
/// The maximum number of sources that are known as front proxies'.
const MAX_PROXY_SOURCES: usize = 64;
/// The parts of all places that are reserved: one part for sources with at most [`FREE`] connections, one for front
/// proxies.
const RESERVED_PARTS: usize = 32;
/// The maximum number of connections that are closed to make room for one.
const MAX_EVICTED_AT_ONCE: usize = 32;

/// Who uses a connection, as far as its requests have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No request was authenticated.
    Unauthenticated,
    /// A request was authenticated.
    User,
    /// The client has the certificate of a front proxy.
    FrontProxy,
}

/// All places.
pub(super) struct Places {
    max: usize,
    memory: Arc<MemoryBudget>,
    metrics: ConnectionMetrics,
    state: Mutex<State>,
}

struct State {
    next_id: u64,
    next_since: Since,
    /// The memory of all occupants.
    reserved: Reservation,
    occupants: HashMap<u64, Occupant>,
    /// The number of connections of each source.
    counts: HashMap<Source, usize>,
    unauthenticated: IdleQueue,
    users: IdleQueue,
    proxies: HashMap<Source, ProxySource>,
}

struct Occupant {
    source: Source,
    standing: Standing,
    connected: bool,
    busy: bool,
    bytes: usize,
    /// Its key in the queue of its standing, while it is idle.
    idle_since: Option<Since>,
    evicted: Arc<Notify>,
}

/// A source from which a front proxy connected.
struct ProxySource {
    open: usize,
    last: Instant,
}

/// One place. It is free when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    evicted: Arc<Notify>,
}

impl Occupant {
    fn state(&self) -> ConnectionState {
        match self.standing {
            _ if !self.connected => ConnectionState::Handshake,
            Standing::Unauthenticated => ConnectionState::Unauthenticated,
            Standing::User => ConnectionState::Authenticated,
            Standing::FrontProxy => ConnectionState::FrontProxy,
        }
    }
}

impl State {
    fn queue(&mut self, standing: Standing) -> Option<&mut IdleQueue> {
        match standing {
            Standing::Unauthenticated => Some(&mut self.unauthenticated),
            Standing::User => Some(&mut self.users),
            Standing::FrontProxy => None,
        }
    }

    /// Takes the occupant out of its queue, changes it, and queues it again if it is idle.
    fn change(&mut self, id: u64, metrics: &ConnectionMetrics, change: impl FnOnce(&mut Occupant)) {
        let Some(mut occupant) = self.occupants.remove(&id) else { return };
        self.leave_queue(&mut occupant);
        let before = occupant.state();
        change(&mut occupant);
        metrics.moved(Some(before), Some(occupant.state()));
        if !occupant.busy {
            let since = self.next_since;
            let source = occupant.source;
            if let Some(queue) = self.queue(occupant.standing) {
                queue.insert(source, since, id);
                occupant.idle_since = Some(since);
                self.next_since += 1;
            }
        }
        self.occupants.insert(id, occupant);
    }

    fn leave_queue(&mut self, occupant: &mut Occupant) {
        if let Some(since) = occupant.idle_since.take()
            && let Some(queue) = self.queue(occupant.standing)
        {
            queue.remove(occupant.source, since);
        }
    }

    fn remove(&mut self, id: u64, metrics: &ConnectionMetrics) -> Option<Occupant> {
        let mut occupant = self.occupants.remove(&id)?;
        self.leave_queue(&mut occupant);
        self.reserved.release(occupant.bytes);
        metrics.moved(Some(occupant.state()), None);
        if let Some(count) = self.counts.get_mut(&occupant.source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&occupant.source);
            }
        }
        if occupant.standing == Standing::FrontProxy
            && let Some(proxy) = self.proxies.get_mut(&occupant.source)
        {
            proxy.open -= 1;
            proxy.last = Instant::now();
        }
        Some(occupant)
    }

    fn count(&self, source: Source) -> usize {
        self.counts.get(&source).copied().unwrap_or(0)
    }

    fn is_proxy(&self, source: Source) -> bool {
        self.proxies.get(&source).is_some_and(ProxySource::is_recent)
    }

    fn add_proxy(&mut self, source: Source) {
        if !self.proxies.contains_key(&source) && self.proxies.len() >= MAX_PROXY_SOURCES {
            self.proxies.retain(|_, proxy| proxy.is_recent());
            let unused = self.proxies.iter().filter(|(_, proxy)| proxy.open == 0);
            if let Some(oldest) = unused.min_by_key(|(_, proxy)| proxy.last).map(|(source, _)| *source)
                && self.proxies.len() >= MAX_PROXY_SOURCES
            {
                self.proxies.remove(&oldest);
            }
        }
        let proxy =
            self.proxies.entry(source).or_insert_with(|| ProxySource { open: 0, last: Instant::now() });
        proxy.open += 1;
        proxy.last = Instant::now();
    }

    /// Returns the connection to close when a place is needed.
    fn victim(&self) -> Option<u64> {
        let spared = |source: &Source| self.is_proxy(*source) && self.count(*source) <= PROXY_FREE;
        let of_largest = |queue: &IdleQueue| {
            let source = queue.largest(FREE).find(|source| !spared(source))?;
            queue.oldest_of(source)
        };
        let all = || self.unauthenticated.oldest().chain(self.users.oldest());
        of_largest(&self.unauthenticated)
            .or_else(|| of_largest(&self.users))
            .or_else(|| all().find(|(_, source)| !spared(source)).or_else(|| all().next()).map(|(id, _)| id))
    }
}

impl ProxySource {
    fn is_recent(&self) -> bool {
        self.open > 0 || self.last.elapsed() < PROXY_MEMORY
    }
}

impl Places {
    /// Returns `max` places, whose connections reserve their memory from `memory`.
    pub(super) fn new(max: usize, memory: Arc<MemoryBudget>, metrics: ConnectionMetrics) -> Arc<Self> {
        let state = State {
            next_id: 0,
            next_since: 0,
            reserved: memory.empty(MemoryClass::Connections),
            occupants: HashMap::new(),
            counts: HashMap::new(),
            unauthenticated: IdleQueue::default(),
            users: IdleQueue::default(),
            proxies: HashMap::new(),
        };
        Arc::new(Self { max, memory, metrics, state: Mutex::new(state) })
    }

    /// Returns a place for a new connection that uses `bytes`. Closes idle connections if necessary; returns `None` if
    /// there are none.
    pub(super) fn admit(self: &Arc<Self>, source: Source, bytes: usize) -> Option<Place> {
        let mut state = self.state.lock();
        if !self.make_room(&mut state, source, 1, bytes) {
            self.metrics.closed(CloseCause::TooMany);
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        let evicted = Arc::new(Notify::new());
        let occupant = Occupant {
            source,
            standing: Standing::Unauthenticated,
            connected: false,
            busy: false,
            bytes,
            idle_since: None,
            evicted: evicted.clone(),
        };
        self.metrics.moved(None, Some(occupant.state()));
        state.occupants.insert(id, occupant);
        *state.counts.entry(source).or_default() += 1;
        state.change(id, &self.metrics, |_| {});
        Some(Place { places: self.clone(), id, evicted })
    }

    /// Closes one idle connection. Returns false if there is none.
    pub(super) fn evict_one(&self) -> bool {
        self.evict(&mut self.state.lock())
    }

    fn evict(&self, state: &mut State) -> bool {
        let Some(occupant) = state.victim().and_then(|id| state.remove(id, &self.metrics)) else {
            return false;
        };
        occupant.evicted.notify_one();
        self.metrics.closed(CloseCause::Evicted);
        true
    }

    /// Closes idle connections until there is room for `more` connections of `source`, and reserves `bytes`.
    fn make_room(&self, state: &mut State, source: Source, more: usize, bytes: usize) -> bool {
        let reserved_parts = match state.count(source) {
            _ if state.is_proxy(source) => 0,
            ..FREE => 1,
            _ => 2,
        };
        let spared = |all: usize| all / RESERVED_PARTS * reserved_parts;
        let memory = self.memory.max(MemoryClass::Connections);
        // Nobody is closed for what can't succeed.
        if bytes > memory - spared(memory) {
            return false;
        }
        for _ in 0..=MAX_EVICTED_AT_ONCE {
            if state.occupants.len() + more <= self.max - spared(self.max)
                && state.reserved.try_grow_sparing(bytes, spared(memory))
            {
                return true;
            }
            if !self.evict(state) {
                return false;
            }
        }
        false
    }
}

impl Place {
    /// Changes the memory that the connection uses. Returns false if it must be closed for want of memory.
    #[must_use]
    pub(super) fn resize(&self, bytes: usize) -> bool {
        let places = &self.places;
        let mut state = places.state.lock();
        // Queues the connection as the youngest, so that it is not closed for its own sake.
        state.change(self.id, &places.metrics, |_| {});
        let Some(occupant) = state.occupants.get(&self.id) else { return false };
        let (source, standing, before) = (occupant.source, occupant.standing, occupant.bytes);
        if bytes <= before {
            state.reserved.release(before - bytes);
        } else if !places.make_room(&mut state, source, 0, bytes - before) {
            // What an authenticated connection needs beyond is not much, and is not reserved.
            if standing == Standing::Unauthenticated && state.remove(self.id, &places.metrics).is_some() {
                places.metrics.closed(CloseCause::TooMany);
            }
            return standing != Standing::Unauthenticated;
        }
        if let Some(occupant) = state.occupants.get_mut(&self.id) {
            occupant.bytes = bytes;
            return true;
        }
        // It was the last that could be closed.
        state.reserved.release(bytes.saturating_sub(before));
        false
    }

    /// Records that the TLS handshake is complete.
    pub(super) fn connected(&self) {
        self.change(|occupant| occupant.connected = true);
    }

    /// Records who uses the connection.
    pub(super) fn authenticated(&self, standing: Standing) {
        let mut state = self.places.state.lock();
        let Some(occupant) = state.occupants.get(&self.id) else { return };
        let (source, before) = (occupant.source, occupant.standing);
        // A front proxy stays one.
        if before == standing || before == Standing::FrontProxy {
            return;
        }
        if standing == Standing::FrontProxy {
            state.add_proxy(source);
        }
        state.change(self.id, &self.places.metrics, |occupant| occupant.standing = standing);
    }

    /// Records whether the connection has an open request. It is not closed for others while it has.
    pub(super) fn busy(&self, busy: bool) {
        self.change(|occupant| occupant.busy = busy);
    }

    /// Resolves when the connection must be closed to make room for another.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Occupant)) {
        self.places.state.lock().change(self.id, &self.places.metrics, change);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state.lock().remove(self.id, &self.places.metrics);
    }
}
