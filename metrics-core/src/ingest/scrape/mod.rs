//! Scrapes the resource metrics of every kubelet and writes them to the store.
//!
//! One task owns the [`schedule`] and spawns a short task for each scrape. A node's [`Target`], with its
//! connection, moves into that task and back. A slow or dead node does not delay others: its scrape has a timeout,
//! its failure is counted by reason, and it is retried after a pause that grows with the number of failing nodes.

mod buffers;
mod client;
mod endpoints;
mod error;
mod failures;
#[doc(hidden)]
#[allow(clippy::missing_panics_doc)]
pub mod fuzzing;
mod inflate;
#[doc(hidden)]
pub mod interop;
mod kubelet_verifier;
mod log_limit;
mod metrics;
mod pins;
mod reload;
mod resolver;
mod response;
mod sample_issues;
mod schedule;
mod session;
mod target;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::cause::ScrapeCause;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use self::buffers::BufferPool;
use self::endpoints::{Endpoint, Endpoints};
pub(crate) use self::error::Error;
pub(crate) use self::failures::Failures;
use self::log_limit::{LogDecision, LogLimit};
pub(crate) use self::metrics::ScrapeMetrics;
pub(crate) use self::pins::Pins;
use self::reload::ReloadedFile;
use self::resolver::Resolver;
pub(crate) use self::sample_issues::SampleIssueTracker;
use self::sample_issues::{CONFIRM_PAUSE, Detail, Finding, Recorded};
use self::schedule::{Id, Schedule, ScrapeOutcome};
use self::target::Target;
use self::tls::TlsConfigs;
use crate::ingest::discover::Node;
use crate::ingest::store::{PutSummary, Store, StoreDirectory, Ticket};
use crate::memory::MemoryBudget;
use crate::telemetry::Heartbeat;
use crate::watched_file::Source;

/// The maximum pause of the scrape loop, so that its heartbeat continues when there is nothing to scrape.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Configures the scraper.
#[derive(Clone, Debug)]
pub(crate) struct ScrapeConfig {
    /// The time between two scrapes of a node.
    pub(crate) scrape_interval: Duration,
    /// The timeout of a scrape, including connecting, over all addresses of a node together.
    pub(crate) timeout: Duration,
    /// How kubelets' serving certificates are verified.
    pub(crate) tls: KubeletTls,
    /// The credentials that kubelets receive.
    pub(crate) credentials: Credentials,
    /// The budget from which the memory of responses is reserved.
    pub(crate) memory: Arc<MemoryBudget>,
}

/// How kubelets' serving certificates are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KubeletTls {
    /// Accepts a certificate that is signed by one of these CAs (PEM; reloaded when the file changes) and contains
    /// the address that was dialled, or one of the Node's own names or addresses.
    Verify {
        /// The CA certificates.
        ca: Source,
    },
    /// Also accepts a certificate that is not signed by a trusted CA if its key is the first one seen for this Node
    /// (trust on first use).
    Pin {
        /// The CA certificates.
        ca: Source,
    },
    /// Accepts any certificate. Whoever can impersonate a kubelet receives the token.
    Insecure,
}

/// The credentials that kubelets receive. Files are reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A bearer token.
    Token(Source),
    /// This client certificate (PEM).
    ClientCertificate {
        /// The certificate and its intermediates.
        cert: Source,
        /// The private key.
        key: Source,
    },
}

/// What all scrapes share.
struct ScrapeContext {
    timeout: Duration,
    tls: TlsConfigs,
    token: Option<ReloadedFile<String>>,
    /// Whether only a Node's first address is used: a token must not go to further hosts that nobody verifies, down to an
    /// ExternalIP, only because the first one is slow.
    first_address_only: bool,
    resolver: Resolver,
    pool: BufferPool,
    directory: Arc<StoreDirectory>,
    store: Arc<Store>,
    metrics: ScrapeMetrics,
    findings: Findings,
}

/// What the scraper reports about kubelets. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The nodes whose scrapes fail.
    pub(crate) failures: Failures,
    /// The nodes whose samples are incomplete or wrong.
    pub(crate) samples: SampleIssueTracker,
    /// The kubelets whose keys are pinned.
    pub(crate) pins: Pins,
    /// Beats when the scrape loop runs, at least every [`MAX_PAUSE`].
    pub(crate) loop_heartbeat: Heartbeat,
    /// Beats when a scrape ends, and while there is no node.
    pub(crate) scrape_heartbeat: Heartbeat,
}

