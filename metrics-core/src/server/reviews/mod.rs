//! Requests to kube-apiserver for a TokenReview or SubjectAccessReview, with retries and a cache.

pub mod cache;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

/// The timeout of one review, all attempts included.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ATTEMPTS: u32 = 5;
/// The maximum number of attempts without a response.
const MAX_CONCURRENT: usize = 3;
/// How long to wait for a response before the next attempt begins. By then its connection is slow, so that the next
/// attempt uses a new one (`cluster::connections`). The earlier attempts continue: a slow kube-apiserver may still respond.
const NEXT_ATTEMPT: Duration = Duration::from_secs(3);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// The result of a review, shared by all requests that waited for it.
pub(crate) type SharedResult<V> = Result<V, Arc<ReviewError>>;

/// An error of requesting a review.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// kube-apiserver did not respond in time.
    #[error("kube-apiserver did not respond within {TIMEOUT:?}")]
    Timeout,
    /// kube-apiserver forbids the review.
    #[error("{0}; bind the service account of metrics-core to ClusterRole system:auth-delegator")]
    Forbidden(String),
    /// kube-apiserver returned an error or is unreachable.
    #[error("{0}")]
    Failed(String),
}

/// Posts a review. Repeats it until the timeout after an error that can be transient (429, 5xx, no connection), and while
/// there is no response. Returns the first result.
pub(crate) async fn post_with_retries<T, F>(mut post: impl FnMut() -> F) -> Result<T, ReviewError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let attempts = async {
        let mut running = FuturesUnordered::new();
        let (mut attempts, mut backoff) = (0, FIRST_BACKOFF);
        let mut next_attempt = Instant::now();
        loop {
            let may_start = attempts < MAX_ATTEMPTS && running.len() < MAX_CONCURRENT;
            let error = tokio::select! {
                biased;
                Some(result) = running.next(), if !running.is_empty() => match result {
                    Ok(review) => return Ok(review),
                    Err(error) => error,
                },
                () = sleep_until(next_attempt), if may_start => {
                    running.push(post());
                    attempts += 1;
                    next_attempt = Instant::now() + NEXT_ATTEMPT;
                    continue;
                }
            };
            match error {
                kube::Error::Api(status) if status.code == 403 => {
                    return Err(ReviewError::Forbidden(status.message));
                }
                kube::Error::Api(status) if status.code != 429 && status.code < 500 => {
                    return Err(ReviewError::Failed(status.message));
                }
                other if attempts >= MAX_ATTEMPTS && running.is_empty() => {
                    return Err(ReviewError::Failed(other.to_string()));
                }
                _ => {}
            }
            next_attempt = Instant::now() + backoff.mul_f64(jitter());
            backoff = backoff.mul_f64(1.5);
        }
    };
    timeout(TIMEOUT, attempts).await.unwrap_or(Err(ReviewError::Timeout))
}

/// Returns a factor from 1.0 to 1.2, so that reviews that failed together are not retried together.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    1.0 + f64::from(byte[0]) / 255.0 * 0.2
}
