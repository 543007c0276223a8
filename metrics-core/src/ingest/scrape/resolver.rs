//! Resolves host names of kubelets.
//!
//! The system's resolver blocks a thread, during a DNS outage for up to a minute. The number of these threads is limited,
//! so that reloads of files and everything else that needs a thread are not delayed; a name has one lookup at a time,
//! and its last good result is used while a lookup takes long or fails.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The maximum number of threads in lookups.
const MAX_LOOKUPS: usize = 16;
/// How long a lookup may take before the last good result is used instead.
const PATIENCE: Duration = Duration::from_millis(500);
/// The maximum number of names. Those of deleted nodes are forgotten earlier.
const MAX_NAMES: usize = 32 * 1024;
/// The maximum number of addresses of a name.
const MAX_ADDRESSES: usize = 16;

/// Looks a name up. Blocks.
pub(super) type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;
/// Addresses, or what is wrong with the name.
type Resolved = Result<Arc<[IpAddr]>, Arc<io::Error>>;

/// The resolver. Clones share their lookups.
#[derive(Clone)]
pub(super) struct Resolver {
    look_up: LookUp,
    permits: Arc<Semaphore>,
    names: Arc<Mutex<HashMap<Box<str>, Name>>>,
}

/// What is known of a name.
#[derive(Default)]
struct Name {
    last_good: Option<Arc<[IpAddr]>>,
    lookup: Option<Shared<BoxFuture<'static, Resolved>>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }
}

impl Resolver {
    /// Returns a resolver that looks names up with `look_up`.
    pub(super) fn new(look_up: LookUp) -> Self {
        Self { look_up, permits: Arc::new(Semaphore::new(MAX_LOOKUPS)), names: Arc::default() }
    }

    /// Returns the addresses of `host`, which may itself be an address.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let with_port =
            |addresses: &[IpAddr]| addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        if let Ok(address) = host.parse() {
            return Ok(with_port(&[address]));
        }
        let last_good = self.names.lock().get(host).and_then(|name| name.last_good.clone());
        let lookup = self.look_up(host);
        let resolved = match &last_good {
            Some(_) => timeout(PATIENCE, lookup).await.ok(),
            None => Some(lookup.await),
        };
        match (resolved, last_good) {
            (Some(Ok(addresses)), _) | (_, Some(addresses)) => Ok(with_port(&addresses)),
            (Some(Err(error)), None) => Err(io::Error::new(error.kind(), error.to_string())),
            (None, None) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Forgets a name.
    pub(super) fn forget(&self, host: &str) {
        self.names.lock().remove(host);
    }

    /// Joins the lookup of a name that is under way, or starts one when a thread is free.
    async fn look_up(&self, host: &str) -> Resolved {
        let running = self.names.lock().get(host).and_then(Name::running);
        if let Some(running) = running {
            return running.await;
        }
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let lookup = {
            let mut names = self.names.lock();
            if names.len() >= MAX_NAMES {
                names.clear();
            }
            let name = names.entry(host.into()).or_default();
            match name.running() {
                Some(running) => running,
                None => name.lookup.insert(self.start(host.into(), permit)).clone(),
            }
        };
        lookup.await
    }

    /// Starts a lookup. It continues also when nothing waits for it any more.
    fn start(&self, host: Box<str>, permit: OwnedSemaphorePermit) -> Shared<BoxFuture<'static, Resolved>> {
        let (look_up, names) = (self.look_up, self.names.clone());
        let blocking = tokio::task::spawn_blocking(move || {
            let resolved = look_up(&host).and_then(|mut addresses| {
                addresses.truncate(MAX_ADDRESSES);
                if addresses.is_empty() { Err(no_address()) } else { Ok(Arc::from(addresses)) }
            });
            if let (Ok(addresses), Some(name)) = (&resolved, names.lock().get_mut(&host)) {
                name.last_good = Some(Arc::clone(addresses));
            }
            drop(permit);
            resolved.map_err(Arc::new)
        });
        async move { blocking.await.map_err(|_| closed())? }.boxed().shared()
    }
}

impl Name {
    fn running(&self) -> Option<Shared<BoxFuture<'static, Resolved>>> {
        self.lookup.clone().filter(|lookup| lookup.peek().is_none())
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// Only when the runtime shuts down.
fn closed() -> Arc<io::Error> {
    Arc::new(io::ErrorKind::Other.into())
}
