//! Asks every kubelet for its resource metrics and puts the answers into the store.
//!
//! One task keeps the [`schedule`] and starts a short task for each node that is due; a node's connection
//! rests in the task's entry between two scrapes and moves into the short task for one. A node that is slow
//! or dead holds up nobody: its time is bounded, its failure is counted by reason, and it is asked again
//! after a pause that grows with the number of those that fail.

mod buffers;
mod client;
mod error;
mod failures;
#[doc(hidden)]
#[allow(clippy::missing_panics_doc)]
pub mod fuzzing;
mod inflate;
mod log;
mod metrics;
mod pins;
mod reload;
mod response;
mod schedule;
mod session;
#[cfg(test)]
mod session_tests;
mod target;
#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::ScrapeCause;
use tokio::task::JoinSet;

use self::buffers::Pool;
pub use self::error::Error;
pub use self::failures::Failures;
use self::log::{Budget, Line};
pub use self::metrics::Metrics;
pub use self::pins::{Mismatch, Pins};
use self::reload::Reloaded;
use self::schedule::{Id, Outcome, Schedule};
use self::target::Target;
use self::tls::Tls;
use crate::ingest::discover::Node;
use crate::ingest::store::{Directory, Put, Store, Ticket};

/// How to scrape.
#[derive(Clone, Debug)]
pub struct Config {
    /// The time between two scrapes of a node.
    pub resolution: Duration,
    /// The time a scrape may take, with connecting, at all addresses of a node together.
    pub timeout: Duration,
    /// Whom to take for a kubelet.
    pub tls: KubeletTls,
    /// Who we are.
    pub credentials: Credentials,
}

/// Whom to take for a kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeletTls {
    /// Who has a certificate of these CAs (PEM; read again when it changes) with the address that is
    /// dialled, or one of the Node's own names or addresses.
    Verify {
        /// The file with the CA certificates.
        ca_file: PathBuf,
    },
    /// The same, and who has a certificate for which no CA vouches, if its key is the one that was first seen of this
    /// Node.
    Pin {
        /// The file with the CA certificates.
        ca_file: PathBuf,
    },
    /// Anyone. Whoever can take a kubelet's place gets our token.
    Insecure,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The bearer token in this file, read again when it changes.
    TokenFile(PathBuf),
    /// This client certificate, read again when it changes (PEM).
    ClientCertificate {
        /// The file with the certificate and its intermediates.
        cert: PathBuf,
        /// The file with the private key.
        key: PathBuf,
    },
}

/// What all scrapes share.
struct Shared {
    timeout: Duration,
    tls: Tls,
    token: Option<Reloaded<String>>,
    pool: Pool,
    directory: Arc<Directory>,
    store: Arc<Store>,
    metrics: Metrics,
    findings: Findings,
}

/// What is found out of kubelets, for the report. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The nodes that fail.
    pub failures: Failures,
    /// The kubelets whose keys are pinned.
    pub pins: Pins,
}

