//! Authentication by bearer token: cached TokenReviews.

use std::sync::Arc;
use std::time::Duration;

use crds::cause::CredentialCause;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;

use super::{AuthenticationError, Refusal, UserInfo};
use crate::server::reviews::cache::{CacheError, Hasher, ReviewCache};
use crate::server::reviews::{self, SharedResult};

pub use crate::server::reviews::ReviewError;

/// How long a rejection with an error is cached. The error can be transient, but a client that repeats an invalid token
/// must not cause a review each time.
const ERROR_TTL: Duration = Duration::from_secs(1);
/// The maximum number of cached results.
const CAPACITY: usize = 8192;

/// The result of a TokenReview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// The token is valid.
    User(UserInfo),
    /// The token is invalid, with the error of kube-apiserver, if any.
    Rejected(Option<String>),
}

/// Performs TokenReviews.
pub trait TokenReviewer: Send + Sync + 'static {
    /// Reviews `token`.
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenStatus, ReviewError>>;
}

impl TokenReviewer for kube::Client {
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenStatus, ReviewError>> {
        let api = kube::Api::<TokenReview>::all(self.clone());
        Box::pin(async move {
            let spec = TokenReviewSpec { token: Some(token), audiences: None };
            let review = TokenReview { spec, ..TokenReview::default() };
            let review =
                reviews::post_with_retries(|| async { api.create(&PostParams::default(), &review).await })
                    .await?;
            let status = review.status.unwrap_or_default();
            if status.authenticated != Some(true) {
                return Ok(TokenStatus::Rejected(status.error.filter(|error| !error.is_empty())));
            }
            let user = status.user.unwrap_or_default();
            Ok(TokenStatus::User(UserInfo {
                name: user.username.unwrap_or_default(),
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            }))
        })
    }
}

pub(super) struct CachedReviews {
    reviewer: Arc<dyn TokenReviewer>,
    hasher: Hasher,
    cache: ReviewCache<SharedResult<TokenStatus>>,
    ttl: Duration,
}

impl CachedReviews {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>, hasher: Hasher, ttl: Duration) -> Self {
        Self { reviewer, hasher, cache: ReviewCache::new(CAPACITY), ttl }
    }

    /// Returns the user of a token. Failed reviews are not cached.
    pub(super) async fn review(&self, token: &str) -> Result<UserInfo, AuthenticationError> {
        let ttl = self.ttl;
        let review = || {
            let review = self.reviewer.review(token.to_owned());
            async move { review.await.map_err(Arc::new) }
        };
        let ttl = move |result: &SharedResult<TokenStatus>| match result {
            Ok(TokenStatus::User(_) | TokenStatus::Rejected(None)) => Some(ttl),
            Ok(TokenStatus::Rejected(Some(_))) => Some(ttl.min(ERROR_TTL)),
            Err(_) => None,
        };
        let refused =
            |reason, detail| Err(AuthenticationError::Unauthorized(vec![Refusal { reason, detail }]));
        let failed = |error: &dyn std::error::Error| {
            refused(CredentialCause::TokenReviewFailed, format!("TokenReview failed: {error}"))
        };
        match self.cache.get(self.hasher.key(token.as_bytes()), review, ttl).await {
            Ok(Ok(TokenStatus::User(user))) => Ok(user),
            Ok(Ok(TokenStatus::Rejected(why))) => refused(
                CredentialCause::TokenRejected,
                why.unwrap_or_else(|| "invalid bearer token".to_owned()),
            ),
            Ok(Err(error)) => failed(&error),
            Err(CacheError::TooManyReviews) => Err(AuthenticationError::TooManyReviews),
            Err(error @ CacheError::Panicked) => failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::{AuthenticationError, CachedReviews, ReviewError, TokenReviewer, TokenStatus};
    use crds::cause::CredentialCause;

    use crate::server::authentication::UserInfo;
    use crate::server::reviews::cache::Hasher;

    /// Counts reviews; knows one token.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    impl TokenReviewer for Counting {
        fn review(&self, token: String) -> BoxFuture<'static, Result<TokenStatus, ReviewError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match token.as_str() {
                    "good" => Ok(TokenStatus::User(UserInfo { name: "jane".into(), ..UserInfo::default() })),
                    "down" => Err(ReviewError::Failed("no route".into())),
                    _ => Ok(TokenStatus::Rejected(None)),
                }
            })
        }
    }

    #[tokio::test]
    async fn caches_results_and_not_failures() {
        let counting = Counting::default();
        let posted = counting.0.clone();
        let reviews = CachedReviews::new(Arc::new(counting), Hasher::new().unwrap(), Duration::from_secs(60));
        let refused = |result| match result {
            Err(AuthenticationError::Unauthorized(refusals)) => refusals[0].reason,
            other => panic!("{other:?}"),
        };
        for _ in 0..3 {
            assert_eq!(reviews.review("good").await.unwrap().name, "jane");
            assert_eq!(refused(reviews.review("bad").await), CredentialCause::TokenRejected);
            assert_eq!(refused(reviews.review("down").await), CredentialCause::TokenReviewFailed);
        }
        assert_eq!(posted.load(Ordering::SeqCst), 1 + 1 + 3);
    }
}
