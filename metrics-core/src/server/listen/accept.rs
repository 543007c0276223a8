//! The accept loop and graceful shutdown.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{self, Port};
use super::metrics::CloseCause;
use super::{Chain, ConnectionMetrics, Limits};

/// Accepts connections until `stop` resolves. Then closes the port and returns when open requests are finished, or
/// after the drain timeout.
pub async fn serve(
    listener: TcpListener,
    config: rustls::ServerConfig,
    chain: Arc<Chain>,
    limits: Limits,
    metrics: ConnectionMetrics,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let drain = limits.drain;
    let port = Arc::new(Port { chain, config: Arc::new(config), limits, metrics });
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
                let Ok(permit) = permits.clone().try_acquire_owned() else {
                    port.metrics.closed(CloseCause::TooMany);
                    continue;
                };
                let (port, closing) = (port.clone(), closing.clone());
                connections.spawn(async move {
                    connection::serve(port, stream, address, closing).await;
                    drop(permit);
                });
            }
            // Usually out of file descriptors; a pause lets connections close.
            Err(error) => {
                tracing::warn!("can't accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
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
