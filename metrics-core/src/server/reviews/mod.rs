//! Asking the API server for a review (TokenReview, SubjectAccessReview), with retries.

pub mod cache;

use std::sync::Arc;
use std::time::Duration;

/// The whole time one question may take, retries included.
const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// An answer, or the failure to get one, shared by those who waited for it.
pub type Answer<V> = Result<V, Arc<ReviewError>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server did not answer in time.
    #[error("no answer from the API server within {TIMEOUT:?}")]
    Timeout,
    /// The API server forbids us to ask.
    #[error("{0}; bind this server's service account to ClusterRole system:auth-delegator")]
    Forbidden(String),
    /// The API server failed, or could not be reached.
    #[error("{0}")]
    Failed(String),
}

/// Asks until there is an answer, the failure is one that stays, or time is up.
pub async fn ask<T, F>(mut question: impl FnMut() -> F) -> Result<T, ReviewError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let attempts = async {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match question().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match &error {
                kube::Error::Api(status) if status.code == 403 => {
                    return Err(ReviewError::Forbidden(status.message.clone()));
                }
                kube::Error::Api(status) if status.code != 429 && status.code < 500 => {
                    return Err(ReviewError::Failed(status.message.clone()));
                }
                other if attempt >= ATTEMPTS => return Err(ReviewError::Failed(other.to_string())),
                _ => {}
            }
            tokio::time::sleep(pause.mul_f64(jitter())).await;
            pause = pause.mul_f64(1.5);
        }
        Err(ReviewError::Timeout)
    };
    tokio::time::timeout(TIMEOUT, attempts).await.unwrap_or(Err(ReviewError::Timeout))
}

/// From 1.0 to 1.2, so that those who failed together do not come back together.
fn jitter() -> f64 {
    let mut byte = [0_u8];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    1.0 + f64::from(byte[0]) / 255.0 * 0.2
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{ReviewError, ask};

    fn failure(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: format!("code {code}"), ..Status::default() }))
    }

    #[tokio::test]
    async fn what_may_pass_is_asked_again_and_what_stays_is_not() {
        let mut asked = 0;
        let answer = ask(|| {
            asked += 1;
            std::future::ready(if asked < 3 { Err(failure(503)) } else { Ok(asked) })
        });
        assert_eq!(answer.await.unwrap(), 3);
        asked = 0;
        let forbidden = ask(|| {
            asked += 1;
            std::future::ready(Err::<(), _>(failure(403)))
        });
        assert!(matches!(forbidden.await, Err(ReviewError::Forbidden(_))));
        assert_eq!(asked, 1);
    }
}