impl Findings {
    /// Returns empty findings for a scrape interval.
    #[must_use]
    pub(crate) fn new(scrape_interval: Duration) -> Self {
        Self { samples: SampleIssueTracker::new(scrape_interval), ..Self::default() }
    }
}

/// Scrapes the nodes of `directory` until dropped and records what it finds in `findings`.
pub(crate) async fn run(
    config: ScrapeConfig,
    directory: Arc<StoreDirectory>,
    store: Arc<Store>,
    metrics: ScrapeMetrics,
    findings: Findings,
) {
    let interval_ms = u64::try_from(config.scrape_interval.as_millis()).unwrap_or(u64::MAX);
    let shared = Arc::new(ScrapeContext {
        timeout: config.timeout,
        tls: TlsConfigs::new(&config.tls, &config.credentials, config.scrape_interval, findings.pins.clone()),
        token: match config.credentials.clone() {
            Credentials::Token(source) => Some(tls::token(source)),
            Credentials::ClientCertificate { .. } => None,
        },
        first_address_only: first_address_only(&config.tls, &config.credentials),
        resolver: Resolver::default(),
        pool: BufferPool::new(config.memory, config.timeout / 2),
        directory: directory.clone(),
        store,
        metrics,
        findings,
    });
    let mut scraper = Scraper {
        schedule: Schedule::new(interval_ms, fastrand::u64(..)),
        entries: HashMap::new(),
        names: HashMap::new(),
        endpoints: Endpoints::default(),
        next_id: 0,
        log_limit: LogLimit::default(),
        running: JoinSet::new(),
        shared,
    };
    loop {
        scraper.start_due();
        scraper.beat();
        let next = scraper.schedule.next_ms();
        let pause = next.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(directory.now_ms())));
        tokio::select! {
            changed = directory.changed_nodes() => {
                for name in changed {
                    scraper.sync_node(&name);
                }
            }
            Some(finished) = scraper.running.join_next() => match finished {
                Ok(finished) => scraper.finish(finished),
                // Unreachable: a scrape does not panic, and only dropping this future cancels one.
                Err(error) => tracing::error!(%error, "a scrape task ended without a result"),
            },
            () = tokio::time::sleep(pause.unwrap_or(MAX_PAUSE).min(MAX_PAUSE)) => {}
        }
    }
}

/// Returns whether the credentials are a token, and kubelets are not verified by a CA alone.
fn first_address_only(tls: &KubeletTls, credentials: &Credentials) -> bool {
    matches!(credentials, Credentials::Token(_)) && !matches!(tls, KubeletTls::Verify { .. })
}

struct Scraper {
    schedule: Schedule,
    entries: HashMap<Id, ScrapedNode>,
    names: HashMap<Arc<str>, Id>,
    endpoints: Endpoints,
    next_id: Id,
    log_limit: LogLimit,
    running: JoinSet<FinishedScrape>,
    shared: Arc<ScrapeContext>,
}

struct ScrapedNode {
    node: Arc<Node>,
    ticket: Ticket,
    /// `None` during a scrape. Boxed because it moves at each scrape and because hash tables are half empty.
    target: Option<Box<Target>>,
    /// Why the last scrape failed.
    failure: Option<ScrapeCause>,
    /// Where the node responded to the last scrape.
    endpoint: Option<Endpoint>,
}

struct FinishedScrape {
    id: Id,
    target: Box<Target>,
    requested_ms: u64,
    result: Result<PutSummary, Error>,
}

impl Scraper {
    /// Records that the loop runs.
    fn beat(&self) {
        let findings = &self.shared.findings;
        findings.loop_heartbeat.beat();
        if self.entries.is_empty() {
            findings.scrape_heartbeat.beat();
        }
    }

