//! The accept loop and graceful shutdown.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{self, Port};
use super::places::{Places, Source};
use super::turns::Turns;
use super::{Chain, ConnectionMetrics, Limits};

/// A source of connections.
pub trait Listener: Send {
    /// The byte stream of a connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection. Must be cancel safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        let _ = stream.set_nodelay(true);
        Ok((stream, address))
    }
}

/// Accepts connections until `stop` resolves. Then closes the port and returns when open requests are finished, or
/// after the drain timeout.
pub async fn serve(
    mut listener: impl Listener,
    config: rustls::ServerConfig,
    chain: Arc<Chain>,
    limits: Limits,
    metrics: ConnectionMetrics,
    stop: impl Future<Output = ()>,
) {
    let places = Places::new(limits.connections, limits.memory.clone(), metrics.clone());
    let drain = limits.drain;
    let config = Arc::new(config);
    let port = Arc::new(Port { chain, config, limits, turns: Arc::new(Turns::default()), metrics });
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.as_mut() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = places.admit(Source::from(address.ip()), connection::SILENT_BYTES) else {
                    continue;
                };
                connections.spawn(connection::serve(port.clone(), stream, address, place, closing.clone()));
            }
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Usually out of file descriptors. An idle connection has one, but it takes a moment to close.
            Err(error) => {
                let evicted = places.evict_one();
                if !evicted {
                    tracing::warn!("can't accept a connection: {error}");
                }
                sleep(Duration::from_millis(if evicted { 1 } else { 100 })).await;
            }
        }
    }
    drop(listener);
    let _ = close.send(true);
    let drained = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(
            open = connections.len(),
            "closing connections with requests that are still open after the drain timeout of {drain:?}"
        );
    }
}
