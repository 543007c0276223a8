//! Parses HTTP/1.1 responses (RFC 9112) as far as one GET to a kubelet needs. Pure and total: it does no I/O and
//! never panics.

use crate::ingest::decode::ExpositionFormat;

/// The maximum size of the header section.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The maximum number of headers.
const MAX_HEADERS: usize = 64;
/// The maximum size of a chunk header, and of the trailer section.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 8 * 1024;

/// The status line and the headers in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) framing: BodyFraming,
    pub(super) gzip: bool,
    pub(super) format: ExpositionFormat,
    pub(super) keep_alive: bool,
}

/// How the end of the body is determined (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What is wrong with a response.
pub(super) type MalformedResponse = &'static str;

/// Parses the header section. Returns it and its length, or `None` while it is incomplete.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, MalformedResponse> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => {
            return Err("the HTTP header section is too long");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("not an HTTP response"),
    };
    let status = response.code.unwrap_or_default();
    if status < 200 {
        return Err("an unexpected informational (1xx) HTTP response");
    }
    let mut head = ResponseHead {
        status,
        framing: BodyFraming::UntilClose,
        gzip: false,
        format: ExpositionFormat::Text,
        keep_alive: response.version == Some(1),
    };
    let (mut content_length, mut chunked) = (None, false);
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = parse_length(value).ok_or("the Content-Length is not a number")?;
            if content_length.replace(length).is_some_and(|other| other != length) {
                return Err("conflicting Content-Length headers");
            }
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("an unsupported Transfer-Encoding");
            }
            chunked = true;
        } else if is("content-encoding") {
            head.gzip = match value {
                value if value.eq_ignore_ascii_case(b"gzip") => true,
                value if value.is_empty() || value.eq_ignore_ascii_case(b"identity") => head.gzip,
                _ => return Err("an unsupported Content-Encoding"),
            };
        } else if is("content-type") {
            let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            if media.eq_ignore_ascii_case(b"application/openmetrics-text") {
                head.format = ExpositionFormat::OpenMetrics;
            }
        } else if is("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                }
            }
        }
    }
    head.framing = match (content_length, chunked) {
        // A message with both may be an attempt at request smuggling.
        (Some(_), true) => return Err("both a Content-Length and a Transfer-Encoding"),
        _ if matches!(status, 204 | 304) => BodyFraming::Length(0),
        (Some(length), false) => BodyFraming::Length(length),
        (None, true) => BodyFraming::Chunked,
        (None, false) => BodyFraming::UntilClose,
    };
    head.keep_alive &= head.framing != BodyFraming::UntilClose;
    Ok(Some((head, length)))
}

fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Decodes a chunked body in place.
#[derive(Debug, Default)]
pub(super) struct ChunkDecoder {
    /// The position of the next raw byte.
    read: usize,
    /// The end of the decoded body.
    write: usize,
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, Default)]
enum ChunkState {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailers(usize),
    Done,
}

impl ChunkDecoder {
    /// Returns a decoder for chunks that start at `at`; the decoded body starts there, too.
    pub(super) fn new(at: usize) -> Self {
        Self { read: at, write: at, state: ChunkState::Size }
    }

    /// Continues with what was appended to `buffer`. Once the body is complete, `buffer` ends with it, and the
    /// number of bytes that followed is returned.
    pub(super) fn advance(&mut self, buffer: &mut Vec<u8>) -> Result<Option<usize>, MalformedResponse> {
        loop {
            let raw = buffer.get(self.read..).unwrap_or_default();
            match self.state {
                ChunkState::Size => {
                    let Some((line, length)) = split_line(raw, MAX_CHUNK_LINE)? else { return Ok(None) };
                    let size = parse_chunk_size(line).ok_or("a chunk size is not a number")?;
                    self.read += length;
                    self.state = if size == 0 { ChunkState::Trailers(0) } else { ChunkState::Data(size) };
                }
                ChunkState::Data(left) => {
                    let here = left.min(raw.len());
                    buffer.copy_within(self.read..self.read + here, self.write);
                    self.read += here;
                    self.write += here;
                    self.state =
                        if here == left { ChunkState::DataEnd } else { ChunkState::Data(left - here) };
                    if here < left {
                        return Ok(None);
                    }
                }
                ChunkState::DataEnd => match raw {
                    [b'\r', b'\n', ..] => {
                        self.read += 2;
                        self.state = ChunkState::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err("a chunk is longer than its size"),
                },
                ChunkState::Trailers(seen) => {
                    let Some((line, length)) = split_line(raw, MAX_TRAILERS - seen)? else { return Ok(None) };
                    self.read += length;
                    self.state =
                        if line.is_empty() { ChunkState::Done } else { ChunkState::Trailers(seen + length) };
                }
                ChunkState::Done => {
                    let more = buffer.len().saturating_sub(self.read);
                    buffer.truncate(self.write);
                    return Ok(Some(more));
                }
            }
        }
    }
}

/// Returns the line that ends with CR LF, without these, and its length including them.
fn split_line(raw: &[u8], longest: usize) -> Result<Option<(&[u8], usize)>, MalformedResponse> {
    match memchr::memchr(b'\n', raw) {
        Some(at) if at < longest && at > 0 && raw[at - 1] == b'\r' => Ok(Some((&raw[..at - 1], at + 1))),
        None if raw.len() < longest => Ok(None),
        _ => Err("a malformed chunk header or trailer"),
    }
}

fn parse_chunk_size(line: &[u8]) -> Option<usize> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let hex = (1..=8).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    hex.then(|| usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BodyFraming, ChunkDecoder, MAX_HEAD, parse_head};
    use crate::ingest::decode::ExpositionFormat;

