//! One kept-alive HTTP/1.1 connection, as cheap as can be: the client must not be what is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};

/// An open connection.
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    /// For the next answer's body: memory that is new at each answer costs the client as much as what it reads.
    room: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
    /// From the request to the body's last byte.
    pub took: Duration,
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("request: {error}"))
}

impl Http {
    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(address).await.map_err(failed)?).await
    }

    /// Connects with TLS.
    pub async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        let _ = stream.set_nodelay(true);
        // rustls takes 4 kB at a time, each by a call of the kernel.
        let stream = BufReader::with_capacity(256 << 10, stream);
        let name = ServerName::IpAddress(address.ip().into());
        Self::over(TlsConnector::from(config).connect(name, stream).await.map_err(failed)?).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self { sender, room: Vec::new() })
    }

    /// GET with an Accept header.
    pub async fn get(&mut self, path: &str, accept: &str) -> Result<Answer> {
        let request = Request::get(path).header("Host", "bench").header("Accept", accept);
        self.send(request.body(Full::default()).map_err(failed)?).await
    }

    /// POST of JSON.
    pub async fn post(&mut self, path: &str, body: String) -> Result<Answer> {
        let request = Request::post(path).header("Host", "bench").header("Content-Type", "application/json");
        self.send(request.body(Full::new(body.into())).map_err(failed)?).await
    }

    /// Takes an answer back that was looked at; its room is used for the next.
    pub fn reuse(&mut self, answer: Answer) {
        self.room = answer.body;
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let began = Instant::now();
        self.sender.ready().await.map_err(failed)?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut incoming = response.into_body();
        let mut body = std::mem::take(&mut self.room);
        body.clear();
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame.map_err(failed)?.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Ok(Answer { status, body, took: began.elapsed() })
    }
}
