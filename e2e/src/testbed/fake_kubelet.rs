//! The HTTPS endpoint of fake kubelets: what goes over the wire. The caller decides what each kubelet responds.
//!
//! One listener serves many nodes: the caller tells them apart by the address that the client dialed. The endpoint
//! speaks HTTP/1.1 only, one request at a time on a connection, and writes as a real kubelet does.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use libdeflater::{CompressionLvl, Compressor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::pki::Identity;
use super::tls;
use crate::error::{Doing as _, Error, Result};

/// The size of a chunk and of a TLS record, by the buffers of Go's server.
const CHUNK: usize = 2048;
const RECORD: usize = 4096;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16_384;

/// The content type of a kubelet's metrics.
pub(crate) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// A request to a kubelet.
pub(crate) struct KubeletRequest {
    /// The method.
    pub(crate) method: String,
    /// The path.
    pub(crate) path: String,
    /// The User-Agent header.
    pub(crate) user_agent: String,
    /// Whether the Accept-Encoding header names gzip.
    pub(crate) accepts_gzip: bool,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// By a Content-Length header.
    Length,
    /// In chunks.
    Chunks,
    /// Compressed, in chunks.
    GzipChunks,
}

/// Listens on all addresses of the network that the calling thread is in.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
        socket.listen(16_384)
    };
    listen().doing(|| format!("listen on port {port}"))
}

/// Accepts connections forever and serves each in a task of the current `LocalSet`.
pub(crate) async fn serve<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    connection: impl Fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(connection(stream))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Kubelets on a thread of their own; dropping this closes them.
pub(crate) struct Listening {
    _running: oneshot::Sender<()>,
}

/// Listens on all addresses of the network that the calling thread is in, and serves each connection on a thread of its
/// own until the result is dropped. Clients need no certificate.
pub(crate) fn spawn<F: Future<Output = ()> + 'static>(
    port: u16,
    identity: &Identity,
    connection: impl Fn(TcpStream, TlsAcceptor) -> F + Send + 'static,
) -> Result<Listening> {
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(tls::chain(&identity.certificate)?, tls::key(&identity.key)?)
        .map_err(tls::invalid)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (running, stopped) = oneshot::channel();
    let (report, listening) = mpsc::channel();
    thread::spawn(move || run(port, |stream| connection(stream, acceptor.clone()), stopped, &report));
    listening.recv().unwrap_or_else(|_| Err(Error::Invalid("the fake kubelets ended".into())))?;
    Ok(Listening { _running: running })
}

/// Serves until `stopped`; reports once whether it listens.
fn run<F: Future<Output = ()> + 'static>(
    port: u16,
    connection: impl Fn(TcpStream) -> F,
    stopped: oneshot::Receiver<()>,
    report: &mpsc::Sender<Result<()>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.doing(|| "start a runtime".into()) {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(error))),
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = match listen(port) {
            Ok(listener) => listener,
            Err(error) => return drop(report.send(Err(error))),
        };
        let _ = report.send(Ok(()));
        tokio::select! {
            () = serve(listener, connection) => {}
            _ = stopped => {}
        }
    });
}

/// A connection of a client.
pub(crate) struct KubeletConnection(TlsStream<TcpStream>);

impl KubeletConnection {
    /// Does the TLS handshake.
    pub(crate) async fn accept(stream: TcpStream, tls: &TlsAcceptor) -> io::Result<Self> {
        let _ = stream.set_nodelay(true);
        tls.accept(stream).await.map(Self)
    }

    /// Reads the next request; `None` when the client closed the connection. Requests have no body.
    pub(crate) async fn request(&mut self) -> io::Result<Option<KubeletRequest>> {
        // Memory of its own for each request: an idle connection must cost the fleet nothing.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.reserve(1024);
            if head.len() > MAX_HEAD || self.0.read_buf(&mut head).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(parse(&String::from_utf8_lossy(&head))))
    }

    /// Writes a response and returns its size in bytes, without TLS.
    pub(crate) async fn respond(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
        framing: Framing,
    ) -> io::Result<usize> {
        let response = response(status, content_type, body, framing);
        for record in response.chunks(RECORD) {
            self.0.write_all(record).await?;
        }
        self.0.flush().await?;
        Ok(response.len())
    }

    /// Writes bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Waits until the client closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut ignored = [0; 512];
        while self.0.read(&mut ignored).await.is_ok_and(|size| size > 0) {}
    }

    /// Closes the connection with a TCP reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        // Otherwise the kernel sends what is buffered, and a FIN.
        self.0.get_ref().0.set_zero_linger()
    }
}

/// Compresses with gzip.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    compress(body)
}

fn parse(head: &str) -> KubeletRequest {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = KubeletRequest { method, path, user_agent: String::new(), accepts_gzip: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("user-agent") {
            value.trim().clone_into(&mut request.user_agent);
        } else if name.eq_ignore_ascii_case("accept-encoding") {
            request.accepts_gzip |= value.to_ascii_lowercase().contains("gzip");
        }
    }
    request
}

fn response(status: u16, content_type: &str, body: &[u8], framing: Framing) -> Vec<u8> {
    let compressed;
    let body = if framing == Framing::GzipChunks {
        compressed = compress(body);
        &compressed
    } else {
        body
    };
    let mut out = Vec::with_capacity(body.len() + body.len() / 100 + 512);
    // A vector takes every write.
    let _ = write!(
        out,
        "HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n"
    );
    if framing == Framing::GzipChunks {
        out.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    if framing == Framing::Length {
        let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(body);
        return out;
    }
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(CHUNK) {
        let _ = write!(out, "{:x}\r\n", chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn compress(body: &[u8]) -> Vec<u8> {
    thread_local! {
        static COMPRESSOR: RefCell<Compressor> =
            RefCell::new(Compressor::new(CompressionLvl::new(4).unwrap_or_default()));
    }
    COMPRESSOR.with_borrow_mut(|compressor| {
        let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
        let size = compressor.gzip_compress(body, &mut out).unwrap_or_default();
        out.truncate(size);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_headers_that_count() {
        let request = parse(
            "GET /metrics/resource HTTP/1.1\r\nHost: a\r\nuser-agent: b/1\r\nAccept-Encoding: br, GZIP\r\n\r\n",
        );
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/metrics/resource"));
        assert_eq!((request.user_agent.as_str(), request.accepts_gzip), ("b/1", true));
        assert!(!parse("GET / HTTP/1.1\r\n\r\n").accepts_gzip);
    }

    #[test]
    fn frames_bodies_by_length_or_in_chunks() {
        let text = |framing| String::from_utf8(response(200, "a/b", &[b'x'; 2050], framing)).unwrap();
        let sized = text(Framing::Length);
        assert!(sized.starts_with("HTTP/1.1 200 -\r\nContent-Type: a/b\r\n"), "{sized}");
        assert!(sized.contains("Content-Length: 2050\r\n\r\nxx"), "{sized}");
        let chunked = text(Framing::Chunks);
        assert!(
            chunked.contains("\r\n\r\n800\r\nxx") && chunked.ends_with("x\r\n2\r\nxx\r\n0\r\n\r\n"),
            "{chunked}"
        );
        let compressed = response(200, "a/b", &[b'x'; 2050], Framing::GzipChunks);
        assert!(compressed.len() < 300 && compressed.ends_with(b"\r\n0\r\n\r\n"), "{}", compressed.len());
    }
}
