//! Requests to kube-apiserver for a TokenReview or SubjectAccessReview, with retries and a cache.

pub mod cache;

use std::sync::Arc;
use std::time::Duration;

/// The timeout of one review, retries included.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ATTEMPTS: u32 = 5;
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

/// Posts a review. Retries errors that can be transient (429, 5xx, no connection) until the timeout.
pub(crate) async fn post_with_retries<T, F>(mut post: impl FnMut() -> F) -> Result<T, ReviewError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let attempts = async {
        let mut backoff = FIRST_BACKOFF;
        for attempt in 1.. {
            let error = match post().await {
                Ok(review) => return Ok(review),
                Err(error) => error,
            };
            match &error {
                kube::Error::Api(status) if status.code == 403 => {
                    return Err(ReviewError::Forbidden(status.message.clone()));
                }
                kube::Error::Api(status) if status.code != 429 && status.code < 500 => {
                    return Err(ReviewError::Failed(status.message.clone()));
                }
                other if attempt >= MAX_ATTEMPTS => return Err(ReviewError::Failed(other.to_string())),
                _ => {}
            }
            tokio::time::sleep(backoff.mul_f64(jitter())).await;
            backoff = backoff.mul_f64(1.5);
        }
        Err(ReviewError::Timeout)
    };
    tokio::time::timeout(TIMEOUT, attempts).await.unwrap_or(Err(ReviewError::Timeout))
}

/// Returns a factor from 1.0 to 1.2, so that reviews that failed together are not retried together.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    1.0 + f64::from(byte[0]) / 255.0 * 0.2
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{ReviewError, post_with_retries};

    fn failure(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: format!("code {code}"), ..Status::default() }))
    }

    #[tokio::test]
    async fn retries_transient_errors_only() {
        let mut attempts = 0;
        let review = post_with_retries(|| {
            attempts += 1;
            std::future::ready(if attempts < 3 { Err(failure(503)) } else { Ok(attempts) })
        });
        assert_eq!(review.await.unwrap(), 3);
        attempts = 0;
        let forbidden = post_with_retries(|| {
            attempts += 1;
            std::future::ready(Err::<(), _>(failure(403)))
        });
        assert!(matches!(forbidden.await, Err(ReviewError::Forbidden(_))));
        assert_eq!(attempts, 1);
    }
}
