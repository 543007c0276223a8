//! One GET over one kept-alive TLS connection.
//!
//! A client of our own because it is most of what a scrape costs: no allocation per header, one buffer for
//! what came over the wire and one for what it inflates to, both pooled, and between two scrapes nothing is
//! kept but the TLS session.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::buffers::{BufferLease, BufferPool, ReadBuffers};
use super::error::Error;
use super::inflate::MAX_BODY;
use super::response::{self, BodyFraming, ChunkDecoder, ResponseHead};
use super::session::TlsSession;
use super::tls::{NodeTls, TlsMaterial, server_name};
use crate::decode::Format;
use crate::discover::Node;

/// No connection takes longer that will ever be good; SYNs are repeated after 1 and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection to where one stood before takes no longer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on which requests were answered.
pub(super) struct Connection {
    session: TlsSession,
    host: Box<str>,
    /// Whom was trusted and who we were when it was made.
    pub(super) tls: Arc<TlsMaterial>,
}

/// A body that was answered with 200.
#[derive(Clone, Copy)]
pub(super) struct ResponseBody<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) format: Format,
    /// Its size on the wire, without head and chunk sizes.
    pub(super) wire_bytes: usize,
}

impl Connection {
    /// Connects to `host`, an address or a name, of `node`; `connected` is called when there is a connection, before
    /// the TLS handshake.
    pub(super) async fn open(
        node: &Node,
        host: &str,
        tls: &NodeTls,
        connected: impl Fn(),
        pool: &BufferPool,
    ) -> Result<Self, Error> {
        let unresolvable = || io::Error::new(io::ErrorKind::InvalidInput, "not a DNS name");
        let name =
            server_name(host).ok_or_else(|| Error::Dns { host: host.into(), source: unresolvable() })?;
        let authority = authority(host, node.port);
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let timed_out = |doing| {
            let address = authority.clone();
            move |_| Error::Timeout { address, doing }
        };
        // A resolver that says nothing and one that says no are one cause: the name.
        let resolver_timeout =
            |_| io::Error::new(io::ErrorKind::TimedOut, "the resolver did not answer in time");
        let addresses = timeout_at(deadline, tokio::net::lookup_host((host, node.port)))
            .await
            .map_err(resolver_timeout)
            .flatten()
            .map_err(|source| Error::Dns { host: host.into(), source })?;
        let mut failed = None;
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(address)).await.map_err(timed_out("connecting"))? {
                Ok(tcp) => {
                    connected();
                    // The request is one write; waiting for more to send would only delay it.
                    let _ = tcp.set_nodelay(true);
                    let mut lease = pool.lease();
                    let session = TlsSession::open(tcp, tls.config.clone(), name, &mut lease).await;
                    let session = session.map_err(Error::from_stream)?;
                    tls.pin_key(host, session.peer_certificates())?;
                    return Ok(Self { session, host: authority, tls: tls.material.clone() });
                }
                Err(error) => failed = Some(Error::from_connect(&authority, error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let source = io::Error::new(io::ErrorKind::NotFound, "no address");
            Error::Dns { host: host.into(), source }
        }))
    }

    /// Asks for `path`. The connection comes back when it can be used again. [`StaleConnection`] when the kubelet had
    /// closed it before the first byte of an answer.
    pub(super) async fn get<'b>(
        mut self,
        path: &str,
        token: Option<&str>,
        lease: &'b mut BufferLease<'_>,
    ) -> Result<(Option<Self>, Result<ResponseBody<'b>, Error>), StaleConnection> {
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
        let body = bytes.map(|bytes| ResponseBody { bytes, format: head.format, wire_bytes });
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

    /// Reads the body behind the head. Whether nothing came after it.
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

/// Whether `host` can be connected to. Told of a kubelet whose connection fell resolver_timeout: if a new one comes about at once,
/// the packets are not what is lost.
pub(super) async fn reach(host: &str, port: u16) -> Result<(), Error> {
    let address = authority(host, port);
    match timeout(PROBE_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::from_connect(&address, error)),
        Err(_) => Err(Error::Timeout { address, doing: "connecting anew" }),
    }
}

/// `host:port`, as in a URL.
pub(super) fn authority(host: &str, port: u16) -> Box<str> {
    if host.contains(':') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
}

/// What an answer means that is not 200.
fn status_error(status: u16, path: &str, body: &[u8], token: Option<&str>) -> Error {
    match status {
        401 => Error::Unauthorized,
        403 => Error::Forbidden { response: Error::excerpt(body, token) },
        404 => Error::NotFound { path: path.into() },
        code => Error::HttpStatus { code, response: Error::excerpt(body, token) },
    }
}

/// How much was read; nothing at the end.
fn read_size(read: io::Result<usize>) -> Result<usize, Error> {
    match read {
        // A close without close_notify: framing tells whether the body is whole.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read.map_err(Error::from_stream),
    }
}

/// A connection that had been closed before it answered: the request may be sent again on another.
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
    fn the_request_is_one_head() {
        let text = request("/metrics/resource", "[fd00::1]:10250", Some("abc"));
        assert!(text.starts_with(
            "GET /metrics/resource HTTP/1.1\r\nHost: [fd00::1]:10250\r\nAuthorization: Bearer abc\r\nAccept: "
        ));
        assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
        assert!(!request("/", "a:1", None).contains("Authorization"));
    }
}
