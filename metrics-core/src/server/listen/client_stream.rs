//! The byte streams of a connection, below and above TLS, with what they hold against clients that send or read
//! nothing, or too much.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::ConnectionMetrics;
use super::metrics::CloseCause;
use super::open_requests::OpenRequests;
use super::places::Place;
use super::response_timer::LastWrite;

/// The difference from which on the memory of a connection is reserved or released.
const STEP: usize = 4 << 10;
/// The memory that a buffered byte takes: buffers grow by doubling, and some of what they hold is copied once.
const BYTES_PER_BYTE: usize = 2;

/// Reserves the memory of a connection: that of its phase, and that of what it received and could not use yet, a part
/// of a TLS record or of the headers of a request.
pub(super) struct Meter {
    place: Arc<Place>,
    last_write: Arc<LastWrite>,
    state: Mutex<MeterState>,
}

#[derive(Default)]
struct MeterState {
    phase: usize,
    /// The bytes received since TLS last delivered some.
    record: usize,
    /// The bytes that TLS delivered since the last request started.
    head: usize,
    reserved: usize,
}

impl Meter {
    pub(super) fn new(place: Arc<Place>) -> Arc<Self> {
        Arc::new(Self { place, last_write: Arc::default(), state: Mutex::default() })
    }

    /// Returns the record of the last write.
    pub(super) fn last_write(&self) -> Arc<LastWrite> {
        self.last_write.clone()
    }

    /// Enters a phase that takes `bytes`. Returns false if the connection must be closed.
    #[must_use]
    pub(super) fn enter(&self, bytes: usize) -> bool {
        self.change(|state| *state = MeterState { phase: bytes, reserved: usize::MAX, ..*state })
    }

    fn received(&self, bytes: usize) -> io::Result<()> {
        self.try_change(|state| state.record += bytes)
    }

    /// Records that TLS delivered `bytes`, of which at most `max` are buffered.
    fn delivered(&self, bytes: usize, max: usize, request_started: bool) -> io::Result<()> {
        self.try_change(|state| {
            state.record = 0;
            state.head = (if request_started { 0 } else { state.head } + bytes).min(max);
        })
    }

    fn try_change(&self, change: impl FnOnce(&mut MeterState)) -> io::Result<()> {
        let closed = || io::Error::new(ErrorKind::OutOfMemory, "connections have no memory left");
        if self.change(change) { Ok(()) } else { Err(closed()) }
    }

    fn change(&self, change: impl FnOnce(&mut MeterState)) -> bool {
        let mut state = self.state.lock();
        change(&mut state);
        let bytes = state.phase + BYTES_PER_BYTE * (state.record + state.head);
        if bytes.abs_diff(state.reserved) < STEP {
            return true;
        }
        state.reserved = bytes;
        self.place.resize(bytes)
    }
}

/// The stream below TLS.
///
/// Limits what a client can send before the handshake is complete, and fails if a write makes no progress for the
/// timeout: HTTP/2 pings and timers of requests do not see data that hyper has already taken.
pub(super) struct ClientStream<S> {
    stream: S,
    first: Option<u8>,
    /// The number of bytes that the client may still send before the handshake is complete.
    handshake: Option<usize>,
    meter: Arc<Meter>,
    write_timeout: Duration,
    blocked: Option<Pin<Box<Sleep>>>,
    is_blocked: bool,
    metrics: ConnectionMetrics,
}

/// The client sent more than the limit before the handshake was complete.
#[derive(Debug, thiserror::Error)]
#[error("the client sent more than {MAX_HANDSHAKE_BYTES} bytes before the handshake was complete")]
pub(super) struct HandshakeTooLarge;

/// The maximum number of bytes that a client may send before the handshake is complete: a hello with post-quantum key
/// shares (2 KiB) and a certificate chain of the maximum size.
pub(super) const MAX_HANDSHAKE_BYTES: usize = 24 << 10;

impl<S> ClientStream<S> {
    /// Wraps `stream`, of which `first` has been read.
    pub(super) fn new(
        stream: S,
        first: u8,
        meter: Arc<Meter>,
        write_timeout: Duration,
        metrics: ConnectionMetrics,
    ) -> Self {
        Self {
            stream,
            first: Some(first),
            handshake: Some(MAX_HANDSHAKE_BYTES),
            meter,
            write_timeout,
            blocked: None,
            is_blocked: false,
            metrics,
        }
    }

    /// Ends the limit of the handshake.
    pub(super) fn handshake_done(&mut self) {
        self.handshake = None;
    }

    /// Fails if writes have been blocked for the timeout, and wakes the task when that is so.
    fn check_blocked<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.is_blocked = false;
            *self.meter.last_write.lock() = Some(Instant::now());
            return result;
        }
        let timeout = self.write_timeout;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_blocked {
            self.is_blocked = true;
            blocked.as_mut().reset(Instant::now() + timeout);
        }
        if blocked.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.is_blocked = false;
        self.metrics.closed(CloseCause::SlowClient);
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = poll_read(&mut this.stream, &mut this.first, context, buffer);
        if let Poll::Ready(Ok(count)) = &read {
            if let Some(remaining) = &mut this.handshake {
                *remaining = remaining
                    .checked_sub(*count)
                    .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, HandshakeTooLarge))?;
            }
            this.meter.received(*count)?;
        }
        read.map_ok(drop)
    }
}

/// Reads `first` if it is still there, else from `stream`. Returns the number of bytes.
fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    first: &mut Option<u8>,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<usize>> {
    let before = buffer.filled().len();
    if buffer.remaining() > 0
        && let Some(first) = first.take()
    {
        buffer.put_slice(&[first]);
        return Poll::Ready(Ok(1));
    }
    Pin::new(stream).poll_read(context, buffer).map_ok(|()| buffer.filled().len() - before)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_blocked(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check_blocked(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The stream above TLS. Reserves memory for what is received outside of requests: unfinished headers.
pub(super) struct HttpStream<S> {
    stream: S,
    first: Option<u8>,
    meter: Arc<Meter>,
    open_requests: Arc<OpenRequests>,
    /// The maximum number of bytes that hyper buffers.
    max_buffered: usize,
}

impl<S> HttpStream<S> {
    /// Wraps `stream`, of which `first` has been read.
    pub(super) fn new(
        stream: S,
        first: u8,
        meter: Arc<Meter>,
        open_requests: Arc<OpenRequests>,
        max_buffered: usize,
    ) -> Self {
        Self { stream, first: Some(first), meter, open_requests, max_buffered }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = poll_read(&mut this.stream, &mut this.first, context, buffer);
        if let Poll::Ready(Ok(count)) = read {
            let request_started = this.open_requests.take_started();
            this.meter.delivered(count, this.max_buffered, request_started)?;
        }
        read.map_ok(drop)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
