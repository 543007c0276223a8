//! A cache of TokenReviews and SubjectAccessReviews.
//!
//! Any client of the port can cause reviews, so everything is bounded: the cached results, the reviews in flight and
//! the reviews that wait. Equal reviews that are requested at the same time are posted once. Keys are keyed hashes:
//! no token is stored, and clients can't choose colliding keys.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

/// The keyed hash of a review.
pub(crate) type Key = [u8; 32];

/// The maximum number of reviews in flight.
const MAX_IN_FLIGHT: usize = 64;

/// The maximum number of pending reviews, those in flight included. A review takes some milliseconds, so the last one
/// waits for less than a second.
const MAX_PENDING: usize = 1024;

/// An error of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CacheError {
    /// Too many reviews are pending; retry later.
    #[error("too many reviews are pending")]
    TooManyReviews,
    /// The review panicked.
    #[error("the review panicked")]
    Panicked,
}

/// Hashes reviews with a random key of this process.
pub struct Hasher(hmac::Key);

impl Hasher {
    /// Returns a hasher with a new random key.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map(Self)
    }

    /// Returns the hash of an encoded review.
    #[must_use]
    pub(crate) fn key(&self, review: &[u8]) -> Key {
        let mut key = Key::default();
        key.copy_from_slice(hmac::sign(&self.0, review).as_ref());
        key
    }
}

/// The cache. `V` is the whole result, errors included. All requests that wait for a review share its result.
pub(crate) struct ReviewCache<V> {
    entries: Arc<Mutex<CacheState<V>>>,
    permits: Arc<Semaphore>,
}

struct CacheState<V> {
    capacity: usize,
    /// Results and when they expire.
    cached: HashMap<Key, (V, Instant)>,
    /// Keys of `cached`, oldest first; a key that was cached again is listed again.
    order: VecDeque<Key>,
    pending: HashMap<Key, PendingReview<V>>,
}

/// A review without a result.
struct PendingReview<V> {
    result: Shared<BoxFuture<'static, Option<V>>>,
    /// Open while a request waits for the result.
    waiting: Arc<watch::Sender<()>>,
}

impl<V: Clone + Send + Sync + 'static> ReviewCache<V> {
    /// Returns a cache of at most `capacity` results.
    #[must_use]
    pub(crate) fn new(capacity: usize) -> Self {
        let entries =
            CacheState { capacity, cached: HashMap::new(), order: VecDeque::new(), pending: HashMap::new() };
        Self { entries: Arc::new(Mutex::new(entries)), permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// Returns the cached result, or that of `review`, which is cached for the time that `ttl` returns (`None`: not).
    ///
    /// A review continues when the request that caused it is dropped. A review that no request waits for when its turn
    /// comes is not posted.
    pub(crate) async fn get<F>(
        &self,
        key: Key,
        review: impl FnOnce() -> F,
        ttl: impl FnOnce(&V) -> Option<Duration> + Send + 'static,
    ) -> Result<V, CacheError>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (result, _waits) = {
            let mut entries = self.entries.lock();
            if let Some(result) = entries.cached(&key) {
                return Ok(result);
            }
            if let Some(pending) = entries.pending.get(&key) {
                (pending.result.clone(), pending.waiting.subscribe())
            } else if entries.pending.len() >= MAX_PENDING {
                return Err(CacheError::TooManyReviews);
            } else {
                let (waiting, waits) = watch::channel(());
                let waiting = Arc::new(waiting);
                let task = tokio::spawn(self.post_in_turn(key, waiting.clone(), review(), ttl));
                let result = task.map(|ended| ended.ok().flatten()).boxed().shared();
                entries.pending.insert(key, PendingReview { result: result.clone(), waiting });
                (result, waits)
            }
        };
        result.await.ok_or(CacheError::Panicked)
    }

    /// Runs the review when its turn comes. Returns `None` if no request waits for it by then.
    fn post_in_turn<F>(
        &self,
        key: Key,
        waiting: Arc<watch::Sender<()>>,
        review: F,
        ttl: impl FnOnce(&V) -> Option<Duration> + Send + 'static,
    ) -> impl Future<Output = Option<V>> + Send + 'static
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (shared, permits) = (self.entries.clone(), self.permits.clone());
        async move {
            let mut turn = pin!(permits.acquire());
            let permit = loop {
                tokio::select! {
                    biased;
                    () = waiting.closed() => {
                        let mut entries = shared.lock();
                        // A request may have arrived in between.
                        if waiting.is_closed() {
                            entries.pending.remove(&key);
                            return None;
                        }
                    }
                    permit = &mut turn => break permit,
                }
            };
            let result = review.await;
            drop(permit);
            let mut entries = shared.lock();
            entries.pending.remove(&key);
            if let Some(ttl) = ttl(&result).filter(|ttl| !ttl.is_zero()) {
                entries.insert(key, result.clone(), ttl);
            }
            Some(result)
        }
    }
}

