//! The body of a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::gzip::{self, GzipEncoder};
use super::list::ListStream;
use super::now_ns;
use super::step::Step;
use super::watch::WatchStream;
use crate::memory::{Holder, Lease};

/// A response body: empty, complete, a list that is encoded while the client reads it, or a watch.
///
/// A long list ends once its parts have been dropped. Who collects them must copy them.
pub struct ResponseBody(Content);

enum Content {
    Empty,
    Complete(Bytes),
    /// A short list.
    Short {
        bytes: Bytes,
        memory: Arc<Lease>,
    },
    List {
        first_chunks: Vec<Bytes>,
        list: Box<ListStream>,
        gzip: Option<Box<GzipEncoder>>,
        pause: Pause,
    },
    Watch {
        watch: Box<WatchStream>,
        pause: Pause,
        memory: Arc<Lease>,
    },
    /// All of a list or watch that is not sent yet has been passed on.
    Sending(Arc<Lease>),
}

/// The time before the next step.
type Pause = Option<Pin<Box<Sleep>>>;

/// The maximum number of list steps, and of bytes, that are encoded before the response starts. Shorter lists are sent
/// complete, with a Content-Length.
const EAGER_STEPS: usize = 6;
const EAGER_BYTES: usize = 64 * 1024;
/// The same for lists that are compressed if they are long enough. Protobuf needs this many steps for that length.
const EAGER_GZIP_STEPS: usize = 8;

impl ResponseBody {
    /// Returns a body without bytes.
    #[must_use]
    pub(crate) fn empty() -> Self {
        Self(Content::Empty)
    }

    /// Returns a body of these bytes.
    #[must_use]
    pub(crate) fn complete(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Content::Complete(bytes)) }
    }

    /// Returns the body of a list. Encodes short lists at once. A list that is not short is compressed if `gzip` is set.
    pub(super) fn list(mut list: ListStream, gzip: Option<GzipEncoder>) -> Self {
        let mut first_chunks: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let (eager_steps, eager_bytes) =
            if gzip.is_some() { (EAGER_GZIP_STEPS, gzip::MIN_LENGTH) } else { (EAGER_STEPS, EAGER_BYTES) };
        for _ in 0..eager_steps {
            match list.step() {
                Step::Chunk(chunk) => {
                    bytes += chunk.len();
                    first_chunks.push(chunk);
                    if bytes >= eager_bytes {
                        break;
                    }
                }
                Step::Yield | Step::Wait(_) => {}
                Step::End => {
                    let bytes = match first_chunks.as_slice() {
                        [one] => one.clone(),
                        chunks => chunks.concat().into(),
                    };
                    let memory = list.memory().lease().clone();
                    memory.shrink_to(bytes.len());
                    return Self(Content::Short { bytes, memory });
                }
            }
        }
        // They are popped from the back.
        first_chunks.reverse();
        Self(Content::List { first_chunks, list: Box::new(list), gzip: gzip.map(Box::new), pause: None })
    }

    /// Returns whether the body is a list that is encoded while the client reads it.
    pub(super) fn is_long(&self) -> bool {
        matches!(self.0, Content::List { .. })
    }

    /// Returns whether the body is compressed.
    pub(super) fn is_gzip(&self) -> bool {
        matches!(self.0, Content::List { gzip: Some(_), .. })
    }

    /// Returns the body of a watch. It must be polled within a Tokio runtime.
    pub(super) fn watch(watch: WatchStream, memory: Lease) -> Self {
        Self(Content::Watch { watch: Box::new(watch), pause: None, memory: Arc::new(memory) })
    }

    /// Returns the holder of the memory of a list or watch.
    pub(super) fn holder(&self) -> Option<Holder> {
        self.lease().map(|lease| lease.holder())
    }

    fn lease(&self) -> Option<&Arc<Lease>> {
        match &self.0 {
            Content::List { list, .. } => Some(list.memory().lease()),
            Content::Short { memory, .. } | Content::Watch { memory, .. } | Content::Sending(memory) => {
                Some(memory)
            }
            Content::Empty | Content::Complete(_) => None,
        }
    }

    /// Returns the watch, for tests.
    #[cfg(test)]
    pub(super) fn as_watch(&mut self) -> Option<&mut WatchStream> {
        match &mut self.0 {
            Content::Watch { watch, .. } => Some(watch),
            _ => None,
        }
    }

    /// Takes the next step, after the pause if there is one.
    fn poll_step(pause: &mut Pause, context: &mut Context<'_>, mut step: impl FnMut() -> Step) -> Poll<Step> {
        loop {
            if let Some(sleep) = pause {
                ready!(sleep.as_mut().poll(context));
                *pause = None;
            }
            match step() {
                Step::Wait(time) => *pause = Some(Box::pin(sleep(time))),
                step => return Poll::Ready(step),
            }
        }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let lease = self.lease().cloned();
        if let (Some(lease), false) = (&lease, matches!(self.0, Content::Sending(_))) {
            lease.progressed();
        }
        let step = match &mut self.0 {
            Content::Empty | Content::Sending(_) => Step::End,
            Content::Complete(bytes) | Content::Short { bytes, .. } => Step::Chunk(std::mem::take(bytes)),
            Content::List { first_chunks, list, gzip, pause } => {
                let next = || first_chunks.pop().map_or_else(|| list.step(), Step::Chunk);
                match (ready!(Self::poll_step(pause, context, next)), gzip) {
                    (Step::Chunk(chunk), Some(gzip)) => Step::Chunk(gzip.chunk(&chunk)),
                    (Step::End, gzip) => match gzip.take() {
                        Some(gzip) => Step::Chunk(gzip.finish()),
                        None => Step::End,
                    },
                    (step, _) => step,
                }
            }
            Content::Watch { watch, pause, .. } => {
                ready!(Self::poll_step(pause, context, || watch.step(Instant::now(), now_ns())))
            }
        };
        // A long response ends when all of it is sent. Until then its stream has a task that can reset it.
        if step == Step::End
            && let Some(lease) = &lease
            && lease.poll_sent(context).is_pending()
        {
            self.0 = Content::Sending(lease.clone());
            return Poll::Pending;
        }
        if matches!(self.0, Content::Complete(_) | Content::Short { .. }) || step == Step::End {
            self.0 = Content::Empty;
        }
        match step {
            Step::Chunk(bytes) => {
                // The memory of the response is in use until HTTP and TLS have sent all of it.
                let bytes = match lease {
                    Some(lease) => lease.part(bytes),
                    None => bytes,
                };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Step::Yield | Step::Wait(_) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Step::End => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Empty => SizeHint::with_exact(0),
            Content::Complete(bytes) | Content::Short { bytes, .. } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::List { .. } | Content::Watch { .. } | Content::Sending(_) => SizeHint::default(),
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let content = match &self.0 {
            Content::Empty => "Empty",
            Content::Complete(_) => "Complete",
            Content::Short { .. } => "Short",
            Content::List { .. } => "List",
            Content::Watch { .. } => "Watch",
            Content::Sending(_) => "Sending",
        };
        formatter.debug_tuple("ResponseBody").field(&content).finish_non_exhaustive()
    }
}
