//! Responses of a kubelet that somebody else controls: too long, too slow, or not what their headers say.

use std::io::{self, Write as _};
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::testbed::fake_kubelet::{KubeletConnection, gzip};

/// The size of the bodies that are too long.
const LARGE: usize = 32 << 20;
/// The time between two bytes of a slow body.
const DRIP: Duration = Duration::from_millis(200);
/// The size of a write.
const PIECE: usize = 64 << 10;

/// How a response attacks the client.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostileResponse {
    /// 32 MiB of series.
    LargeBody,
    /// A small gzip body of 32 MiB of series.
    CompressedBody,
    /// Nothing at all.
    Silence,
    /// The headers and nothing else.
    HeadersOnly,
    /// Half of a body, then a TCP reset.
    Reset,
    /// Fewer bytes than Content-Length, then the end of the connection.
    ShortOfLength,
    /// More bytes than Content-Length.
    BeyondLength,
    /// A Content-Length of 2⁶³.
    HugeLength,
    /// Chunks without end.
    EndlessChunks,
    /// Headers without end.
    EndlessHeaders,
    /// One byte at a time.
    SlowBody,
}

impl HostileResponse {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LargeBody,
        Self::CompressedBody,
        Self::Silence,
        Self::HeadersOnly,
        Self::Reset,
        Self::ShortOfLength,
        Self::BeyondLength,
        Self::HugeLength,
        Self::EndlessChunks,
        Self::EndlessHeaders,
        Self::SlowBody,
    ];

    /// Sends the response; returns when the connection is closed.
    pub(super) async fn send(self, mut connection: KubeletConnection) -> io::Result<()> {
        match self {
            Self::LargeBody => {
                connection.write(&head("Transfer-Encoding: chunked")).await?;
                for piece in SERIES.chunks(PIECE) {
                    connection.write(&chunk(piece)).await?;
                }
                connection.write(b"0\r\n\r\n").await?;
            }
            Self::CompressedBody => {
                let length = format!("Content-Encoding: gzip\r\nContent-Length: {}", COMPRESSED.len());
                connection.write(&head(&length)).await?;
                connection.write(&COMPRESSED).await?;
            }
            Self::Silence => {}
            Self::HeadersOnly => connection.write(&head("Content-Length: 20000")).await?,
            Self::Reset => {
                connection.write(&head("Content-Length: 20000")).await?;
                connection.write(&SERIES[..10_000]).await?;
                return connection.reset();
            }
            Self::ShortOfLength => {
                connection.write(&head("Content-Length: 20000")).await?;
                connection.write(&SERIES[..10_000]).await?;
                return Ok(());
            }
            Self::BeyondLength => {
                connection.write(&head("Content-Length: 10000")).await?;
                connection.write(&SERIES[..PIECE]).await?;
            }
            Self::HugeLength => {
                connection.write(&head("Content-Length: 9223372036854775808")).await?;
                connection.write(&SERIES[..PIECE]).await?;
            }
            Self::EndlessChunks => {
                connection.write(&head("Transfer-Encoding: chunked")).await?;
                let piece = chunk(&SERIES[..PIECE]);
                loop {
                    connection.write(&piece).await?;
                }
            }
            Self::EndlessHeaders => {
                connection.write(b"HTTP/1.1 200 OK\r\n").await?;
                let header = format!("X-More: {}\r\n", "x".repeat(4000));
                loop {
                    connection.write(header.as_bytes()).await?;
                }
            }
            Self::SlowBody => {
                connection.write(&head("Content-Length: 20000")).await?;
                for byte in &SERIES[..20_000] {
                    connection.write(&[*byte]).await?;
                    tokio::time::sleep(DRIP).await;
                }
            }
        }
        connection.closed().await;
        Ok(())
    }
}

/// Valid series of as many containers as fit.
static SERIES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut text = Vec::with_capacity(LARGE + 256);
    let mut number = 0;
    while text.len() < LARGE {
        let _ = writeln!(
            text,
            "container_cpu_usage_seconds_total{{container=\"c{number}\",namespace=\"hostile\",pod=\"p{number}\"}} 1"
        );
        number += 1;
    }
    text
});

static COMPRESSED: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&SERIES));

fn head(framing: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{framing}\r\n\r\n").into_bytes()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_body_is_small_and_its_content_is_not() {
        assert!(SERIES.len() >= LARGE && COMPRESSED.len() < LARGE / 8, "{}", COMPRESSED.len());
    }
}
