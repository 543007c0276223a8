//! The accept loop, and its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{self, Port};
use super::metrics::Close;
use super::{Chain, Limits, Metrics};

/// Takes connections until `stop` resolves; then closes the port, lets open requests end within the limits' drain
/// time, and returns.
pub async fn serve(
    listener: TcpListener,
    config: rustls::ServerConfig,
    chain: Arc<Chain>,
    limits: Limits,
    metrics: Metrics,
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
            Ok((stream, peer)) => {
                let Ok(permit) = permits.clone().try_acquire_owned() else {
                    port.metrics.closed(Close::TooMany);
                    continue;
                };
                let (port, closing) = (port.clone(), closing.clone());
                connections.spawn(async move {
                    connection::serve(port, stream, peer, closing).await;
                    drop(permit);
                });
            }
            // Out of file descriptors, mostly; a pause lets some go.
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
            "requests were still open after {drain:?} and are broken off"
        );
    }
}
