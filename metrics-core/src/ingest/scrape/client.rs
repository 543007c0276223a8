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

use super::buffers::{Buffers, Lease, Pool};
use super::error::Error;
use super::inflate::MAX_BODY;
use super::response::{self, Chunks, Framing, Head};
use super::session::Session;
use super::tls::{Base, NodeTls, server_name};
use crate::ingest::decode::Format;
use crate::ingest::discover::Node;

/// No connection takes longer that will ever be good; SYNs are repeated after 1 and 3 s.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection to where one stood before takes no longer.
const PROBE: Duration = Duration::from_secs(1);

/// A connection on which requests were answered.
pub(super) struct Connection {
    session: Session,
    host: Box<str>,
    /// Whom was trusted and who we were when it was made.
    pub(super) base: Arc<Base>,
}

/// A body that was answered with 200.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) format: Format,
    /// Its size on the wire, without head and chunk sizes.
    pub(super) wire_bytes: usize,
}

impl Connection {
    /// Connects to `host`, an address or a name, of `node`; `stands` is called when there is a connection, before
    /// the TLS handshake.
    pub(super) async fn open(
        node: &Node,
        host: &str,
        tls: &NodeTls,
        stands: impl Fn(),
        pool: &Pool,
    ) -> Result<Self, Error> {
        let unresolvable = || io::Error::new(io::ErrorKind::InvalidInput, "not a DNS name");
        let name =
            server_name(host).ok_or_else(|| Error::Dns { host: host.into(), source: unresolvable() })?;
        let authority = authority(host, node.port);
        let deadline = Instant::now() + CONNECT;
        let late = |doing| {
            let address = authority.clone();
            move |_| Error::Timeout { address, doing }
        };
        // A resolver that says nothing and one that says no are one cause: the name.
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the resolver did not answer in time");
        let addresses = timeout_at(deadline, tokio::net::lookup_host((host, node.port)))
            .await
            .map_err(silent)
            .flatten()
            .map_err(|source| Error::Dns { host: host.into(), source })?;
        let mut failed = None;
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(address)).await.map_err(late("connecting"))? {
                Ok(tcp) => {
                    stands();
                    // The request is one write; waiting for more to send would only delay it.
                    let _ = tcp.set_nodelay(true);
                    let mut lease = pool.lease();
                    let session = Session::open(tcp, tls.config.clone(), name, &mut lease).await;
                    let session = session.map_err(Error::of_stream)?;
                    tls.settle(host, session.peer_certificates())?;
                    return Ok(Self { session, host: authority, base: tls.base.clone() });
                }
                Err(error) => failed = Some(Error::of_connect(&authority, error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let source = io::Error::new(io::ErrorKind::NotFound, "no address");
            Error::Dns { host: host.into(), source }
        }))
    }

    /// Asks for `path`. The connection comes back when it can be used again. [`Stale`] when the kubelet had
    /// closed it before the first byte of an answer.
    pub(super) async fn get<'b>(
        mut self,
        path: &str,
        token: Option<&str>,
        lease: &'b mut Lease<'_>,
    ) -> Result<(Option<Self>, Result<Body<'b>, Error>), Stale> {
        let request = request(path, &self.host, token);
        if let Err(error) = self.session.send(request.as_bytes()).await {
            return Err(Stale(Error::of_stream(error)));
        }
        if let Err(error) = self.session.arrives().await {
            return Err(Stale(Error::of_stream(error)));
        }
        let buffers = lease.buffers();
        buffers.wire.clear();
        let first = match self.session.resume(&mut buffers.records) {
            Ok(()) => self.read(buffers).await,
            Err(error) => Err(Error::of_stream(error)),
        };
        match first {
            Ok(0) => return Err(Stale(Error::Broken(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => {}
            Err(error) => return Err(Stale(error)),
        }
        let (head, length) = match self.head(buffers).await {
            Ok(head) => head,
            Err(error) => return Ok((None, Err(error))),
        };
        let clean = self.body(&head, length, buffers).await;
        if head.status != 200 {
            let clean = clean.unwrap_or(false);
            self.session.rest(&buffers.records);
            let connection = (clean && head.keep_alive).then_some(self);
            let body = if head.gzip { &[][..] } else { &buffers.wire[length..] };
            return Ok((connection, Err(refusal(head.status, path, body, token))));
        }
        let clean = match clean {
            Ok(clean) => clean,
            Err(error) => return Ok((None, Err(error))),
        };
        self.session.rest(&buffers.records);
        let connection = (clean && head.keep_alive).then_some(self);
        let wire_bytes = buffers.wire.len() - length;
        let bytes = if head.gzip { lease.inflated(length) } else { Ok(lease.arrived(length)) };
        let body = bytes.map(|bytes| Body { bytes, format: head.format, wire_bytes });
        Ok((connection, body))
    }

    async fn head(&mut self, buffers: &mut Buffers) -> Result<(Head, usize), Error> {
        loop {
            if let Some(found) = response::head(&buffers.wire).map_err(Error::InvalidBody)? {
                return Ok(found);
            }
            if self.read(buffers).await? == 0 {
                return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads the body behind the head. Whether nothing came after it.
    async fn body(&mut self, head: &Head, length: usize, buffers: &mut Buffers) -> Result<bool, Error> {
        let mut chunks = Chunks::new(length);
        loop {
            let wire = &mut buffers.wire;
            match head.framing {
                Framing::Length(size) => {
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
                Framing::Chunked => {
                    if let Some(more) = chunks.advance(wire).map_err(Error::InvalidBody)? {
                        return Ok(more == 0);
                    }
                }
                Framing::UntilClose => {}
            }
            if wire.len() > MAX_BODY {
                return Err(Error::BodyTooLarge("on the wire"));
            }
            if self.read(buffers).await? == 0 {
                if head.framing == Framing::UntilClose {
                    return Ok(false);
                }
                return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn read(&mut self, buffers: &mut Buffers) -> Result<usize, Error> {
        arrived(self.session.read(&mut buffers.records, &mut buffers.wire).await)
    }
}

/// Whether `host` can be connected to. Told of a kubelet whose connection fell silent: if a new one comes about at once,
/// the packets are not what is lost.
pub(super) async fn reach(host: &str, port: u16) -> Result<(), Error> {
    let address = authority(host, port);
    match timeout(PROBE, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Error::of_connect(&address, error)),
        Err(_) => Err(Error::Timeout { address, doing: "connecting anew" }),
    }
}

/// `host:port`, as in a URL.
pub(super) fn authority(host: &str, port: u16) -> Box<str> {
    if host.contains(':') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
}

/// What an answer means that is not 200.
fn refusal(status: u16, path: &str, body: &[u8], token: Option<&str>) -> Error {
    match status {
        401 => Error::Unauthorized,
        403 => Error::Forbidden { said: Error::said(body, token) },
        404 => Error::NotFound { path: path.into() },
        code => Error::HttpStatus { code, said: Error::said(body, token) },
    }
}

/// How much was read; nothing at the end.
fn arrived(read: io::Result<usize>) -> Result<usize, Error> {
    match read {
        // A close without close_notify: framing tells whether the body is whole.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read.map_err(Error::of_stream),
    }
}

/// A connection that had been closed before it answered: the request may be sent again on another.
pub(super) struct Stale(pub(super) Error);

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
