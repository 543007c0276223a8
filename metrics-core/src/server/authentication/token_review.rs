//! Authentication by bearer token: cached TokenReviews.
//!
//! A token is reviewed for the audience of kube-apiserver. For the path of the report it is first reviewed for
//! [`AUDIENCE`]: the operator authenticates there with a token that opens nothing else.

use std::sync::Arc;
use std::time::Duration;

use crds::cause::CredentialCause;
use crds::report::{AUDIENCE, PATH};
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
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

/// The audience that a token must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// kube-apiserver's own: the default of a TokenReview.
    ApiServer,
    /// The report's: [`AUDIENCE`].
    Report,
}

impl Audience {
    /// Returns the audiences of tokens for a path, in the order of their reviews. The path is that of the request line: one
    /// that only decodes to the report's does not count.
    fn accepted(path: &str) -> &'static [Self] {
        if path == PATH { &[Self::Report, Self::ApiServer] } else { &[Self::ApiServer] }
    }

    /// Returns `spec.audiences` of the TokenReview.
    const fn requested(self) -> Option<&'static str> {
        match self {
            Self::ApiServer => None,
            Self::Report => Some(AUDIENCE),
        }
    }
}

/// Performs TokenReviews.
pub trait TokenReviewer: Send + Sync + 'static {
    /// Reviews `token` for `audience`.
    fn review(
        &self,
        token: String,
        audience: Audience,
    ) -> BoxFuture<'static, Result<TokenStatus, ReviewError>>;
}

impl TokenReviewer for kube::Client {
    fn review(
        &self,
        token: String,
        audience: Audience,
    ) -> BoxFuture<'static, Result<TokenStatus, ReviewError>> {
        let api = kube::Api::<TokenReview>::all(self.clone());
        Box::pin(async move {
            let audiences = audience.requested().map(|audience| vec![audience.to_owned()]);
            let spec = TokenReviewSpec { token: Some(token), audiences };
            let review = TokenReview { spec, ..TokenReview::default() };
            let review =
                reviews::post_with_retries(|| async { api.create(&PostParams::default(), &review).await })
                    .await?;
            Ok(judge(review.status.unwrap_or_default(), audience))
        })
    }
}

/// Returns what a TokenReview means for `audience`. An authenticator that does not know audiences accepts the token without
/// naming one; it is then a token for kube-apiserver (API reference, `TokenReviewStatus.audiences`).
fn judge(status: TokenReviewStatus, audience: Audience) -> TokenStatus {
    if status.authenticated != Some(true) {
        return TokenStatus::Rejected(status.error.filter(|error| !error.is_empty()));
    }
    if let Some(requested) = audience.requested()
        && !status.audiences.iter().flatten().any(|audience| audience == requested)
    {
        return TokenStatus::Rejected(Some(format!("the token is not for the audience {requested}")));
    }
    let user = status.user.unwrap_or_default();
    TokenStatus::User(UserInfo {
        name: user.username.unwrap_or_default(),
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
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

    /// Returns the user of a token in a request for `path`: of the first audience that accepts it. The refusals are those
    /// of the last audience, kube-apiserver's.
    pub(super) async fn authenticate(
        &self,
        token: &str,
        path: &str,
    ) -> Result<UserInfo, AuthenticationError> {
        let mut result = Err(AuthenticationError::Unauthorized(Vec::new()));
        for audience in Audience::accepted(path) {
            result = self.review(token, *audience).await;
            if !matches!(result, Err(AuthenticationError::Unauthorized(_))) {
                break;
            }
        }
        result
    }

    /// Returns the user of a token for one audience. Failed reviews are not cached.
    async fn review(&self, token: &str, audience: Audience) -> Result<UserInfo, AuthenticationError> {
        let ttl = self.ttl;
        let review = || {
            let review = self.reviewer.review(token.to_owned(), audience);
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
        // A result holds for one audience. No audience contains a line feed, and neither does a header.
        let key = format!("{}\n{token}", audience.requested().unwrap_or_default());
        match self.cache.get(self.hasher.key(key.as_bytes()), review, ttl).await {
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
mod tests;