    fn parse(text: &str) -> Result<Option<super::ResponseHead>, super::MalformedResponse> {
        parse_head(text.as_bytes()).map(|found| found.map(|(head, _)| head))
    }

    #[test]
    fn parses_a_kubelets_response() {
        let text = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/plain; version=0.0.4; \
                    charset=utf-8; escaping=underscores\r\nDate: Sun, 03 Oct 2021 09:36:52 GMT\r\n\
                    Transfer-Encoding: chunked\r\n\r\nrest";
        let (found, length) = parse_head(text.as_bytes()).unwrap().unwrap();
        assert_eq!(&text[length..], "rest");
        assert_eq!((found.status, found.framing, found.gzip), (200, BodyFraming::Chunked, true));
        assert_eq!((found.format, found.keep_alive), (ExpositionFormat::Text, true));
        let found = parse(
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: keep-alive, Close\r\n\
             Content-Type: application/openmetrics-text; version=1.0.0\r\n\r\n",
        );
        let found = found.unwrap().unwrap();
        assert_eq!((found.status, found.framing, found.gzip), (403, BodyFraming::Length(12), false));
        assert_eq!((found.format, found.keep_alive), (ExpositionFormat::OpenMetrics, false));
        let found = parse("HTTP/1.0 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!((found.framing, found.keep_alive), (BodyFraming::UntilClose, false));
    }

    #[test]
    fn rejects_ambiguous_responses() {
        for headers in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Encoding: br\r\n",
        ] {
            assert!(parse(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).is_err(), "{headers}");
        }
        assert!(parse("HTTP/1.1 100 Continue\r\n\r\n").is_err());
        assert!(parse("SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD))).is_err());
        assert_eq!(parse("HTTP/1.1 200 OK\r\nX: "), Ok(None));
    }

    fn chunked(body: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut raw = Vec::new();
        let mut rest = body;
        for cut in cuts {
            let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
            if !chunk.is_empty() {
                raw.extend(format!("{:X};ext=1\r\n", chunk.len()).bytes());
                raw.extend(chunk);
                raw.extend(b"\r\n");
            }
            rest = behind;
        }
        if !rest.is_empty() {
            raw.extend(format!("{:x}\r\n", rest.len()).bytes());
            raw.extend(rest);
            raw.extend(b"\r\n");
        }
        raw.extend(b"0\r\nTrailer: x\r\n\r\n");
        raw
    }

    proptest! {
        #[test]
        fn decodes_chunks_however_they_arrive(
            body in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(1usize..50, 0..8),
            pieces in prop::collection::vec(1usize..40, 1..60),
            extra in 0usize..3,
        ) {
            let mut raw = chunked(&body, &cuts);
            raw.extend(std::iter::repeat_n(b'!', extra));
            let mut buffer = b"head".to_vec();
            let mut chunks = ChunkDecoder::new(4);
            let mut left = &raw[..];
            let mut pieces = pieces.iter().cycle();
            let more = loop {
                if let Some(more) = chunks.advance(&mut buffer).unwrap() {
                    break more;
                }
                let piece = (*pieces.next().unwrap()).min(left.len());
                prop_assert!(piece > 0);
                buffer.extend(&left[..piece]);
                left = &left[piece..];
            };
            prop_assert_eq!(&buffer[4..], &body[..]);
            prop_assert_eq!(more + left.len(), extra);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..4) {
            let _ = parse_head(&bytes);
            let mut buffer = bytes.clone();
            let _ = ChunkDecoder::new(at.min(bytes.len())).advance(&mut buffer);
            let mut buffer = [b"5\r\nhello\r\n", &bytes[..]].concat();
            let _ = ChunkDecoder::new(0).advance(&mut buffer);
            let _ = parse_head(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat());
        }
    }

    #[test]
    fn rejects_malformed_chunks() {
        for raw in ["x\r\n", "\r\n", "5\nhello", "2\r\nhello\r\n", "fffffffff\r\n", &"1".repeat(300)] {
            assert!(ChunkDecoder::new(0).advance(&mut raw.into()).is_err(), "{raw}");
        }
    }
}
