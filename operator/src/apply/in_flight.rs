//! Requests that may outlast a pass. A pass waits a moment for each response; what is slower continues beside the loop, and a
//! later pass takes its response.
//!
//! kube-apiserver calls the admission webhooks of an object before it responds, each for up to 30 s, so a webhook that hangs
//! delays the objects that it matches. It must delay no other object and no condition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::common::request::{RequestError, with_retry, within};

/// The deadline of a request: longer than the longest timeout of a webhook.
const DEADLINE: Duration = Duration::from_secs(35);

/// How long a pass waits for the first response that is late.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for the others after it.
const LESS_PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits for a response to a request that had none before.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// The patience of one pass.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Whether a response was late.
    is_spent: bool,
}

/// What is known of a request.
pub(super) enum Progress<T> {
    /// Its response.
    Response(Result<T, RequestError>),
    /// There is no response yet.
    Waiting,
}

/// At most one request of each key.
pub(super) struct InFlight<K, T> {
    sent: BTreeMap<K, JoinHandle<Result<T, RequestError>>>,
    /// The keys whose last request had no response in time.
    late: BTreeSet<K>,
}

impl<K, T> Default for InFlight<K, T> {
    fn default() -> Self {
        Self { sent: BTreeMap::new(), late: BTreeSet::new() }
    }
}

impl<K: Ord + Copy, T: Send + 'static> InFlight<K, T> {
    /// Whether a request was sent whose response was not taken yet.
    pub(super) fn is_sent(&self, key: K) -> bool {
        self.sent.contains_key(&key)
    }

    /// Sends a request. A transient failure is retried once.
    pub(super) fn send<F>(&mut self, key: K, request: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<T, kube::Error>> + Send + 'static,
    {
        let task = tokio::spawn(async move { within(DEADLINE, with_retry(request)).await });
        if let Some(before) = self.sent.insert(key, task) {
            before.abort();
        }
    }

    /// Returns the response to the request of a key, if it comes soon.
    pub(super) async fn response(&mut self, key: K, patience: &mut Patience) -> Progress<T> {
        let Some(task) = self.sent.get_mut(&key) else { return Progress::Waiting };
        let wait = match (self.late.contains(&key), patience.is_spent) {
            (true, _) => LEAST_PATIENCE,
            (false, true) => LESS_PATIENCE,
            (false, false) => PATIENCE,
        };
        let Ok(ended) = tokio::time::timeout(wait, task).await else {
            patience.is_spent |= self.late.insert(key);
            return Progress::Waiting;
        };
        self.sent.remove(&key);
        // A cancelled task is not awaited.
        let response = ended.unwrap_or(Err(RequestError::Timeout(DEADLINE)));
        if !response.as_ref().is_err_and(RequestError::is_timeout) {
            self.late.remove(&key);
        }
        Progress::Response(response)
    }

    /// Cancels the requests of some keys.
    pub(super) fn cancel(&mut self, is_cancelled: impl Fn(K) -> bool) {
        self.sent.retain(|key, task| {
            if is_cancelled(*key) {
                task.abort();
            }
            !is_cancelled(*key)
        });
    }
}

impl<K, T> Drop for InFlight<K, T> {
    /// Nothing is written after the Lease is lost.
    fn drop(&mut self) {
        self.sent.values().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Returns a request that takes this time.
    fn taking(
        seconds: u64,
    ) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = Result<u64, kube::Error>> + Send>> {
        move || {
            Box::pin(async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok(seconds)
            })
        }
    }

    fn is_waiting<T>(progress: &Progress<T>) -> bool {
        matches!(progress, Progress::Waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_response_is_taken_by_a_later_pass() {
        let mut requests = InFlight::default();
        requests.send("a", taking(20));
        assert!(is_waiting(&requests.response("a", &mut Patience::default()).await));
        sleep(Duration::from_secs(20)).await;
        let response = requests.response("a", &mut Patience::default()).await;
        assert!(matches!(response, Progress::Response(Ok(20))));
        assert!(!requests.is_sent("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_hang_delay_the_first_pass_a_little_and_later_ones_hardly() {
        let keys: Vec<u8> = (0..20).collect();
        let mut requests = InFlight::default();
        let mut passes = Vec::new();
        for _ in 0..3 {
            let (began, mut patience) = (Instant::now(), Patience::default());
            for key in &keys {
                if !requests.is_sent(*key) {
                    requests.send(*key, taking(10_000));
                }
                assert!(is_waiting(&requests.response(*key, &mut patience).await));
            }
            passes.push(began.elapsed());
        }
        assert!(passes[0] <= Duration::from_secs(30), "{passes:?}");
        assert!(passes[1..].iter().all(|pass| *pass <= Duration::from_secs(3)), "{passes:?}");
        // Another object does not wait because of them.
        requests.send(99, taking(0));
        let response = requests.response(99, &mut Patience::default()).await;
        assert!(matches!(response, Progress::Response(Ok(0))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_at_its_deadline_and_its_key_is_patient_again_after_a_response() {
        let mut requests = InFlight::default();
        requests.send("a", taking(10_000));
        assert!(is_waiting(&requests.response("a", &mut Patience::default()).await));
        sleep(DEADLINE).await;
        let response = requests.response("a", &mut Patience::default()).await;
        assert!(matches!(response, Progress::Response(Err(RequestError::Timeout(_)))));
        requests.send("a", taking(4));
        assert!(is_waiting(&requests.response("a", &mut Patience::default()).await), "it hung before");
        sleep(Duration::from_secs(4)).await;
        assert!(!is_waiting(&requests.response("a", &mut Patience::default()).await));
        requests.send("a", taking(4));
        assert!(!is_waiting(&requests.response("a", &mut Patience::default()).await));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_cancelled_with_their_owner() {
        let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
        let mut requests = InFlight::default();
        requests.send("a", move || {
            let sent = sent.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                _ = sent.send(());
                Ok(())
            }
        });
        drop(requests);
        assert_eq!(received.recv().await, None);
    }
}
