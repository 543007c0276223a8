//! Answers of TokenReview and SubjectAccessReview, remembered for a while.
//!
//! Bounded; equal questions that come at the same time are asked once; at most so many different ones are on their
//! way, and at most so many wait for that: whoever reaches the port can make questions up. Keys are keyed hashes, so no
//! token is kept and nobody can choose colliding ones.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

/// The hash of a question.
pub type Key = [u8; 32];

/// The most questions that are on their way to the API server at once.
const CONCURRENT: usize = 64;

/// The most questions that are open, those on their way included. At some milliseconds each the last one waits for less
/// than a second.
const OPEN: usize = 1024;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many questions are open: ask again later.
    #[error("too many questions are open")]
    TooMany,
    /// It panicked.
    #[error("the question broke off")]
    BrokeOff,
}

/// Hashes questions with a random key of this process.
pub struct Hasher(hmac::Key);

impl Hasher {
    /// A new random key.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).map(Self)
    }

    /// The hash of these bytes.
    #[must_use]
    pub fn key(&self, question: &[u8]) -> Key {
        let mut key = Key::default();
        key.copy_from_slice(hmac::sign(&self.0, question).as_ref());
        key
    }
}

/// The cache. `V` is the whole answer, failures included; they are shared by those who wait together.
pub struct ReviewCache<V> {
    entries: Arc<Mutex<Entries<V>>>,
    permits: Arc<Semaphore>,
}

struct Entries<V> {
    capacity: usize,
    answered: HashMap<Key, (V, Instant)>,
    /// Keys of `answered` from the oldest on; a key that was answered again stands here again.
    order: VecDeque<Key>,
    asked: HashMap<Key, Asked<V>>,
}

/// A question that is open.
struct Asked<V> {
    answer: Shared<BoxFuture<'static, Option<V>>>,
    /// Those who wait for the answer.
    waiting: Arc<watch::Sender<()>>,
}

impl<V: Clone + Send + Sync + 'static> ReviewCache<V> {
    /// A cache of at most `capacity` answers.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let entries =
            Entries { capacity, answered: HashMap::new(), order: VecDeque::new(), asked: HashMap::new() };
        Self { entries: Arc::new(Mutex::new(entries)), permits: Arc::new(Semaphore::new(CONCURRENT)) }
    }

    /// The remembered answer, or that of `ask`, kept for as long as `keep` says (`None`: not at all).
    ///
    /// The question goes on when its first asker goes away; if nobody waits any more before it is on its way, it is
    /// dropped.
    pub async fn get<F>(
        &self,
        key: Key,
        ask: impl FnOnce() -> F,
        keep: impl FnOnce(&V) -> Option<Duration> + Send + 'static,
    ) -> Result<V, Unanswered>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (answer, _waits) = {
            let mut entries = self.entries.lock();
            if let Some(answer) = entries.answer(&key) {
                return Ok(answer);
            }
            if let Some(asked) = entries.asked.get(&key) {
                (asked.answer.clone(), asked.waiting.subscribe())
            } else if entries.asked.len() >= OPEN {
                return Err(Unanswered::TooMany);
            } else {
                let (waiting, waits) = watch::channel(());
                let waiting = Arc::new(waiting);
                let asking = tokio::spawn(self.asking(key, waiting.clone(), ask(), keep));
                let answer = asking.map(|asked| asked.ok().flatten()).boxed().shared();
                entries.asked.insert(key, Asked { answer: answer.clone(), waiting });
                (answer, waits)
            }
        };
        answer.await.ok_or(Unanswered::BrokeOff)
    }

    /// Asks when it is its turn; `None` if nobody waits for the answer by then.
    fn asking<F>(
        &self,
        key: Key,
        waiting: Arc<watch::Sender<()>>,
        question: F,
        keep: impl FnOnce(&V) -> Option<Duration> + Send + 'static,
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
                        // Someone may have come in between.
                        if waiting.is_closed() {
                            entries.asked.remove(&key);
                            return None;
                        }
                    }
                    permit = &mut turn => break permit,
                }
            };
            let answer = question.await;
            drop(permit);
            let mut entries = shared.lock();
            entries.asked.remove(&key);
            if let Some(ttl) = keep(&answer).filter(|ttl| !ttl.is_zero()) {
                entries.remember(key, answer.clone(), ttl);
            }
            Some(answer)
        }
    }
}

impl<V: Clone> Entries<V> {
    fn answer(&mut self, key: &Key) -> Option<V> {
        let (answer, until) = self.answered.get(key)?;
        if *until > Instant::now() {
            return Some(answer.clone());
        }
        self.answered.remove(key);
        None
    }

