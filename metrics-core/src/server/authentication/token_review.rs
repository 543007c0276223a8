//! Bearer tokens, told by the API server's TokenReview and remembered for a while.

use std::sync::Arc;
use std::time::Duration;

use crds::cause::CredentialCause;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;

use super::{NoUser, Refusal, UserInfo};
use crate::server::reviews::cache::{Hasher, ReviewCache, Unanswered};
use crate::server::reviews::{self, Answer};

pub use crate::server::reviews::ReviewError;

/// How long a rejection counts for which the API server gives an error: it may be a fault that passes, yet a
/// client that repeats a bad token must not have us repeat the question.
const UNCERTAIN: Duration = Duration::from_secs(1);
/// The most tokens that are remembered.
const CAPACITY: usize = 8192;

/// What the API server says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// It is this user's.
    User(UserInfo),
    /// It is nobody's; with the API server's reason, if it gives one.
    Rejected(Option<String>),
}

/// One who can tell whose token it is.
pub trait TokenReviewer: Send + Sync + 'static {
    /// Asks about `token`.
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>>;
}

impl TokenReviewer for kube::Client {
    fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>> {
        let api = kube::Api::<TokenReview>::all(self.clone());
        Box::pin(async move {
            let spec = TokenReviewSpec { token: Some(token), audiences: None };
            let question = TokenReview { spec, ..TokenReview::default() };
            let answer =
                reviews::ask(|| async { api.create(&PostParams::default(), &question).await }).await?;
            let status = answer.status.unwrap_or_default();
            if status.authenticated != Some(true) {
                return Ok(TokenVerdict::Rejected(status.error.filter(|error| !error.is_empty())));
            }
            let user = status.user.unwrap_or_default();
            Ok(TokenVerdict::User(UserInfo {
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
    cache: ReviewCache<Answer<TokenVerdict>>,
    ttl: Duration,
}

impl CachedReviews {
    pub(super) fn new(reviewer: Arc<dyn TokenReviewer>, hasher: Hasher, ttl: Duration) -> Self {
        Self { reviewer, hasher, cache: ReviewCache::new(CAPACITY), ttl }
    }

    /// The token's user. Failures to ask are not remembered.
    pub(super) async fn review(&self, token: &str) -> Result<UserInfo, NoUser> {
        let ttl = self.ttl;
        let question = || {
            let asked = self.reviewer.review(token.to_owned());
            async move { asked.await.map_err(Arc::new) }
        };
        let keep = move |answer: &Answer<TokenVerdict>| match answer {
            Ok(TokenVerdict::User(_) | TokenVerdict::Rejected(None)) => Some(ttl),
            Ok(TokenVerdict::Rejected(Some(_))) => Some(ttl.min(UNCERTAIN)),
            Err(_) => None,
        };
        let refused = |reason, detail| Err(NoUser::Unauthorized(vec![Refusal { reason, detail }]));
        let failed = |error: &dyn std::error::Error| {
            refused(CredentialCause::TokenReviewFailed, format!("TokenReview failed: {error}"))
        };
        match self.cache.get(self.hasher.key(token.as_bytes()), question, keep).await {
            Ok(Ok(TokenVerdict::User(user))) => Ok(user),
            Ok(Ok(TokenVerdict::Rejected(why))) => refused(
                CredentialCause::TokenRejected,
                why.unwrap_or_else(|| "invalid bearer token".to_owned()),
            ),
            Ok(Err(error)) => failed(&error),
            Err(Unanswered::TooMany) => Err(NoUser::TooMany),
            Err(error @ Unanswered::BrokeOff) => failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::{CachedReviews, NoUser, ReviewError, TokenReviewer, TokenVerdict};
    use crds::cause::CredentialCause;

    use crate::server::authentication::UserInfo;
    use crate::server::reviews::cache::Hasher;

    /// Counts questions; knows one token.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    impl TokenReviewer for Counting {
        fn review(&self, token: String) -> BoxFuture<'static, Result<TokenVerdict, ReviewError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match token.as_str() {
                    "good" => Ok(TokenVerdict::User(UserInfo { name: "jane".into(), ..UserInfo::default() })),
                    "down" => Err(ReviewError::Failed("no route".into())),
                    _ => Ok(TokenVerdict::Rejected(None)),
                }
            })
        }
    }

    #[tokio::test]
    async fn verdicts_are_remembered_and_failures_not() {
        let counting = Counting::default();
        let asked = counting.0.clone();
        let reviews = CachedReviews::new(Arc::new(counting), Hasher::new().unwrap(), Duration::from_secs(60));
        let refused = |answer| match answer {
            Err(NoUser::Unauthorized(refusals)) => refusals[0].reason,
            other => panic!("{other:?}"),
        };
        for _ in 0..3 {
            assert_eq!(reviews.review("good").await.unwrap().name, "jane");
            assert_eq!(refused(reviews.review("bad").await), CredentialCause::TokenRejected);
            assert_eq!(refused(reviews.review("down").await), CredentialCause::TokenReviewFailed);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1 + 1 + 3);
    }
}
