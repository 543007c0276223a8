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

/// The maximum length of a frame. A response is open, with its limits and timeouts, until hyper takes its last frame.
const FRAME: usize = 32 << 10;

/// A response body, streamed or complete.
pub type BoxedBody = UnsyncBoxBody<Bytes, Infallible>;

/// Marks the response to a watch, as an extension: it lasts until its client or the server ends it, so that the
/// timeout and the limit of requests in flight do not apply. Whoever returns it must limit the number of watches.
#[derive(Clone, Copy, Debug)]
pub struct LongRunning;

/// Marks a request of a client that is not a front proxy, as an extension. The API leaves a part of the memory of responses
/// to front proxies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectClient {
    /// The part to leave is one in this many.
    pub(crate) spared_part: usize,
}

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
    body: BoxedBody,
    /// What remains of a frame that was too long.
    rest: Bytes,
    in_flight: Option<InFlight>,
}

impl TrackedBody {
    pub(super) fn new(body: BoxedBody, in_flight: InFlight) -> Self {
        Self { body, rest: Bytes::new(), in_flight: Some(in_flight) }
    }

    fn next_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let data = self.rest.split_to(self.rest.len().min(FRAME));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let timer = self.in_flight.as_ref().map(|in_flight| in_flight.timer.clone());
        if let Some(timer) = &timer {
            timer.drained();
        }
        let polled = self.next_frame(context);
        match (&polled, timer) {
            (Poll::Ready(None), _) => self.in_flight = None,
            (Poll::Ready(Some(_)), Some(timer)) => timer.filled(),
            (Poll::Pending, Some(timer)) => timer.idle(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
