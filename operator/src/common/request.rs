//! Deadlines and retries of requests to kube-apiserver. Every request has a deadline, so that no response that never
//! comes stops the operator.

use std::time::Duration;

use kube::core::Status;

use super::error_chain;
use super::normalize::quote;

/// The pause before a request is sent again. A longer `retryAfterSeconds` is not waited for: the next reconcile retries.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The deadline passed.
    #[error("no response within {} s", .0.as_secs())]
    Timeout(Duration),
    /// kube-apiserver returned an error or could not be reached.
    #[error("{}", describe(.0))]
    Kube(Box<kube::Error>),
}

/// Returns kube-apiserver's message without the rest of its response, or else the error with its causes.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            format!("kube-apiserver returned {}: \"{}\"", status.code, quote(&status.message))
        }
        error => error_chain(error),
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

impl RequestError {
    /// Returns kube-apiserver's error response; `None` if there was no response.
    #[must_use]
    pub(crate) fn response(&self) -> Option<&Status> {
        match self {
            Self::Kube(error) => match &**error {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Timeout(_) => None,
        }
    }

    /// Whether the deadline passed.
    #[must_use]
    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether the same request may succeed a moment later: no response, or one that asks for a retry.
    #[must_use]
    pub(crate) fn is_transient(&self) -> bool {
        self.response().is_none_or(|status| matches!(status.code, 429 | 500 | 502..=504))
    }
}

/// Sends a request with a deadline.
pub(crate) async fn within<T, E: Into<RequestError>>(
    deadline: Duration,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(deadline, request).await {
        Ok(response) => response.map_err(Into::into),
        Err(_) => Err(RequestError::Timeout(deadline)),
    }
}

/// Sends a request again, once, if its failure is transient. The request must be idempotent.
pub(crate) async fn with_retry<T, E: Into<RequestError>, F: Future<Output = Result<T, E>>>(
    mut request: impl FnMut() -> F,
) -> Result<T, RequestError> {
    match request().await.map_err(Into::into) {
        Err(error) if error.is_transient() => {
            tokio::time::sleep(PAUSE).await;
            request().await.map_err(Into::into)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("m", "R").with_code(code).boxed())
    }

    /// Returns the result after a first failure with `first`, and how many requests were sent.
    async fn after(first: kube::Error) -> (Result<(), RequestError>, usize) {
        let (mut first, mut sent) = (Some(first), 0);
        let result = with_retry(|| {
            sent += 1;
            std::future::ready(first.take().map_or(Ok(()), Err))
        });
        (result.await, sent)
    }

    #[tokio::test(start_paused = true)]
    async fn retries_once_after_a_transient_failure() {
        for code in [429, 500, 503, 504] {
            let (result, sent) = after(response(code)).await;
            assert!(result.is_ok() && sent == 2, "{code}");
        }
        let (result, sent) = after(kube::Error::Service("connection closed".into())).await;
        assert!(result.is_ok() && sent == 2);
        for code in [400, 403, 404, 409, 422] {
            let (result, sent) = after(response(code)).await;
            assert!(result.is_err() && sent == 1, "{code}");
        }
    }

    #[test]
    fn an_error_response_is_quoted() {
        let error = RequestError::from(response(403));
        assert_eq!(error.to_string(), "kube-apiserver returned 403: \"m\"");
    }

    #[tokio::test(start_paused = true)]
    async fn returns_a_timeout_when_no_response_comes() {
        let never = std::future::pending::<Result<(), kube::Error>>();
        let error = within(Duration::from_secs(5), never).await.expect_err("a timeout");
        assert!(error.is_timeout() && error.is_transient());
        assert_eq!(error.to_string(), "no response within 5 s");
    }
}
