//! Authorization: always-allowed paths, group system:masters, otherwise a SubjectAccessReview.
//!
//! The rules and messages are those of delegated authorization in k8s.io/apiserver. A failed review never allows a
//! request.

mod access_review;
mod always_allow;
mod forbidden;

use std::sync::Arc;
use std::time::Duration;

pub use access_review::{AccessReviewer, Decision};
pub use always_allow::AlwaysAllow;
pub(crate) use forbidden::message as forbidden_message;

use crate::server::authentication::UserInfo;
use crate::server::request_info::RequestInfo;
use crate::server::reviews::cache::{CacheError, Hasher, ReviewCache};
use crate::server::reviews::{ReviewError, SharedResult};

/// The group whose members are allowed everything.
const MASTERS: &str = "system:masters";
/// The maximum number of cached decisions, as in k8s.io/apiserver.
const CAPACITY: usize = 8192;
/// Reviews with more bytes than this from the client are not cached, as they may be an attempt to exhaust memory.
const MAX_CACHED_LENGTH: usize = 10_000;

/// The result of authorization.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// The request is allowed.
    Allowed,
    /// The request is forbidden, with the reason of kube-apiserver or an empty string. The response is 403.
    Forbidden(String),
    /// The review failed. The response is 500.
    Failed(Arc<ReviewError>),
    /// Too many reviews are pending. The response is 429.
    TooMany,
}

/// The authorizer of all requests.
pub struct Authorizer {
    always: AlwaysAllow,
    reviewer: Arc<dyn AccessReviewer>,
    hasher: Hasher,
    cache: ReviewCache<SharedResult<Decision>>,
    allowed_ttl: Duration,
    denied_ttl: Duration,
}

impl Authorizer {
    /// Returns an authorizer that caches the decisions of `reviewer` for `allowed_ttl` and `denied_ttl`.
    #[must_use]
    pub fn new(
        always: AlwaysAllow,
        reviewer: Arc<dyn AccessReviewer>,
        hasher: Hasher,
        allowed_ttl: Duration,
        denied_ttl: Duration,
    ) -> Self {
        Self { always, reviewer, hasher, cache: ReviewCache::new(CAPACITY), allowed_ttl, denied_ttl }
    }

    /// Returns whether the path needs no authorization.
    #[must_use]
    pub fn always_allows(&self, request: &RequestInfo) -> bool {
        !request.is_resource_request && self.always.matches(&request.path)
    }

    /// Authorizes `request` for `user`.
    pub(crate) async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Verdict {
        if user.groups.iter().any(|group| group == MASTERS) || self.always_allows(request) {
            return Verdict::Allowed;
        }
        let spec = access_review::spec(user, request);
        let Ok(encoded) = serde_json::to_vec(&spec) else {
            return Verdict::Failed(Arc::new(ReviewError::Failed(
                "the SubjectAccessReview can't be encoded".to_owned(),
            )));
        };
        let (allowed_ttl, denied_ttl) = (self.allowed_ttl, self.denied_ttl);
        let short = access_review::controlled_length(request) < MAX_CACHED_LENGTH;
        let ttl = move |result: &SharedResult<Decision>| match result {
            Ok(decision) if short => Some(if decision.allowed { allowed_ttl } else { denied_ttl }),
            _ => None,
        };
        let review = || {
            let review = self.reviewer.review(spec);
            async move { review.await.map_err(Arc::new) }
        };
        match self.cache.get(self.hasher.key(&encoded), review, ttl).await {
            Ok(Ok(decision)) if decision.allowed => Verdict::Allowed,
            Ok(Ok(decision)) => Verdict::Forbidden(decision.reason),
            Ok(Err(error)) => Verdict::Failed(error),
            Err(CacheError::TooManyReviews) => Verdict::TooMany,
            Err(error @ CacheError::Panicked) => {
                Verdict::Failed(Arc::new(ReviewError::Failed(error.to_string())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::BoxFuture;
    use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;

    use super::{AccessReviewer, AlwaysAllow, Authorizer, Decision, Verdict};
    use crate::server::authentication::UserInfo;
    use crate::server::request_info::RequestInfo;
    use crate::server::reviews::ReviewError;
    use crate::server::reviews::cache::Hasher;

    /// Counts reviews; allows jane, fails for john.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    impl AccessReviewer for Counting {
        fn review(&self, spec: SubjectAccessReviewSpec) -> BoxFuture<'static, Result<Decision, ReviewError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match spec.user.as_deref() {
                    Some("jane") => Ok(Decision { allowed: true, reason: String::new() }),
                    Some("john") => Err(ReviewError::Timeout),
                    _ => Ok(Decision { allowed: false, reason: "no".into() }),
                }
            })
        }
    }

    fn user(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        }
    }

    #[tokio::test]
    async fn caches_decisions_and_never_allows_on_failure() {
        let counting = Counting::default();
        let reviews = counting.0.clone();
        let paths = AlwaysAllow::new(&["/livez".to_owned()]).unwrap();
        let minute = Duration::from_secs(60);
        let authorizer = Authorizer::new(paths, Arc::new(counting), Hasher::new().unwrap(), minute, minute);
        let nodes = RequestInfo {
            is_resource_request: true,
            resource: "nodes".into(),
            verb: "list",
            ..RequestInfo::default()
        };
        let livez = RequestInfo { path: "/livez".into(), verb: "get", ..RequestInfo::default() };
        for _ in 0..2 {
            assert!(matches!(authorizer.authorize(&user("jane", &[]), &nodes).await, Verdict::Allowed));
            assert!(
                matches!(authorizer.authorize(&user("jack", &[]), &nodes).await, Verdict::Forbidden(why) if why == "no")
            );
            assert!(matches!(authorizer.authorize(&user("john", &[]), &nodes).await, Verdict::Failed(_)));
            assert!(matches!(
                authorizer.authorize(&user("jack", &["system:masters"]), &nodes).await,
                Verdict::Allowed
            ));
            assert!(matches!(authorizer.authorize(&user("jack", &[]), &livez).await, Verdict::Allowed));
        }
        assert_eq!(reviews.load(Ordering::SeqCst), 1 + 1 + 2);
        let long = RequestInfo { name: "x".repeat(10_000), ..nodes };
        for _ in 0..2 {
            authorizer.authorize(&user("jane", &[]), &long).await;
        }
        assert_eq!(reviews.load(Ordering::SeqCst), 6, "long reviews are not cached");
    }
}
