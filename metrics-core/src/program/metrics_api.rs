//! The Metrics API as handler of the HTTPS server.

use crate::api::{self, Status};
use crate::server::listen::{ApiHandler, BoxedBody, Failure};
use crate::server::request_info::RequestInfo;
use http::request::Parts;
use http::{Method, Response, Uri};
use http_body_util::BodyExt;

/// The handler.
pub(super) struct MetricsApi(api::Api);

impl MetricsApi {
    pub(super) fn new(api: api::Api) -> Self {
        Self(api)
    }

    /// Ends all watches.
    pub(super) fn end_watches(&self) {
        self.0.end_watches();
    }
}

impl ApiHandler for MetricsApi {
    fn request_info(&self, method: &Method, uri: &Uri) -> RequestInfo {
        api::request_info(method, uri)
    }

    fn handle(&self, request: &Parts, info: &RequestInfo) -> Response<BoxedBody> {
        self.0.handle(request, info).map(BodyExt::boxed_unsync)
    }

    fn failure(&self, request: &Parts, failure: Failure<'_>) -> Response<BoxedBody> {
        let status = Status::new(failure.code, failure.reason, failure.message);
        let status = match failure.about {
            Some(info) => status.about(info),
            None => status,
        };
        api::status(request, &status).map(BodyExt::boxed_unsync)
    }
}
