use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo as ReviewedUser};
use parking_lot::Mutex;

use super::{
    AUDIENCE, Audience, AuthenticationError, CachedReviews, ReviewError, TokenReviewer, TokenStatus,
};
use crds::cause::CredentialCause;
use crds::report::PATH;

use crate::server::authentication::UserInfo;
use crate::server::reviews::cache::Hasher;

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";

/// Records reviews. `good` is a token for kube-apiserver, `bound` one for the report, `both` one for both.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<(String, Audience)>>>);

impl Recording {
    fn reviews(&self) -> CachedReviews {
        CachedReviews::new(Arc::new(self.clone()), Hasher::new().unwrap(), Duration::from_secs(60))
    }

    fn posted(&self) -> Vec<(String, Audience)> {
        std::mem::take(&mut self.0.lock())
    }
}

impl TokenReviewer for Recording {
    fn review(
        &self,
        token: String,
        audience: Audience,
    ) -> BoxFuture<'static, Result<TokenStatus, ReviewError>> {
        self.0.lock().push((token.clone(), audience));
        Box::pin(async move {
            let user = |name: &str| TokenStatus::User(UserInfo { name: name.into(), ..UserInfo::default() });
            match (token.as_str(), audience) {
                ("good" | "both", Audience::ApiServer) => Ok(user("jane")),
                ("bound" | "both", Audience::Report) => Ok(user("operator")),
                ("down", _) | ("half", Audience::Report) => Err(ReviewError::Failed("no route".into())),
                ("half", Audience::ApiServer) => Ok(user("joe")),
                _ => Ok(TokenStatus::Rejected(None)),
            }
        })
    }
}

fn refused(result: Result<UserInfo, AuthenticationError>) -> CredentialCause {
    match result {
        Err(AuthenticationError::Unauthorized(refusals)) => {
            assert_eq!(refusals.len(), 1, "one token is refused once: {refusals:?}");
            refusals[0].reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn caches_results_and_not_failures() {
    let recording = Recording::default();
    let reviews = recording.reviews();
    for _ in 0..3 {
        assert_eq!(reviews.authenticate("good", NODES).await.unwrap().name, "jane");
        assert_eq!(refused(reviews.authenticate("bad", NODES).await), CredentialCause::TokenRejected);
        assert_eq!(refused(reviews.authenticate("down", NODES).await), CredentialCause::TokenReviewFailed);
    }
    assert_eq!(recording.posted().len(), 1 + 1 + 3);
}

#[tokio::test]
async fn accepts_a_token_of_the_report_audience_for_the_report_only() {
    let recording = Recording::default();
    let reviews = recording.reviews();
    // In both orders: the cached result of one path must not decide for another.
    for path in [NODES, PATH, NODES, "/metrics", "/report/", "/%72eport", "/reports", "/"] {
        let result = reviews.authenticate("bound", path).await;
        if path == PATH {
            assert_eq!(result.unwrap().name, "operator");
        } else {
            assert_eq!(refused(result), CredentialCause::TokenRejected, "{path}");
        }
    }
    let posted = recording.posted();
    assert_eq!(posted, [("bound".into(), Audience::ApiServer), ("bound".into(), Audience::Report)]);
}

#[tokio::test]
async fn accepts_tokens_of_other_clients_for_the_report_as_well() {
    let recording = Recording::default();
    let reviews = recording.reviews();
    assert_eq!(reviews.authenticate("good", PATH).await.unwrap().name, "jane");
    assert_eq!(refused(reviews.authenticate("bad", PATH).await), CredentialCause::TokenRejected);
    assert_eq!(refused(reviews.authenticate("down", PATH).await), CredentialCause::TokenReviewFailed);
    assert_eq!(reviews.authenticate("half", PATH).await.unwrap().name, "joe");
    assert_eq!(reviews.authenticate("both", PATH).await.unwrap().name, "operator");
    assert_eq!(reviews.authenticate("both", NODES).await.unwrap().name, "jane");
    // The operator's token needs one review: its audience comes first.
    recording.posted();
    reviews.authenticate("bound", PATH).await.unwrap();
    assert_eq!(recording.posted(), [("bound".into(), Audience::Report)]);
}

#[test]
fn a_review_without_the_requested_audience_is_a_rejection() {
    let status = |authenticated: Option<bool>, audiences: Option<&[&str]>| TokenReviewStatus {
        authenticated,
        audiences: audiences.map(|list| list.iter().map(|one| (*one).to_owned()).collect()),
        user: Some(ReviewedUser { username: Some("jane".into()), ..ReviewedUser::default() }),
        ..TokenReviewStatus::default()
    };
    let accepts = |audience: Audience, authenticated: Option<bool>, audiences: Option<&[&str]>| matches!(super::judge(status(authenticated, audiences), audience), TokenStatus::User(user) if user.name == "jane");
    let api = ["https://kubernetes.default.svc"];
    assert!(accepts(Audience::Report, Some(true), Some(&[AUDIENCE])));
    assert!(accepts(Audience::Report, Some(true), Some(&[api[0], AUDIENCE])));
    for audiences in [None, Some(&[] as &[&str]), Some(&api), Some(&["metrics-core"])] {
        assert!(!accepts(Audience::Report, Some(true), audiences), "{audiences:?}");
        assert!(accepts(Audience::ApiServer, Some(true), audiences), "{audiences:?}");
    }
    for authenticated in [None, Some(false)] {
        assert!(!accepts(Audience::Report, authenticated, Some(&[AUDIENCE])));
        assert!(!accepts(Audience::ApiServer, authenticated, Some(&api)));
    }
    assert_eq!((Audience::Report.requested(), Audience::ApiServer.requested()), (Some(AUDIENCE), None));
}
