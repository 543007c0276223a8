//! The HTTP client: HTTP/1.1 or HTTP/2, with or without TLS, in the network that the calling thread is in.
//!
//! [`Request::send`] opens a connection for one request. [`Connection`] stays open and reuses its memory: a client of
//! measurements must cost as little as possible.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::http::request::Builder;
use hyper::{HeaderMap, Method};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::cluster::Cluster;
use super::pki::Identity;
use super::tls;
use crate::error::{Doing as _, Error, Result};

/// How long a request may take unless it sets another timeout.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request.
#[derive(Clone)]
pub struct Request {
    /// `https://ADDRESS:PORT/PATH` or `http://…`; the address is an IP address.
    pub url: String,
    /// The method.
    pub method: String,
    /// Headers, in the order in which they are sent.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: String,
    /// The client certificate, if any.
    pub identity: Option<Identity>,
    /// The PEM of the authority that must have signed the server's certificate; `None` accepts any certificate.
    pub authority: Option<String>,
    /// The timeout of the whole exchange.
    pub timeout: Duration,
    /// Uses HTTP/1.1 although the server offers HTTP/2.
    pub only_http1: bool,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// The time from the request to the body's last byte.
    pub took: Duration,
}

impl Request {
    /// Returns a request without headers and body that accepts any server certificate.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: method.to_owned(),
            headers: Vec::new(),
            body: String::new(),
            identity: None,
            authority: None,
            timeout: TIMEOUT,
            only_http1: false,
        }
    }

    /// Returns a GET that accepts any server certificate.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Presents a client certificate.
    #[must_use]
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Sets the timeout of the whole exchange.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request on a connection of its own and blocks until the response is complete.
    ///
    /// # Errors
    /// When there is no complete HTTP response (connection refused, TLS alert, timeout); any status code is a response.
    pub fn send(&self) -> Result<Response> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.doing(|| "start a runtime".into())?.block_on(self.fetch())
    }

    /// Does the same as [`Self::send`] inside a runtime.
    pub async fn fetch(&self) -> Result<Response> {
        let what = || format!("{} {}", self.method, self.url);
        match tokio::time::timeout(self.timeout, self.exchange()).await {
            Ok(Err(Error::Invalid(error))) => Err(Error::Invalid(format!("{}: {error}", what()))),
            Ok(result) => result,
            Err(_) => {
                Err(Error::Timeout { what: what(), after: self.timeout, last: "no response".to_owned() })
            }
        }
    }

    async fn exchange(&self) -> Result<Response> {
        let invalid = || Error::Invalid("the URL is not http(s)://ADDRESS:PORT/PATH".to_owned());
        let (scheme, rest) = self.url.split_once("://").ok_or_else(invalid)?;
        let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = if target.is_empty() { "/" } else { target };
        let address = |port| -> Option<SocketAddr> {
            host.parse().ok().or_else(|| Some(SocketAddr::new(host.parse().ok()?, port)))
        };
        let mut connection = match scheme {
            "http" => Connection::plain(address(80).ok_or_else(invalid)?).await?,
            "https" => {
                let mut config = tls::client(self.authority.as_deref(), self.identity.as_ref())?;
                if !self.only_http1 {
                    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                }
                Connection::tls(address(443).ok_or_else(invalid)?, Arc::new(config)).await?
            }
            _ => return Err(invalid()),
        };
        let method = self.method.parse().map_err(failed)?;
        let request = connection.request(method, target);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Full::new(self.body.clone().into())).map_err(|error| failed(&error))?;
        connection.send(request).await
    }
}

impl Response {
    /// Returns all values of a header, joined with commas.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Some(values.join(", ")).filter(|_| !values.is_empty())
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Returns an error with the beginning of the body unless the status is 200.
    pub fn ok(self) -> Result<Self> {
        if self.status == 200 {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        Err(Error::Invalid(format!("the server returned {}: {text}", self.status)))
    }
}

impl Cluster {
    /// Sends a request from inside the cluster's network.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.network().inside(|| request.send())
    }
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    host: String,
    /// The memory of the last body, for the next one: new memory costs the client as much as what it reads.
    room: Vec<u8>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Returns an error with all its causes: hyper names the reason (a refused connection, a TLS alert) only in the last.
fn failed(error: impl StdError) -> Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Error::Invalid(text)
}

impl Connection {
    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(address).await.map_err(failed)?, address, false).await
    }

    /// Connects with TLS; uses HTTP/2 if `config` offers it by ALPN and the server chooses it.
    pub async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        let _ = stream.set_nodelay(true);
        // rustls reads 4 kB at a time, each with a system call.
        let stream = BufReader::with_capacity(256 << 10, stream);
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self::over(stream, address, is_http2).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
        is_http2: bool,
    ) -> Result<Self> {
        let stream = TokioIo::new(stream);
        let sender = if is_http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), stream).await.map_err(failed)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(failed)?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Self { sender, host: address.to_string(), room: Vec::new() })
    }

    /// Returns a request of this connection: HTTP/1.1 names the host in a header, HTTP/2 in the URI.
    fn request(&self, method: Method, target: &str) -> Builder {
        let request = hyper::Request::builder().method(method);
        match &self.sender {
            Sender::Http1(_) => request.uri(target).header("Host", &self.host),
            Sender::Http2(_) => request.uri(format!("https://{}{target}", self.host)),
        }
    }

    /// Sends a GET with an Accept header.
    pub async fn get(&mut self, path: &str, accept: &str) -> Result<Response> {
        self.get_compressed(path, accept, "").await
    }

    /// Sends a GET with an Accept and an Accept-Encoding header, the latter unless it is empty. The body stays compressed.
    pub async fn get_compressed(&mut self, path: &str, accept: &str, encoding: &str) -> Result<Response> {
        let mut request = self.request(Method::GET, path).header("Accept", accept);
        if !encoding.is_empty() {
            request = request.header("Accept-Encoding", encoding);
        }
        self.send(request.body(Full::default()).map_err(|error| failed(&error))?).await
    }

    /// Sends a POST of JSON.
    pub async fn post(&mut self, path: &str, body: String) -> Result<Response> {
        let request = self.request(Method::POST, path).header("Content-Type", "application/json");
        self.send(request.body(Full::new(body.into())).map_err(|error| failed(&error))?).await
    }

    /// Sends a request with any method, headers and body.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Response> {
        let request = self.request(method.parse().map_err(failed)?, path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Full::new(body.into())).map_err(|error| failed(&error))?).await
    }

    /// Takes a response back; the next one uses its memory.
    pub fn reuse(&mut self, response: Response) {
        self.room = response.body;
    }

    async fn send(&mut self, request: hyper::Request<Full<Bytes>>) -> Result<Response> {
        let began = Instant::now();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await.map_err(failed)?
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(failed)?;
                sender.send_request(request).await.map_err(failed)?
            }
        };
        let (head, mut incoming) = response.into_parts();
        let mut body = std::mem::take(&mut self.room);
        body.clear();
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame.map_err(failed)?.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body, took: began.elapsed() })
    }
}

#[cfg(test)]
mod tests;