impl<V: Clone> CacheState<V> {
    fn cached(&mut self, key: &Key) -> Option<V> {
        let (result, expiry) = self.cached.get(key)?;
        if *expiry > Instant::now() {
            return Some(result.clone());
        }
        self.cached.remove(key);
        None
    }

    fn insert(&mut self, key: Key, result: V, ttl: Duration) {
        while self.cached.len() >= self.capacity || self.order.len() >= 2 * self.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.cached.remove(&oldest);
        }
        self.cached.insert(key, (result, Instant::now() + ttl));
        self.order.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{CacheError, Hasher, MAX_IN_FLIGHT, MAX_PENDING, ReviewCache};

    fn key(n: u8) -> super::Key {
        [n; 32]
    }

    #[tokio::test]
    async fn posts_equal_reviews_once_and_caches_the_result() {
        let cache = Arc::new(ReviewCache::<usize>::new(10));
        let posted = Arc::new(AtomicUsize::new(0));
        let get = |ttl| {
            let (cache, posted) = (cache.clone(), posted.clone());
            async move {
                let review = || async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    posted.fetch_add(1, Ordering::SeqCst)
                };
                cache.get(key(1), review, move |_| ttl).await.unwrap()
            }
        };
        let ttl = Some(Duration::from_millis(40));
        let (a, b, c) = tokio::join!(get(ttl), get(ttl), get(ttl));
        assert_eq!((a, b, c), (0, 0, 0));
        assert_eq!(get(ttl).await, 0);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(get(None).await, 1, "an expired result is not returned");
        assert_eq!(get(None).await, 2, "a result that is not cached is requested again");
    }

    #[tokio::test]
    async fn continues_when_the_first_request_is_dropped() {
        let cache = ReviewCache::<u8>::new(10);
        let review = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            7
        };
        let minute = |_: &u8| Some(Duration::from_secs(60));
        assert!(
            tokio::time::timeout(Duration::from_millis(1), cache.get(key(1), review, minute)).await.is_err()
        );
        assert_eq!(cache.get(key(1), || async { 8 }, minute).await, Ok(7));
    }

    #[tokio::test]
    async fn limits_pending_reviews_and_does_not_post_abandoned_ones() {
        let cache = Arc::new(ReviewCache::<usize>::new(10));
        let (posted, may_respond) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let mut requests = tokio::task::JoinSet::new();
        let mut request = |n: usize| {
            let (cache, posted, may_respond) = (cache.clone(), posted.clone(), may_respond.clone());
            requests.spawn(async move {
                let mut key = super::Key::default();
                key[..8].copy_from_slice(&n.to_le_bytes());
                let review = || async move {
                    posted.fetch_add(1, Ordering::SeqCst);
                    may_respond.notified().await;
                    n
                };
                cache.get(key, review, |_| None).await
            })
        };
        let open = |wanted: usize| {
            let cache = cache.clone();
            async move {
                while cache.entries.lock().pending.len() != wanted {
                    tokio::task::yield_now().await;
                }
            }
        };
        let handles: Vec<_> = (0..MAX_PENDING).map(&mut request).collect();
        open(MAX_PENDING).await;
        assert_eq!(cache.get(key(255), || async { 0 }, |_| None).await, Err(CacheError::TooManyReviews));
        // A request for a pending review waits for it.
        request(0);
        request(MAX_PENDING - 1);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.entries.lock().pending.len(), MAX_PENDING);
        for handle in &handles {
            handle.abort();
        }
        // Those in flight, and the one that a request still waits for.
        open(MAX_IN_FLIGHT + 1).await;
        while !cache.entries.lock().pending.is_empty() {
            may_respond.notify_waiters();
            tokio::task::yield_now().await;
        }
        assert_eq!(posted.load(Ordering::SeqCst), MAX_IN_FLIGHT + 1);
        let mut results = Vec::new();
        while let Some(ended) = requests.join_next().await {
            results.extend(ended.ok().map(Result::unwrap));
        }
        results.sort_unstable();
        assert_eq!(results, [0, MAX_PENDING - 1]);
        assert_eq!(cache.get(key(255), || async { 5 }, |_| None).await, Ok(5));
    }

    #[tokio::test]
    async fn evicts_the_oldest_results() {
        let cache = ReviewCache::<u8>::new(3);
        for n in 0..10 {
            assert_eq!(
                cache.get(key(n), || async move { n }, |_| Some(Duration::from_secs(60))).await,
                Ok(n)
            );
        }
        assert_eq!(cache.entries.lock().cached.len(), 3);
        assert_eq!(cache.get(key(9), || async { 99 }, |_| None).await, Ok(9));
        assert_eq!(cache.get(key(0), || async { 99 }, |_| None).await, Ok(99));
    }

    #[test]
    fn hashes_differ_between_processes_and_reviews() {
        let (one, two) = (Hasher::new().unwrap(), Hasher::new().unwrap());
        assert_eq!(one.key(b"a"), one.key(b"a"));
        assert_ne!(one.key(b"a"), one.key(b"b"));
        assert_ne!(one.key(b"a"), two.key(b"a"));
    }
}