    fn remember(&mut self, key: Key, answer: V, ttl: Duration) {
        while self.answered.len() >= self.capacity || self.order.len() >= 2 * self.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.answered.remove(&oldest);
        }
        self.answered.insert(key, (answer, Instant::now() + ttl));
        self.order.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{CONCURRENT, Hasher, OPEN, ReviewCache, Unanswered};

    fn key(n: u8) -> super::Key {
        [n; 32]
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once_and_remembered() {
        let cache = Arc::new(ReviewCache::<usize>::new(10));
        let asked = Arc::new(AtomicUsize::new(0));
        let get = |ttl| {
            let (cache, asked) = (cache.clone(), asked.clone());
            async move {
                let ask = || async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    asked.fetch_add(1, Ordering::SeqCst)
                };
                cache.get(key(1), ask, move |_| ttl).await.unwrap()
            }
        };
        let ttl = Some(Duration::from_millis(40));
        let (a, b, c) = tokio::join!(get(ttl), get(ttl), get(ttl));
        assert_eq!((a, b, c), (0, 0, 0));
        assert_eq!(get(ttl).await, 0);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(get(None).await, 1, "an old answer does not count");
        assert_eq!(get(None).await, 2, "an answer that is not kept is asked for again");
    }

    #[tokio::test]
    async fn a_question_outlives_its_first_asker() {
        let cache = ReviewCache::<u8>::new(10);
        let ask = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            7
        };
        let minute = |_: &u8| Some(Duration::from_secs(60));
        assert!(
            tokio::time::timeout(Duration::from_millis(1), cache.get(key(1), ask, minute)).await.is_err()
        );
        assert_eq!(cache.get(key(1), || async { 8 }, minute).await, Ok(7));
    }

    #[tokio::test]
    async fn only_so_many_questions_are_open_and_those_of_nobody_are_not_asked() {
        let cache = Arc::new(ReviewCache::<usize>::new(10));
        let (asked, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let mut askers = tokio::task::JoinSet::new();
        let mut ask = |n: usize| {
            let (cache, asked, may_answer) = (cache.clone(), asked.clone(), may_answer.clone());
            askers.spawn(async move {
                let mut key = super::Key::default();
                key[..8].copy_from_slice(&n.to_le_bytes());
                let ask = || async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    may_answer.notified().await;
                    n
                };
                cache.get(key, ask, |_| None).await
            })
        };
        let open = |wanted: usize| {
            let cache = cache.clone();
            async move {
                while cache.entries.lock().asked.len() != wanted {
                    tokio::task::yield_now().await;
                }
            }
        };
        let handles: Vec<_> = (0..OPEN).map(&mut ask).collect();
        open(OPEN).await;
        assert_eq!(cache.get(key(255), || async { 0 }, |_| None).await, Err(Unanswered::TooMany));
        // One that is open already is waited for.
        ask(0);
        ask(OPEN - 1);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.entries.lock().asked.len(), OPEN);
        for handle in &handles {
            handle.abort();
        }
        // Those on their way, and the one for which someone still waits.
        open(CONCURRENT + 1).await;
        while !cache.entries.lock().asked.is_empty() {
            may_answer.notify_waiters();
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), CONCURRENT + 1);
        let mut answers = Vec::new();
        while let Some(ended) = askers.join_next().await {
            answers.extend(ended.ok().map(Result::unwrap));
        }
        answers.sort_unstable();
        assert_eq!(answers, [0, OPEN - 1]);
        assert_eq!(cache.get(key(255), || async { 5 }, |_| None).await, Ok(5));
    }

    #[tokio::test]
    async fn the_oldest_answers_make_room() {
        let cache = ReviewCache::<u8>::new(3);
        for n in 0..10 {
            assert_eq!(
                cache.get(key(n), || async move { n }, |_| Some(Duration::from_secs(60))).await,
                Ok(n)
            );
        }
        assert_eq!(cache.entries.lock().answered.len(), 3);
        assert_eq!(cache.get(key(9), || async { 99 }, |_| None).await, Ok(9));
        assert_eq!(cache.get(key(0), || async { 99 }, |_| None).await, Ok(99));
    }

    #[test]
    fn hashes_differ_between_processes_and_questions() {
        let (one, two) = (Hasher::new().unwrap(), Hasher::new().unwrap());
        assert_eq!(one.key(b"a"), one.key(b"a"));
        assert_ne!(one.key(b"a"), one.key(b"b"));
        assert_ne!(one.key(b"a"), two.key(b"a"));
    }
}
