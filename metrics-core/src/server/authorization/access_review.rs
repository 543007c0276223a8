//! The SubjectAccessReview.

use futures::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;

use crate::server::authentication::UserInfo;
use crate::server::request_info::RequestInfo;
use crate::server::reviews::{self, ReviewError};

/// The decision of kube-apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The reason, or an empty string.
    pub reason: String,
}

/// Decides SubjectAccessReviews.
pub trait AccessReviewer: Send + Sync + 'static {
    /// Returns the decision on a review.
    fn review(&self, spec: SubjectAccessReviewSpec) -> BoxFuture<'static, Result<Decision, ReviewError>>;
}

impl AccessReviewer for kube::Client {
    fn review(&self, spec: SubjectAccessReviewSpec) -> BoxFuture<'static, Result<Decision, ReviewError>> {
        let api = kube::Api::<SubjectAccessReview>::all(self.clone());
        Box::pin(async move {
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let review =
                reviews::post_with_retries(|| async { api.create(&PostParams::default(), &review).await })
                    .await?;
            let status = review.status.unwrap_or_default();
            if status.allowed && status.denied == Some(true) {
                return Err(ReviewError::Failed(
                    "the SubjectAccessReview is both allowed and denied".to_owned(),
                ));
            }
            Ok(Decision { allowed: status.allowed, reason: status.reason.unwrap_or_default() })
        })
    }
}

/// Returns the spec of the review for a request.
pub(super) fn spec(user: &UserInfo, request: &RequestInfo) -> SubjectAccessReviewSpec {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (resource_attributes, non_resource_attributes) = if request.is_resource_request {
        let attributes = ResourceAttributes {
            namespace: some(&request.namespace),
            verb: some(request.verb),
            group: some(&request.api_group),
            version: some(&request.api_version),
            resource: some(&request.resource),
            subresource: some(&request.subresource),
            name: some(&request.name),
            ..ResourceAttributes::default()
        };
        (Some(attributes), None)
    } else {
        (None, Some(NonResourceAttributes { path: some(&request.path), verb: some(request.verb) }))
    };
    SubjectAccessReviewSpec {
        user: some(&user.name),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()).filter(|groups| !groups.is_empty()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        resource_attributes,
        non_resource_attributes,
    }
}

/// Returns the length in bytes of the parts that the client chooses.
pub(super) fn controlled_length(request: &RequestInfo) -> usize {
    [
        request.path.len(),
        request.api_group.len(),
        request.api_version.len(),
        request.resource.len(),
        request.subresource.len(),
        request.namespace.len(),
        request.name.len(),
    ]
    .iter()
    .sum()
}
