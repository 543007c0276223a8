//! The TLS handshake, and the causes of its failures.

use std::io;
use std::sync::Arc;

use crds::cause::HandshakeCause;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Returns the explanation of a failure.
pub(super) const fn meaning(cause: HandshakeCause) -> &'static str {
    match cause {
        HandshakeCause::Closed => {
            "a client opened a connection and closed it without sending anything, as kube-apiserver's availability checks and TCP probes do; this is harmless"
        }
        HandshakeCause::ClosedMidway => {
            "a client closed the connection during the handshake; kube-apiserver does so when another of its parallel checks was faster"
        }
        HandshakeCause::Timeout => "a client did not complete the handshake in time",
        HandshakeCause::PlainHttp => "a client sent HTTP to the HTTPS port",
        HandshakeCause::NotTls => "a client sent something other than TLS",
        HandshakeCause::Alert => {
            "a client rejected this server, usually its certificate (APIService caBundle, or a client that does not trust the CA)"
        }
        HandshakeCause::Incompatible => {
            "client and server have no TLS version, cipher suite or key exchange group in common"
        }
        HandshakeCause::ClientCertificate => {
            "a client did not prove possession of the private key of its certificate"
        }
        HandshakeCause::Other => "the handshake failed",
    }
}

/// Performs the handshake. The error has the cause and details for the log, which can be empty.
pub(super) async fn accept(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<TcpStream>, (HandshakeCause, String)> {
    // The first byte distinguishes HTTP from TLS, so that an HTTP client gets a response that it can read.
    let mut first = [0_u8];
    match stream.peek(&mut first).await {
        Ok(0) => return Err((HandshakeCause::Closed, String::new())),
        Err(error) => return Err((io_failure(&error, true), String::new())),
        Ok(_) if first[0] == 0x16 => {}
        Ok(_) if first[0].is_ascii_uppercase() => {
            respond_to_http(stream).await;
            return Err((HandshakeCause::PlainHttp, String::new()));
        }
        Ok(_) => return Err((HandshakeCause::NotTls, String::new())),
    }
    TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .map_or_else(|| io_failure(&error, false), tls_failure);
        (cause, format!(" ({error})"))
    })
}

async fn respond_to_http(mut stream: TcpStream) {
    const RESPONSE: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // Read the request: closing with unread data resets the connection before the client has read the response.
    let mut sent = [0_u8; 4096];
    let _ = stream.try_read(&mut sent);
    let _ = stream.write_all(RESPONSE).await;
    let _ = stream.shutdown().await;
}

fn io_failure(error: &io::Error, before_data: bool) -> HandshakeCause {
    use io::ErrorKind as K;
    match error.kind() {
        K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected => {
            if before_data {
                HandshakeCause::Closed
            } else {
                HandshakeCause::ClosedMidway
            }
        }
        K::TimedOut => HandshakeCause::Timeout,
        _ => HandshakeCause::Other,
    }
}

fn tls_failure(error: &rustls::Error) -> HandshakeCause {
    use rustls::Error as E;
    match error {
        E::AlertReceived(_) => HandshakeCause::Alert,
        E::PeerIncompatible(_) => HandshakeCause::Incompatible,
        E::InvalidMessage(_) => HandshakeCause::NotTls,
        E::InvalidCertificate(_) | E::NoCertificatesPresented => HandshakeCause::ClientCertificate,
        _ => HandshakeCause::Other,
    }
}
