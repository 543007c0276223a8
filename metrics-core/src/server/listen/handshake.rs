//! The TLS handshake, and what it means when there is none.

use std::io;
use std::sync::Arc;

use crds::cause::HandshakeCause;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a failure means, for people.
pub(super) const fn meaning(cause: HandshakeCause) -> &'static str {
    match cause {
        HandshakeCause::Closed => {
            "a client opened a connection and closed it without a word; kube-apiserver's availability checks and TCP probes do so, it is harmless"
        }
        HandshakeCause::ClosedMidway => {
            "a client went away during the handshake; kube-apiserver does so when another of its parallel checks was quicker"
        }
        HandshakeCause::Timeout => "a client did not complete the handshake in time",
        HandshakeCause::PlainHttp => "a client spoke http to the https port",
        HandshakeCause::NotTls => "a client spoke something else than TLS",
        HandshakeCause::Alert => {
            "a client refused this server: mostly its certificate (APIService caBundle, or a client that does not know the CA)"
        }
        HandshakeCause::Incompatible => {
            "client and server have no TLS version, cipher suite or group in common"
        }
        HandshakeCause::ClientCertificate => {
            "a client could not prove that it holds the key of the certificate it showed"
        }
        HandshakeCause::Other => "the handshake failed",
    }
}

/// Shakes hands. The error's text, if any, has particulars for the log.
pub(super) async fn shake(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> Result<TlsStream<TcpStream>, (HandshakeCause, String)> {
    // One look at the first byte tells http from TLS, so that http gets an answer that its client can read.
    let mut first = [0_u8];
    match stream.peek(&mut first).await {
        Ok(0) => return Err((HandshakeCause::Closed, String::new())),
        Err(error) => return Err((io_failure(&error, true), String::new())),
        Ok(_) if first[0] == 0x16 => {}
        Ok(_) if first[0].is_ascii_uppercase() => {
            answer_http(stream).await;
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

async fn answer_http(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // Take what was sent, or closing resets the connection before the client has read the answer.
    let mut sent = [0_u8; 4096];
    let _ = stream.try_read(&mut sent);
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}

fn io_failure(error: &io::Error, before_a_word: bool) -> HandshakeCause {
    use io::ErrorKind as K;
    match error.kind() {
        K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected => {
            if before_a_word {
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
