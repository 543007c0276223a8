//! An HTTP/1.1 client that sends one GET at a time over a kept-alive TLS connection.
//!
//! It replaces a general client because the client is most of the cost of a scrape. It allocates nothing per
//! header, uses pooled buffers for the response and for the decompressed body, and keeps only the TLS session
//! between two scrapes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::buffers::{BufferLease, BufferPool, ReadBuffers};
use super::error::Error;
use super::inflate::MAX_BODY;
use super::resolver::Resolver;
use super::response::{self, BodyFraming, ChunkDecoder, ResponseHead};
use super::session::TlsSession;
use super::tls::{NodeTls, TlsMaterial, server_name};
use crate::ingest::decode::ExpositionFormat;
use crate::ingest::discover::Node;

/// The connect timeout. SYNs are repeated after 1 s and 3 s; a connection that takes longer rarely succeeds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The timeout of a connection attempt to an address that accepted one before.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection to a kubelet.
pub(super) struct Connection {
    session: TlsSession,
    host: Box<str>,
    /// The IP address of the kubelet.
    pub(super) peer: IpAddr,
    /// The trusted roots and the client certificate with which it was opened.
    pub(super) tls: Arc<TlsMaterial>,
}

/// The body of a 200 response.
#[derive(Clone, Copy)]
pub(super) struct KubeletBody<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) format: ExpositionFormat,
    /// Its size on the wire, without headers and chunk sizes.
    pub(super) wire_bytes: usize,
}

