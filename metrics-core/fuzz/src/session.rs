//! A scrape from the socket to the body: a kubelet sends any bytes over TLS, in records and TCP segments of any size, and
//! ends the connection in any way. The outcome must not depend on how the bytes are split, and no request may hang.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use metrics_core::ingest::scrape::fuzzing::KubeletClient;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{outcome, size};

/// A request that takes longer hangs.
const HANG: Duration = Duration::from_secs(20);
/// How long a kubelet that keeps the connection waits for the next request.
const IDLE: Duration = Duration::from_millis(5);

/// How the kubelet ends a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    CloseNotify,
    /// TCP only, as if the response had been cut off.
    Fin,
    Reset,
    /// It waits for another request first.
    Kept,
    /// Bytes that are not TLS, then the end.
    Garbage,
}

/// What the kubelet sends, and how.
#[derive(Clone, Copy)]
struct Script<'a> {
    response: &'a [u8],
    record: usize,
    segment: usize,
    end: End,
}

static ACCEPTOR: LazyLock<Option<TlsAcceptor>> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().ok()?;
    let certificate =
        rcgen::CertificateParams::new(vec!["kubelet".to_owned()]).ok()?.self_signed(&key).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).ok()?)
        .ok()?;
    Some(TlsAcceptor::from(Arc::new(config)))
});

static RUNTIME: LazyLock<Option<tokio::runtime::Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().ok());

/// Three bytes say how the connection ends, and how large records and segments are; the response follows.
pub fn session(input: &[u8]) -> u64 {
    let [end, record, segment, response @ ..] = input else { return 0 };
    let end = match end % 8 {
        0 => End::Fin,
        1 => End::Reset,
        2 => End::Garbage,
        3 => End::Kept,
        _ => End::CloseNotify,
    };
    let split = Script {
        response,
        record: usize::from(*record).max(1) * 16,
        segment: usize::from(*segment).max(1),
        end,
    };
    let whole = Script { record: usize::MAX, segment: usize::MAX, ..split };
    let Some(runtime) = &*RUNTIME else { panic!("a runtime can be built") };
    let (one, other) = runtime.block_on(async { (run(split).await, run(whole).await) });
    // A reset discards what the client has not read.
    if !matches!(end, End::Reset | End::Garbage) {
        assert_eq!(one.0, other.0, "split, and at once");
        // Where nothing follows the response, the connection is kept however the response arrives.
        if other.1.is_some() {
            assert_eq!(one.1, other.1, "the second response, split and at once");
        }
    }
    let size = one.0.as_ref().map_or(0, |body| size(body.len()));
    outcome((one.0.map(|_| ()), size, one.1.is_some()))
}

type Got = Result<Vec<u8>, &'static str>;

/// Returns the first response, and the second one if the connection was kept.
async fn run(script: Script<'_>) -> (Got, Option<Got>) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { panic!("a port is free") };
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut client = KubeletClient::new(port);
    let requests = async {
        let first = client.get().await;
        let second = if client.is_connected() { Some(client.get().await) } else { None };
        // Only one that was announced as kept says the same again.
        (first, second.filter(|_| script.end == End::Kept))
    };
    let both = async {
        tokio::select! {
            got = requests => got,
            // The kubelet ends a connection before the client does.
            got = async { let _ = kubelet(&listener, script).await; std::future::pending().await } => got,
        }
    };
    let got = tokio::time::timeout(HANG, both).await;
    got.unwrap_or_else(|_| panic!("a request hangs"))
}

/// Serves one connection and then refuses all others.
async fn kubelet(listener: &TcpListener, script: Script<'_>) -> io::Result<()> {
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    let Some(acceptor) = &*ACCEPTOR else { panic!("a certificate can be created") };
    let segments = Segments { tcp, size: script.segment, waits: false };
    let mut stream = acceptor.accept(segments).await?;
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut request);
            if tokio::time::timeout(IDLE, read).await.map_or(Ok(0), |read| read)? == 0 {
                return end(stream, script.end).await;
            }
        }
        for record in script.response.chunks(script.record) {
            stream.write_all(record).await?;
            stream.flush().await?;
        }
        if script.end != End::Kept {
            return end(stream, script.end).await;
        }
        // A record that may arrive in part with the response, and in part later.
        let _ = stream.get_mut().1.refresh_traffic_keys();
        stream.flush().await?;
    }
}

async fn end(mut stream: TlsStream<Segments>, end: End) -> io::Result<()> {
    match end {
        End::CloseNotify | End::Kept => stream.shutdown().await?,
        End::Fin => stream.get_mut().0.tcp.shutdown().await?,
        End::Reset => return stream.get_ref().0.tcp.set_zero_linger(),
        End::Garbage => {
            stream
                .get_mut()
                .0
                .tcp
                .write_all(b"\x17\x03\x03\x00\x20not a record of this connection\r\n\r\n")
                .await?;
            stream.get_mut().0.tcp.shutdown().await?;
        }
    }
    // The client reads to the end before the socket goes, else the kernel resets it.
    let mut rest = Vec::new();
    while stream.get_mut().0.tcp.read_buf(&mut rest).await? > 0 {
        rest.clear();
    }
    Ok(())
}

/// A socket that writes a few bytes at a time, and lets the client run in between.
struct Segments {
    tcp: TcpStream,
    size: usize,
    waits: bool,
}

impl AsyncRead for Segments {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Segments {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.waits = !self.waits && self.size < bytes.len();
        if self.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = bytes.len().min(self.size);
        Pin::new(&mut self.tcp).poll_write(context, &bytes[..size])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
