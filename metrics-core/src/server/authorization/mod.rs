//! Whether they may: always-allowed paths, system:masters, else the API server's SubjectAccessReview.
//!
//! The rules and texts are those of k8s.io/apiserver's delegated authorization. A failure to ask never allows.

mod access_review;
mod always_allow;
mod forbidden;

use std::sync::Arc;
use std::time::Duration;

pub use access_review::{AccessReviewer, Decision};
pub use always_allow::AlwaysAllow;
pub use forbidden::message as forbidden_message;

use crate::server::authentication::UserInfo;
use crate::server::request_info::RequestInfo;
use crate::server::reviews::cache::{Hasher, ReviewCache, Unanswered};
use crate::server::reviews::{Answer, ReviewError};

/// Who has this group may all.
const MASTERS: &str = "system:masters";
/// The most decisions that are remembered, as in k8s.io/apiserver.
const CAPACITY: usize = 8192;
/// Questions that a requester made longer than this are not remembered: they may be an attempt to fill the memory.
const LONGEST_REMEMBERED: usize = 10_000;

/// What came of a question.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// They may.
    Allowed,
    /// They may not; with the API server's reason, or empty.
    Forbidden(String),
    /// It could not be told: answered with 500.
    Unknown(Arc<ReviewError>),
    /// Too many such questions are open: answered with 429.
    TooMany,
}

/// The authorizer of all requests.
pub struct Authorizer {
    always: AlwaysAllow,
    reviewer: Arc<dyn AccessReviewer>,
    hasher: Hasher,
    cache: ReviewCache<Answer<Decision>>,
    allowed_ttl: Duration,
    denied_ttl: Duration,
}

impl Authorizer {
    /// Asks `reviewer` and remembers its yes and no for the given times.
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

    /// Whether this path is allowed to everyone.
    #[must_use]
    pub fn always_allows(&self, request: &RequestInfo) -> bool {
        !request.is_resource_request && self.always.matches(&request.path)
    }

    /// Whether `user` may do what `request` asks.
    pub async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Verdict {
        if user.groups.iter().any(|group| group == MASTERS) || self.always_allows(request) {
            return Verdict::Allowed;
        }
        let spec = access_review::spec(user, request);
        let Ok(question) = serde_json::to_vec(&spec) else {
            return Verdict::Unknown(Arc::new(ReviewError::Failed(
                "the question can't be encoded".to_owned(),
            )));
        };
        let (allowed_ttl, denied_ttl) = (self.allowed_ttl, self.denied_ttl);
        let short = access_review::controlled_length(request) < LONGEST_REMEMBERED;
        let keep = move |answer: &Answer<Decision>| match answer {
            Ok(decision) if short => Some(if decision.allowed { allowed_ttl } else { denied_ttl }),
            _ => None,
        };
        let ask = || {
            let asked = self.reviewer.review(spec);
            async move { asked.await.map_err(Arc::new) }
        };
        match self.cache.get(self.hasher.key(&question), ask, keep).await {
            Ok(Ok(decision)) if decision.allowed => Verdict::Allowed,
            Ok(Ok(decision)) => Verdict::Forbidden(decision.reason),
            Ok(Err(error)) => Verdict::Unknown(error),
            Err(Unanswered::TooMany) => Verdict::TooMany,
            Err(error @ Unanswered::BrokeOff) => {
                Verdict::Unknown(Arc::new(ReviewError::Failed(error.to_string())))
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

    /// Counts questions; allows jane, fails for john.
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
    async fn decisions_are_remembered_and_failures_never_allow() {
        let counting = Counting::default();
        let asked = counting.0.clone();
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
            assert!(matches!(authorizer.authorize(&user("john", &[]), &nodes).await, Verdict::Unknown(_)));
            assert!(matches!(
                authorizer.authorize(&user("jack", &["system:masters"]), &nodes).await,
                Verdict::Allowed
            ));
            assert!(matches!(authorizer.authorize(&user("jack", &[]), &livez).await, Verdict::Allowed));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1 + 1 + 2);
        let long = RequestInfo { name: "x".repeat(10_000), ..nodes };
        for _ in 0..2 {
            authorizer.authorize(&user("jane", &[]), &long).await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), 6, "long questions are not remembered");
    }
}