impl Connection {
    /// Connects to `host`, an address or a name, of `node`. Calls `connected` once the TCP connection is open,
    /// before the TLS handshake.
    pub(super) async fn open(
        node: &Node,
        host: &str,
        tls: &NodeTls,
        connected: impl Fn(),
        resolver: &Resolver,
        pool: &BufferPool,
    ) -> Result<Self, Error> {
        let invalid_name = || io::Error::new(io::ErrorKind::InvalidInput, "not a valid DNS name");
        let name =
            server_name(host).ok_or_else(|| Error::Dns { host: host.into(), source: invalid_name() })?;
        let authority = authority(host, node.port);
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let timed_out = |doing| {
            let address = authority.clone();
            move |_| Error::Timeout { address, doing }
        };
        // A resolver that times out and one that returns an error have the same cause: the name.
        let resolver_timeout = |_| io::Error::new(io::ErrorKind::TimedOut, "the DNS resolver timed out");
        let addresses = timeout_at(deadline, resolver.resolve(host, node.port))
            .await
            .map_err(resolver_timeout)
            .flatten()
            .map_err(|source| Error::Dns { host: host.into(), source })?;
        let mut failed = None;
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(address)).await.map_err(timed_out("connecting"))? {
                Ok(tcp) => {
                    connected();
                    // The request is one write, so Nagle's algorithm would only delay it.
                    let _ = tcp.set_nodelay(true);
                    let mut lease = pool.lease();
                    let session = TlsSession::open(tcp, tls.config.clone(), name, &mut lease).await;
                    let session = session.map_err(Error::from_stream)?;
                    tls.pin_key(host, session.peer_certificates())?;
                    return Ok(Self {
                        session,
                        host: authority,
                        peer: address.ip(),
                        tls: tls.material.clone(),
                    });
                }
                Err(error) => failed = Some(Error::from_connect(&authority, error)),
            }
        }
        // The resolver returns at least one address.
        Err(failed.unwrap_or_else(|| Error::Dns { host: host.into(), source: invalid_name() }))
    }

    /// Requests `path`. Returns the connection if it can be reused. Fails with [`StaleConnection`] if the kubelet
    /// closed it before the first byte of a response.
    pub(super) async fn get<'b>(
        mut self,
        path: &str,
        token: Option<&str>,
        lease: &'b mut BufferLease<'_>,
    ) -> Result<(Option<Self>, Result<KubeletBody<'b>, Error>), StaleConnection> {
        let request = request(path, &self.host, token);
        if let Err(error) = self.session.send(request.as_bytes()).await {
            return Err(StaleConnection(Error::from_stream(error)));
        }
        if let Err(error) = self.session.wait_readable().await {
            return Err(StaleConnection(Error::from_stream(error)));
        }
        let buffers = lease.buffers();
        buffers.wire.clear();
        let first = match self.session.resume(&mut buffers.records) {
            Ok(()) => self.read(buffers).await,
            Err(error) => Err(Error::from_stream(error)),
        };
        match first {
            Ok(0) => {
                return Err(StaleConnection(Error::ConnectionClosed(io::ErrorKind::UnexpectedEof.into())));
            }
            Ok(_) => {}
            Err(error) => return Err(StaleConnection(error)),
        }
        let (head, length) = match self.read_head(buffers).await {
            Ok(head) => head,
            Err(error) => return Ok((None, Err(error))),
        };
        let clean = self.read_body(&head, length, buffers).await;
        if head.status != 200 {
            let clean = clean.unwrap_or(false);
            self.session.release(&buffers.records);
            let connection = (clean && head.keep_alive).then_some(self);
            let body = if head.gzip { &[][..] } else { &buffers.wire[length..] };
            return Ok((connection, Err(status_error(head.status, path, body, token))));
        }
        let clean = match clean {
            Ok(clean) => clean,
            Err(error) => return Ok((None, Err(error))),
        };
        self.session.release(&buffers.records);
        let connection = (clean && head.keep_alive).then_some(self);
        let wire_bytes = buffers.wire.len() - length;
        let bytes = if head.gzip { lease.inflated(length) } else { Ok(lease.plain(length)) };
        let body = bytes.map(|bytes| KubeletBody { bytes, format: head.format, wire_bytes });
        Ok((connection, body))
    }

    async fn read_head(&mut self, buffers: &mut ReadBuffers) -> Result<(ResponseHead, usize), Error> {
        loop {
            if let Some(found) = response::parse_head(&buffers.wire).map_err(Error::InvalidBody)? {
                return Ok(found);
            }
            if self.read(buffers).await? == 0 {
                return Err(Error::ConnectionClosed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads the body after the header section. Returns whether no bytes followed it.
    async fn read_body(
        &mut self,
        head: &ResponseHead,
        length: usize,
        buffers: &mut ReadBuffers,
    ) -> Result<bool, Error> {
        let mut chunks = ChunkDecoder::new(length);
        loop {
            let wire = &mut buffers.wire;
            match head.framing {
                BodyFraming::Length(size) => {
                    if size > MAX_BODY as u64 {
                        return Err(Error::BodyTooLarge("Content-Length"));
                    }
                    let end = length + usize::try_from(size).unwrap_or(MAX_BODY);
                    if wire.len() >= end {
                        let clean = wire.len() == end;
                        wire.truncate(end);
                        return Ok(clean);
                    }
                }
                BodyFraming::Chunked => {
                    if let Some(more) = chunks.advance(wire).map_err(Error::InvalidBody)? {
                        return Ok(more == 0);
                    }
                }
                BodyFraming::UntilClose => {}
            }
            if wire.len() > MAX_BODY {
                return Err(Error::BodyTooLarge("on the wire"));
            }
            if self.read(buffers).await? == 0 {
                if head.framing == BodyFraming::UntilClose {
                    return Ok(false);
                }
                return Err(Error::ConnectionClosed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn read(&mut self, buffers: &mut ReadBuffers) -> Result<usize, Error> {
        read_size(self.session.read(&mut buffers.records, &mut buffers.wire).await)
    }
}

/// Checks whether `address` accepts connections. Used after a kept connection to it timed out: if a new connection opens
/// at once, packets are not being dropped.
pub(super) async fn reach(host: &str, address: SocketAddr) -> Result<(), Error> {
    let connected = timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await;
    let address = authority(host, address.port());
    match connected {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::from_connect(&address, error)),
        Err(_) => Err(Error::Timeout { address, doing: "reconnecting" }),
    }
}

/// Formats `host:port` as in a URL.
pub(super) fn authority(host: &str, port: u16) -> Box<str> {
    if host.contains(':') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
}

/// Returns the error for a status other than 200.
fn status_error(status: u16, path: &str, body: &[u8], token: Option<&str>) -> Error {
    match status {
        401 => Error::Unauthorized,
        403 => Error::Forbidden { response: Error::excerpt(body, token) },
        404 => Error::NotFound { path: path.into() },
        code => Error::HttpStatus { code, response: Error::excerpt(body, token) },
    }
}

/// Returns the number of bytes read; 0 at the end of the stream.
fn read_size(read: io::Result<usize>) -> Result<usize, Error> {
    match read {
        // The kubelet closed the connection without close_notify; the framing shows whether the body is complete.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read.map_err(Error::from_stream),
    }
}

/// The kubelet closed the connection before it responded. The request may be sent again on a new connection.
pub(super) struct StaleConnection(pub(super) Error);

fn request(path: &str, host: &str, token: Option<&str>) -> String {
    let (authorization, token, end) =
        token.map_or(("", "", ""), |token| ("Authorization: Bearer ", token, "\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{token}{end}\
         Accept: text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n\
         Accept-Encoding: gzip\r\nUser-Agent: metrics-core/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::request;

    #[test]
    fn formats_the_request() {
        let text = request("/metrics/resource", "[fd00::1]:10250", Some("abc"));
        assert!(text.starts_with(
            "GET /metrics/resource HTTP/1.1\r\nHost: [fd00::1]:10250\r\nAuthorization: Bearer abc\r\nAccept: "
        ));
        assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
        assert!(!request("/", "a:1", None).contains("Authorization"));
    }
}
