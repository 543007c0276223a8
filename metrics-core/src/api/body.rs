//! The body of a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::list::{List, Step};
use super::now_ns;
use super::watch::{self, Watch};

/// A response body: nothing, bytes that are there, a list that is encoded as it is read, or a watch.
pub struct Body(State);

enum State {
    End,
    Whole(Bytes),
    List { first: Vec<Bytes>, list: Box<List> },
    Watch { watch: Box<Watch>, pause: Option<Pin<Box<Sleep>>> },
}

/// So many steps of a list are taken, or so many bytes encoded, before the response begins: short answers
/// are then whole, and carry their length.
const EAGER_STEPS: usize = 6;
const EAGER_BYTES: usize = 64 * 1024;

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(State::End)
    }

    /// These bytes.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(State::Whole(bytes)) }
    }

    /// A list; short ones are encoded at once.
    pub(super) fn list(mut list: List) -> Self {
        let mut first: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for _ in 0..EAGER_STEPS {
            match list.step() {
                Step::Chunk(chunk) => {
                    bytes += chunk.len();
                    first.push(chunk);
                    if bytes > EAGER_BYTES {
                        break;
                    }
                }
                Step::Again => {}
                Step::End => {
                    return match first.as_slice() {
                        [one] => Self::whole(one.clone()),
                        chunks => Self::whole(chunks.concat()),
                    };
                }
            }
        }
        // Taken from the back.
        first.reverse();
        Self(State::List { first, list: Box::new(list) })
    }
}

impl Body {
    /// The events of a watch. To be polled within a Tokio runtime.
    pub(super) fn watch(watch: Watch) -> Self {
        Self(State::Watch { watch: Box::new(watch), pause: None })
    }

    /// The watch, for tests.
    #[cfg(test)]
    pub(super) fn as_watch(&mut self) -> Option<&mut Watch> {
        match &mut self.0 {
            State::Watch { watch, .. } => Some(watch),
            _ => None,
        }
    }

    /// Goes on with a watch, once its pause is over.
    fn poll_watch(
        watch: &mut Watch,
        pause: &mut Option<Pin<Box<Sleep>>>,
        context: &mut Context<'_>,
    ) -> Poll<Step> {
        loop {
            if let Some(sleep) = pause {
                ready!(sleep.as_mut().poll(context));
                *pause = None;
            }
            match watch.step(Instant::now(), now_ns()) {
                watch::Step::Chunk(bytes) => return Poll::Ready(Step::Chunk(bytes)),
                watch::Step::Again => return Poll::Ready(Step::Again),
                watch::Step::End => return Poll::Ready(Step::End),
                watch::Step::Wait(time) => *pause = Some(Box::pin(sleep(time))),
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let step = match &mut self.0 {
            State::End => Step::End,
            State::Whole(bytes) => Step::Chunk(std::mem::take(bytes)),
            State::List { first, list } => first.pop().map_or_else(|| list.step(), Step::Chunk),
            State::Watch { watch, pause } => ready!(Self::poll_watch(watch, pause, context)),
        };
        if matches!(self.0, State::Whole(_)) || step == Step::End {
            self.0 = State::End;
        }
        match step {
            Step::Chunk(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Step::Again => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Step::End => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::End)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::End => SizeHint::with_exact(0),
            State::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            State::List { .. } | State::Watch { .. } => SizeHint::default(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.0 {
            State::End => "End",
            State::Whole(_) => "Whole",
            State::List { .. } => "List",
            State::Watch { .. } => "Watch",
        };
        formatter.debug_tuple("Body").field(&state).finish_non_exhaustive()
    }
}
