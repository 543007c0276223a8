//! HTTP/2 frames that no HTTP library sends.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;

const END_STREAM_AND_HEADERS: u8 = 5;

/// A received frame.
pub(crate) struct ReceivedFrame {
    pub kind: u8,
    pub stream: u32,
}

/// An HTTP/2 connection.
pub(crate) struct RawConnection<S> {
    stream: S,
    received: Vec<u8>,
}

/// Returns a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a GET request as one frame.
pub(crate) fn get(stream: u32, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // HPACK: `:method: GET` and `:scheme: https` by index, the others as literals that are not indexed.
    let mut block = [&[0x82, 0x87, 0x04][..], &text(path), &[0x01], &text("x")].concat();
    for (name, value) in headers {
        block.extend([&[0][..], &text(name), &text(value)].concat());
    }
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
}

/// Returns the cancellation of a request.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawConnection<S> {
    /// Starts a connection whose client receives `window` bytes of each response until it reads them.
    pub(crate) async fn start(mut stream: S, window: u32) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
        stream.write_all(&frame(4, 0, 0, &settings)).await.unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) {
        let _ = self.stream.write_all(frames).await;
        let _ = self.stream.flush().await;
    }

    /// Returns the frames that arrive within `time`.
    pub(crate) async fn receive(&mut self, time: Duration) -> Vec<ReceivedFrame> {
        let stream = &mut self.stream;
        let received = &mut self.received;
        let _ = timeout(time, async { while stream.read_buf(received).await.is_ok_and(|read| read > 0) {} })
            .await;
        let mut frames = Vec::new();
        while let Some((head, _)) = self.received.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, stream) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            if self.received.len() < 9 + length {
                break;
            }
            self.received.drain(..9 + length);
            frames.push(ReceivedFrame { kind, stream });
        }
        frames
    }
}