    /// Handles a node that was added, removed or changed.
    fn sync_node(&mut self, name: &Arc<str>) {
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
                for address in &entry.node.addresses {
                    if !node.addresses.contains(address) {
                        self.shared.resolver.forget(&address.host);
                    }
                }
                if entry.node.uid != node.uid {
                    self.forget(id);
                    self.admit(node, now_ms);
                    return;
                }
                // The cause of a failure may be gone: the endpoint changed, or the Node is Ready again.
                let endpoint_changed = entry.node.addresses != node.addresses
                    || entry.node.port != node.port
                    || entry.node.path != node.path;
                let recovered = entry.failure.is_some() && node.ready && !entry.node.ready;
                entry.node = node.clone();
                self.shared.store.update_node(entry.ticket, &node);
                if let Some(target) = &mut entry.target {
                    target.update(node);
                }
                if endpoint_changed || recovered {
                    self.schedule.wake(id, now_ms);
                }
            }
        }
    }

    fn admit(&mut self, node: Arc<Node>, now_ms: u64) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let ticket = self.shared.store.insert_node(&node);
        self.names.insert(node.name.clone(), id);
        let target = Some(Box::new(Target::new(node.clone())));
        self.entries.insert(id, ScrapedNode { node, ticket, target, failure: None, endpoint: None });
        self.schedule.insert(id, now_ms);
    }

    fn forget(&mut self, id: Id) {
        self.schedule.remove(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.names.remove(&entry.node.name);
            self.shared.store.remove_node(entry.ticket);
            self.endpoints.move_node(entry.endpoint, None);
            for address in &entry.node.addresses {
                self.shared.resolver.forget(&address.host);
            }
            self.shared.findings.pins.forget(&entry.node.uid);
            self.shared.findings.samples.forget(&entry.node.name);
            if entry.failure.is_some() {
                self.shared.findings.failures.resolved(&entry.node.name);
            }
        }
    }

    fn start_due(&mut self) {
        let requested_ms = self.shared.directory.now_ms();
        for id in self.schedule.take(requested_ms) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(mut target) = entry.target.take() else { continue };
            let (shared, ticket) = (self.shared.clone(), entry.ticket);
            // Evaluates its fields only if the level is enabled.
            let span = tracing::debug_span!("scrape", node = &**target.name());
            let scrape = async move {
                let result = scrape(&shared, &mut target, ticket, requested_ms).await;
                FinishedScrape { id, target, requested_ms, result }
            };
            self.running.spawn(scrape.instrument(span));
        }
    }

    fn finish(&mut self, finished: FinishedScrape) {
        let FinishedScrape { id, mut target, requested_ms, result } = finished;
        self.shared.findings.scrape_heartbeat.beat();
        let now_ms = self.shared.directory.now_ms();
        let took = Duration::from_millis(now_ms.saturating_sub(requested_ms));
        self.shared.metrics.scrape_finished(result.as_ref().err(), took);
        let Some(entry) = self.entries.get_mut(&id) else {
            // The Node was deleted during the scrape. Remove its series, too, unless a Node of this name exists
            // again.
            if !self.names.contains_key(target.name()) {
                self.shared.metrics.forget(target.name());
            }
            return;
        };
        let outcome = match &result {
            Ok(put) => outcome(put),
            Err(_) => ScrapeOutcome::Failed,
        };
        let endpoint = match (&result, target.responder()) {
            (Ok(_), Some((address, node))) => Some(self.endpoints.endpoint(address, node.port, &node.path)),
            _ => None,
        };
        self.endpoints.move_node(entry.endpoint, endpoint);
        entry.endpoint = endpoint;
        let failure = result.as_ref().err().map(Error::cause);
        if failure != entry.failure
            && let LogDecision::Write { suppressed } = self.log_limit.request(now_ms)
        {
            log_transition(&entry.node, &result, suppressed);
        }
        if let Err(error) = &result {
            self.shared.store.scrape_failed(entry.ticket);
            self.shared.findings.failures.record(&entry.node.name, error, || target.last_address());
        } else if entry.failure.is_some() {
            self.shared.findings.failures.resolved(&entry.node.name);
        }
        entry.failure = failure;
        target.update(entry.node.clone());
        entry.target = Some(target);
        self.schedule.finish(id, now_ms, outcome);
        if let Ok(put) = &result {
            self.record_samples(id, put, now_ms);
        }
    }

    /// Records what is wrong with the samples of a response.
    fn record_samples(&mut self, id: Id, put: &PutSummary, now_ms: u64) {
        let Some(entry) = self.entries.get(&id) else { return };
        let found = Finding::all(&put.problems, self.shared_endpoint(id, entry));
        let recorded = self.shared.findings.samples.record(&entry.node.name, found, Instant::now());
        if recorded.confirm {
            let pause_ms = u64::try_from(CONFIRM_PAUSE.as_millis()).unwrap_or(u64::MAX);
            self.schedule.wake(id, now_ms.saturating_add(pause_ms));
        }
        if recorded.is_empty() {
            return;
        }
        if let LogDecision::Write { suppressed } = self.log_limit.request(now_ms) {
            log_issues(&entry.node, &recorded, suppressed);
        }
    }

    /// Returns the endpoint of a node and the name of another Node there, if there is one.
    fn shared_endpoint(&self, id: Id, entry: &ScrapedNode) -> Option<Detail> {
        let endpoint = entry.endpoint.filter(|endpoint| self.endpoints.is_shared(*endpoint))?;
        let (address, node) = entry.target.as_ref()?.responder()?;
        let others =
            self.entries.iter().filter(|(other, entry)| **other != id && entry.endpoint == Some(endpoint));
        // The first by name, so that the message does not change with every scrape.
        let other = others.map(|(_, entry)| &entry.node.name).min()?;
        let endpoint = std::net::SocketAddr::new(address, node.port);
        Some(Detail::SharedEndpoint {
            endpoint: format!("{endpoint}{}", node.path).into(),
            other: (**other).into(),
        })
    }
}

