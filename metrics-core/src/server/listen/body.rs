//! Response bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::open_requests::InFlight;

/// A response body, streamed or complete.
pub type BoxedBody = UnsyncBoxBody<Bytes, Infallible>;

/// Returns a plain-text response, as Go's `http.Error` does.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<BoxedBody> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A body that keeps its request open until it is sent or dropped.
pub(super) struct TrackedBody {
    pub(super) body: BoxedBody,
    pub(super) in_flight: Option<InFlight>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stall = self.in_flight.as_ref().and_then(|in_flight| in_flight.stall.clone());
        if let Some(stall) = &stall {
            stall.drained();
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Some(stall), Poll::Ready(Some(_))) = (&stall, &polled) {
            stall.filled();
        }
        if matches!(polled, Poll::Ready(None)) {
            self.in_flight = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
