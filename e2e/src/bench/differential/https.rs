//! A small HTTPS client that keeps bodies as they are, bytes; curl's output would lose protobuf.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::error::{Doing as _, Error, Result};
use crate::testbed::pki::Identity;

/// More than any answer of the matrix has.
const LONGEST: u64 = 16 << 20;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body, freed of chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// All values of a header (name in lower case), joined.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        Some(values.join(", ")).filter(|_| !values.is_empty())
    }
}

/// A client that trusts one authority and may show a certificate.
pub struct Client {
    config: Arc<ClientConfig>,
}

/// Any failure of TLS as the bench's own.
pub(super) fn tls(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("TLS: {error}"))
}

/// The certificates and the key of an identity.
pub(super) fn chain(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificates = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(tls)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(tls)?;
    Ok((certificates, key))
}

impl Client {
    /// A client of servers that `authority` (PEM) vouches for.
    pub fn new(authority: &str, identity: Option<&Identity>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.map_err(tls)?).map_err(tls)?;
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            Some(identity) => {
                let (certificates, key) = chain(identity)?;
                builder.with_client_auth_cert(certificates, key).map_err(tls)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config) })
    }

    /// Sends one request on a connection of its own; `target` is path and query as they go over the wire.
    pub fn send(
        &self,
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(String, String)],
    ) -> Result<Answer> {
        let what = || format!("{method} https://{address}{target}");
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5)).doing(what)?;
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).and_then(|()| socket.set_nodelay(true)).doing(what)?;
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(tls)?;
        let mut stream = StreamOwned::new(connection, socket);
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        if matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str("Content-Type: application/json\r\nContent-Length: 0\r\n");
        }
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).doing(what)?;
        let mut bytes = Vec::new();
        match (&mut stream).take(LONGEST).read_to_end(&mut bytes) {
            // Go's servers close without TLS's own goodbye now and then; the body's length tells.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::Io { what: what(), source: error });
            }
            _ => {}
        }
        parse(&bytes, method)
            .ok_or_else(|| Error::Invalid(format!("{}: no HTTP answer, or cut short", what())))
    }
}

/// Reads a whole answer (RFC 9112).
fn parse(bytes: &[u8], method: &str) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    let rest = &bytes[end + 4..];
    answer.body = if method == "HEAD" || status == 304 || status == 204 {
        Vec::new()
    } else if answer.header("transfer-encoding").as_deref() == Some("chunked") {
        unchunk(rest)?
    } else if let Some(length) = answer.header("content-length") {
        rest.get(..length.parse().ok()?)?.to_vec()
    } else {
        rest.to_vec()
    };
    Some(answer)
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_freed_of_their_framing() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVary: a\r\nvary: b\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        let answer = parse(chunked, "GET").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"abcde".as_slice()));
        assert_eq!(answer.header("vary").as_deref(), Some("a, b"));
        let plain = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nnot";
        assert_eq!(parse(plain, "GET").unwrap().body, b"no");
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno", "GET").is_none());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nno", "GET").is_none());
    }
}