fn log_suppressed(lines: u32) {
    if lines > 0 {
        tracing::warn!("{lines} more nodes started or stopped failing; their log lines were suppressed");
    }
}

/// Logs that a node started or stopped failing, or fails for another cause.
fn log_transition(node: &Node, result: &Result<PutSummary, Error>, suppressed: u32) {
    log_suppressed(suppressed);
    let (node, ready) = (&*node.name, node.ready);
    if let Err(error) = result {
        tracing::warn!(node, ready, reason = error.cause().as_str(), "scraping failed: {error}");
    } else {
        tracing::info!(node, ready, "scraping recovered");
    }
}

/// Logs issues with a node's samples that are reported or resolved.
fn log_issues(node: &Node, recorded: &Recorded, suppressed: u32) {
    log_suppressed(suppressed);
    let node = &*node.name;
    for (cause, message) in &recorded.reported {
        tracing::warn!(node, cause = cause.as_str(), "the samples are faulty: {message}");
    }
    for cause in &recorded.resolved {
        tracing::info!(node, cause = cause.as_str(), "the samples recovered");
    }
}

fn outcome(put: &PutSummary) -> ScrapeOutcome {
    // Containers are sampled at the request, so the newest sample shows the node's clock.
    let age_ns = put.newest_timestamp_ns.zip(put.node_timestamp_ns).map(|(newest, node)| newest - node);
    ScrapeOutcome::Stored {
        pods_measured: put.pods_measured,
        node_measured: put.node_measured,
        node_age_ms: age_ns.and_then(|age_ns| u64::try_from(age_ns / 1_000_000).ok()),
    }
}

async fn scrape(
    shared: &ScrapeContext,
    target: &mut Target,
    ticket: Ticket,
    requested_ms: u64,
) -> Result<PutSummary, Error> {
    let started = Instant::now();
    let response = tokio::time::timeout(shared.timeout, target.scrape(shared, ticket, requested_ms)).await;
    let result = match response {
        Ok(result) => result,
        Err(_) => Err(target.timeout_error().await),
    };
    let elapsed = started.elapsed();
    shared.metrics.requested(target.name(), elapsed);
    match &result {
        Ok(_) => tracing::debug!(?elapsed, "scraped the kubelet"),
        Err(error) => tracing::debug!(?elapsed, reason = error.cause().as_str(), "scraping failed: {error}"),
    }
    if matches!(result, Err(Error::Unauthorized)) {
        if let Some(token) = &shared.token {
            token.recheck();
        }
        shared.tls.recheck();
    }
    result
}