/// Scrapes the nodes of `directory` until dropped, and notes in `findings` how they fare.
pub async fn run(
    config: Config,
    directory: Arc<Directory>,
    store: Arc<Store>,
    metrics: Metrics,
    findings: Findings,
) {
    let resolution_ms = u64::try_from(config.resolution.as_millis()).unwrap_or(u64::MAX);
    let shared = Arc::new(Shared {
        timeout: config.timeout,
        tls: Tls::new(&config.tls, &config.credentials, config.resolution, findings.pins.clone()),
        token: match config.credentials {
            Credentials::TokenFile(path) => Some(tls::token(path)),
            Credentials::ClientCertificate { .. } => None,
        },
        pool: Pool::default(),
        directory: directory.clone(),
        store,
        metrics,
        findings,
    });
    let mut scraper = Scraper {
        schedule: Schedule::new(resolution_ms, fastrand::u64(..)),
        entries: HashMap::new(),
        names: HashMap::new(),
        next_id: 0,
        log: Budget::default(),
        running: JoinSet::new(),
        shared,
    };
    loop {
        scraper.start_due();
        let next = scraper.schedule.next_ms();
        let pause = next.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(directory.now_ms())));
        tokio::select! {
            changed = directory.changed_nodes() => {
                for name in changed {
                    scraper.look_at(&name);
                }
            }
            Some(ended) = scraper.running.join_next() => match ended {
                Ok(ended) => scraper.end(ended),
                // Cannot happen: nothing in a scrape panics, and only dropping this future cancels one.
                Err(error) => tracing::error!(%error, "a scrape was lost"),
            },
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

struct Scraper {
    schedule: Schedule,
    entries: HashMap<Id, Entry>,
    names: HashMap<Arc<str>, Id>,
    next_id: Id,
    log: Budget,
    running: JoinSet<Ended>,
    shared: Arc<Shared>,
}

struct Entry {
    node: Arc<Node>,
    ticket: Ticket,
    /// `None` while it is being asked. Apart, as it moves at each scrape, and as a table is half empty.
    target: Option<Box<Target>>,
    /// Why the last scrape failed.
    failure: Option<ScrapeCause>,
}

struct Ended {
    id: Id,
    target: Box<Target>,
    requested_ms: u64,
    result: Result<Put, Error>,
}

impl Scraper {
    /// A node came, went or changed.
    fn look_at(&mut self, name: &Arc<str>) {
        let now_ms = self.shared.directory.now_ms();
        let node = self.shared.directory.nodes().get(name).cloned();
        let known = self.names.get(name).copied();
        match (known, node) {
            (None, None) => {}
            (None, Some(node)) => self.admit(node, now_ms),
            (Some(id), None) => {
                self.forget(id);
                self.shared.metrics.forget(name);
            }
            (Some(id), Some(node)) => {
                let Some(entry) = self.entries.get_mut(&id) else { return };
                if entry.node.uid != node.uid {
                    self.forget(id);
                    self.admit(node, now_ms);
                    return;
                }
                // Whatever may have been in the way may be gone: another address, or Ready again.
                let elsewhere = entry.node.addresses != node.addresses
                    || entry.node.port != node.port
                    || entry.node.path != node.path;
                let mended = entry.failure.is_some() && node.ready && !entry.node.ready;
                entry.node = node.clone();
                if let Some(target) = &mut entry.target {
                    target.update(node);
                }
                if elsewhere || mended {
                    self.schedule.wake(id, now_ms);
                }
            }
        }
    }

    fn admit(&mut self, node: Arc<Node>, now_ms: u64) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let ticket = self.shared.store.admit(&node);
        self.names.insert(node.name.clone(), id);
        let target = Some(Box::new(Target::new(node.clone())));
        self.entries.insert(id, Entry { node, ticket, target, failure: None });
        self.schedule.insert(id, now_ms);
    }

    fn forget(&mut self, id: Id) {
        self.schedule.remove(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.names.remove(&entry.node.name);
            self.shared.store.remove(entry.ticket);
            self.shared.findings.pins.forget(&entry.node.uid);
            if entry.failure.is_some() {
                self.shared.findings.failures.over(&entry.node.name);
            }
        }
    }

    fn start_due(&mut self) {
        let requested_ms = self.shared.directory.now_ms();
        for id in self.schedule.take(requested_ms) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(mut target) = entry.target.take() else { continue };
            let (shared, ticket) = (self.shared.clone(), entry.ticket);
            self.running.spawn(async move {
                let result = scrape(&shared, &mut target, ticket, requested_ms).await;
                Ended { id, target, requested_ms, result }
            });
        }
    }

    fn end(&mut self, ended: Ended) {
        let Ended { id, mut target, requested_ms, result } = ended;
        let now_ms = self.shared.directory.now_ms();
        let took = Duration::from_millis(now_ms.saturating_sub(requested_ms));
        self.shared.metrics.ended(result.as_ref().err(), took);
        let Some(entry) = self.entries.get_mut(&id) else {
            // The node went; what was just counted for it goes too, unless it is back.
            if !self.names.contains_key(target.name()) {
                self.shared.metrics.forget(target.name());
            }
            return;
        };
        let outcome = match &result {
            Ok(put) => outcome_of(put),
            Err(_) => Outcome::Failed,
        };
        let failure = result.as_ref().err().map(Error::cause);
        if failure != entry.failure
            && let Line::Write { withheld } = self.log.line(now_ms)
        {
            tell(&entry.node, &result, withheld);
        }
        if let Err(error) = &result {
            self.shared.store.failed(entry.ticket);
            self.shared.findings.failures.failed(&entry.node.name, error, || target.asked());
        } else if entry.failure.is_some() {
            self.shared.findings.failures.over(&entry.node.name);
        }
        entry.failure = failure;
        target.update(entry.node.clone());
        entry.target = Some(target);
        self.schedule.done(id, now_ms, outcome);
    }
}

/// Logs how a node fares, once for each cause.
fn tell(node: &Node, result: &Result<Put, Error>, withheld: u32) {
    if withheld > 0 {
        tracing::warn!("{withheld} further nodes changed between failing and working, not told one by one");
    }
    let (node, ready) = (&*node.name, node.ready);
    if let Err(error) = result {
        tracing::warn!(node, ready, reason = error.cause().as_str(), "scraping failed: {error}");
    } else {
        tracing::info!(node, ready, "scraping works again");
    }
}

fn outcome_of(put: &Put) -> Outcome {
    // Containers are sampled at the request, so the newest of them tells the node's time.
    let age_ns = put.newest_timestamp_ns.zip(put.node_timestamp_ns).map(|(newest, node)| newest - node);
    Outcome::Stored {
        pods_measured: put.pods_measured,
        node_measured: put.node_measured,
        node_age_ms: age_ns.and_then(|age_ns| u64::try_from(age_ns / 1_000_000).ok()),
    }
}

async fn scrape(
    shared: &Shared,
    target: &mut Target,
    ticket: Ticket,
    requested_ms: u64,
) -> Result<Put, Error> {
    let started = Instant::now();
    let asked = tokio::time::timeout(shared.timeout, target.ask(shared, ticket, requested_ms)).await;
    let result = match asked {
        Ok(result) => result,
        Err(_) => Err(target.late().await),
    };
    shared.metrics.asked(target.name(), started.elapsed());
    if matches!(result, Err(Error::Unauthorized)) {
        if let Some(token) = &shared.token {
            token.expire();
        }
        shared.tls.expire();
    }
    result
}
