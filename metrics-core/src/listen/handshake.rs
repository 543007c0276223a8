//! The TLS handshake, and what it means when there is none.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why there was no TLS connection; bounded, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Failed {
    Closed,
    ClosedMidway,
    Timeout,
    PlainHttp,
    NotTls,
    Alert,
    Incompatible,
    ClientCertificate,
    Other,
}

impl Failed {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClosedMidway => "closed_midway",
            Self::Timeout => "timeout",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Alert => "alert",
            Self::Incompatible => "incompatible",
            Self::ClientCertificate => "client_certificate",
            Self::Other => "other",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Closed => {
                "a client opened a connection and closed it without a word; kube-apiserver's availability checks and TCP probes do so, it is harmless"
            }
            Self::ClosedMidway => "a client went away during the handshake",
            Self::Timeout => "a client did not complete the handshake in time",
            Self::PlainHttp => "a client spoke http to the https port",
            Self::NotTls => "a client spoke something else than TLS",
            Self::Alert => {
                "a client refused this server: mostly its certificate (APIService caBundle, or a client that does not know the CA)"
            }
            Self::Incompatible => "client and server have no TLS version, cipher suite or group in common",
            Self::ClientCertificate => {
                "a client could not prove that it holds the key of the certificate it showed"
            }
            Self::Other => "the handshake failed",
        }
    }
}

/// Shakes hands. The error's text, if any, has particulars for the log.
pub(super) async fn shake(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<TcpStream>, (Failed, String)> {
    // One look at the first byte tells http from TLS, so that http gets an answer that its client can read.
    let mut first = [0_u8];
    match stream.peek(&mut first).await {
        Ok(0) => return Err((Failed::Closed, String::new())),
        Err(error) => return Err((io_failure(&error, true), String::new())),
        Ok(_) if first[0] == 0x16 => {}
        Ok(_) if first[0].is_ascii_uppercase() => {
            answer_http(stream).await;
            return Err((Failed::PlainHttp, String::new()));
        }
        Ok(_) => return Err((Failed::NotTls, String::new())),
    }
    TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .map_or_else(|| io_failure(&error, false), tls_failure);
        (cause, format!(" ({error})"))
    })
}

async fn answer_http(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // Take what was sent, or closing resets the connection before the client has read the answer.
    let mut sent = [0_u8; 4096];
    let _ = stream.try_read(&mut sent);
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}

fn io_failure(error: &io::Error, before_a_word: bool) -> Failed {
    use io::ErrorKind as K;
    match error.kind() {
        K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected => {
            if before_a_word {
                Failed::Closed
            } else {
                Failed::ClosedMidway
            }
        }
        K::TimedOut => Failed::Timeout,
        _ => Failed::Other,
    }
}

fn tls_failure(error: &rustls::Error) -> Failed {
    use rustls::Error as E;
    match error {
        E::AlertReceived(_) => Failed::Alert,
        E::PeerIncompatible(_) => Failed::Incompatible,
        E::InvalidMessage(_) => Failed::NotTls,
        E::InvalidCertificate(_) | E::NoCertificatesPresented => Failed::ClientCertificate,
        _ => Failed::Other,
    }
}
