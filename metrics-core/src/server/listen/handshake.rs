//! The TLS handshake, and the causes of its failures.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crds::cause::HandshakeCause;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::places::Source;
use super::turns::Turns;

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
            "a client's certificate is invalid: no proof that it has the private key, or a chain that is too long"
        }
        HandshakeCause::Other => "the handshake failed",
    }
}

/// Waits for the first byte. It distinguishes HTTP from TLS, so that an HTTP client gets a response that it can read.
pub(super) async fn first_byte<S>(stream: &mut S) -> Result<u8, (HandshakeCause, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0_u8];
    let cause = match stream.read(&mut first).await {
        Ok(0) => HandshakeCause::Closed,
        Err(error) => io_failure(&error, true),
        Ok(_) if first[0] == 0x16 => return Ok(first[0]),
        Ok(_) if first[0].is_ascii_uppercase() => {
            respond_to_http(stream).await;
            HandshakeCause::PlainHttp
        }
        Ok(_) => HandshakeCause::NotTls,
    };
    Err((cause, String::new()))
}

/// Performs the handshake. The error has the cause and details for the log, which can be empty.
pub(super) async fn accept<S>(
    stream: S,
    config: Arc<rustls::ServerConfig>,
    turns: &Arc<Turns>,
    source: Source,
) -> Result<TlsStream<S>, (HandshakeCause, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: io::Error| {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .map_or_else(|| io_failure(&error, false), tls_failure);
        (cause, format!(" ({error})"))
    };
    // Reading the client's hello costs next to nothing. A turn begins when it is complete, so that nobody waits for
    // a client.
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await.map_err(failed)?;
    let turn = turns.next(source).await;
    let mut accepting = pin!(hello.into_stream(config));
    // The first poll computes everything up to the server's flight.
    let polled = futures::poll!(accepting.as_mut());
    drop(turn);
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => accepting.await,
    }
    .map_err(failed)
}

async fn respond_to_http<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    const RESPONSE: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // Read the request: closing with unread data resets the connection before the client has read the response.
    let mut sent = [0_u8; 4096];
    let _ = futures::poll!(pin!(stream.read(&mut sent)));
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
