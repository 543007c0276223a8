//! Sends requests until they succeed or can't succeed.

use std::time::Duration;

use tokio::time::Instant;

use super::HookError;
use crate::common::error_chain;

/// The time between two attempts.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The timeout of one request.
const REQUEST: Duration = Duration::from_secs(10);

/// The time for which kube-apiserver may reject a request that it accepts later: permissions that were created a moment ago
/// take time to reach each replica, and a webhook may be starting.
const SETTLING: Duration = Duration::from_secs(10);

/// A time until which a hook tries to reach its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    /// Returns the error for what did not occur in time.
    pub(super) fn exceeded(self, action: impl Into<String>, last: impl Into<String>) -> HookError {
        HookError::Timeout { action: action.into(), after: self.timeout, last: last.into() }
    }
}

/// Sends a request again until it succeeds, is rejected, or the deadline is over. `action` names it in errors.
pub(super) async fn until<T, F>(
    deadline: Deadline,
    action: &str,
    mut request: impl FnMut() -> F,
) -> Result<T, HookError>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let started = Instant::now();
    loop {
        let last = match tokio::time::timeout(REQUEST, request()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(kube::Error::Api(status))) => {
                let settled = started.elapsed() >= SETTLING;
                match status.code {
                    429 | 502..=504 => {}
                    401 | 403 | 500 if !settled => {}
                    code => {
                        let message = status.message.clone();
                        return Err(HookError::Rejected { action: action.to_owned(), code, message });
                    }
                }
                format!("kube-apiserver returned {}: {}", status.code, status.message)
            }
            Ok(Err(error)) => error_chain(&error),
            Err(_) => format!("no response within {} s", REQUEST.as_secs()),
        };
        if deadline.is_over() {
            return Err(deadline.exceeded(action, last));
        }
        tracing::debug!(action, last, "retrying");
        tokio::time::sleep(PAUSE).await;
    }
}
