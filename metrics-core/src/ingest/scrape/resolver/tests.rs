use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::*;

/// Set for names that begin with `hangs`, which resolve only when it is released.
struct Outage {
    released: Mutex<bool>,
    changed: Condvar,
    hanging: AtomicUsize,
}

static OUTAGE: Outage =
    Outage { released: Mutex::new(false), changed: Condvar::new(), hanging: AtomicUsize::new(0) };

impl Outage {
    fn hang(&self) {
        self.hanging.fetch_add(1, Ordering::SeqCst);
        let mut released = self.released.lock();
        while !*released {
            self.changed.wait(&mut released);
        }
    }

    fn release(&self) {
        *self.released.lock() = true;
        self.changed.notify_all();
    }
}

/// Releases the threads also when a test fails; the runtime waits for them.
struct ReleaseOnDrop;

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        OUTAGE.release();
    }
}

fn addresses(resolved: io::Result<Vec<SocketAddr>>) -> Vec<String> {
    resolved.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn addresses_need_no_lookup() {
    let resolver = Resolver::new(|_| panic!("no lookup"));
    assert_eq!(addresses(resolver.resolve("10.0.0.1", 10250).await), ["10.0.0.1:10250"]);
    assert_eq!(addresses(resolver.resolve("fd00::1", 1).await), ["[fd00::1]:1"]);
}

#[tokio::test(start_paused = true)]
async fn uses_the_last_good_result_while_lookups_fail_until_the_name_is_forgotten() {
    static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
    let resolver = Resolver::new(|_| match LOOKUPS.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(vec![Ipv4Addr::new(10, 0, 0, 1).into()]),
        1 => Ok(vec![Ipv4Addr::new(10, 0, 0, 2).into()]),
        2 => Err(io::Error::other("SERVFAIL")),
        3 => Ok(Vec::new()),
        _ => Err(io::Error::other("NXDOMAIN")),
    });
    for wanted in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:1", "10.0.0.2:1"] {
        assert_eq!(addresses(resolver.resolve("a", 1).await), [wanted]);
    }
    assert_eq!(LOOKUPS.load(Ordering::SeqCst), 4, "each time the name is looked up first");
    resolver.forget("a");
    assert_eq!(resolver.resolve("a", 1).await.unwrap_err().to_string(), "NXDOMAIN");
}

#[tokio::test]
async fn an_outage_holds_few_threads_and_delays_neither_files_nor_known_names() {
    let _release = ReleaseOnDrop;
    let resolver = Resolver::new(|host| {
        if host.starts_with("hangs") {
            OUTAGE.hang();
        } else if host == "known" && OUTAGE.hanging.load(Ordering::SeqCst) > 0 {
            return Err(io::Error::other("SERVFAIL"));
        }
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    });
    resolver.resolve("known", 1).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for at in 0..MAX_LOOKUPS * 4 {
        let resolver = resolver.clone();
        waiting.spawn(async move {
            let host = format!("hangs-{}", at % (MAX_LOOKUPS * 2));
            resolver.resolve(&host, 1).await.map(|addresses| addresses.len())
        });
    }
    while OUTAGE.hanging.load(Ordering::SeqCst) < MAX_LOOKUPS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A file is read at once, and a known name is served by its last good result.
    tokio::task::spawn_blocking(|| ()).await.unwrap();
    let start = Instant::now();
    assert_eq!(addresses(resolver.resolve("known", 1).await), ["127.0.0.1:1"]);
    assert!(start.elapsed() >= PATIENCE, "no thread was free");
    assert_eq!(OUTAGE.hanging.load(Ordering::SeqCst), MAX_LOOKUPS);
    // An abandoned lookup that has no thread yet does not get one.
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    OUTAGE.release();
    let late = resolver.resolve("late", 1).await;
    assert_eq!(addresses(late), ["127.0.0.1:1"]);
    assert_eq!(OUTAGE.hanging.load(Ordering::SeqCst), MAX_LOOKUPS);
}
