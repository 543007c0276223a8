//! The state of the observe step: what was read, and what must be read again.

mod polled;
mod polling;
mod reading;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::task::JoinSet;

use super::announced::Announced;
use super::freshness::{FailingSources, ReadFailure};
use super::nodes::Nodes;
use super::replicas::Trust;
use super::report_token::ReportToken;
use super::signing_requests::{PendingCount, SigningRequests};
use super::watches::{self, Changes, Known, Source};
use super::{ExpectedCertificate, Found, FrontProxyMap, Learned, Observed, proof};
use crate::common::ownership::{has_pipeline_as_owner, is_ours};
use crate::common::request::RequestError;
use crate::common::{ManagedObject, OptionalPermissions};
use crate::settings::Settings;

use polled::{PolledPlace, Polls, Sources};
use polling::LastPoll;
pub(crate) use reading::ObserveError;
use reading::{Reader, Reading, unreadable};

/// Everything is read again this often, in case a watch lost an event.
const READ_ALL: Duration = Duration::from_secs(10 * 60);

/// How long a round waits for the handshakes with the replicas.
const HANDSHAKES: Duration = Duration::from_secs(1);

/// Reads what changed, polls what can't be watched, and keeps the rest from earlier rounds.
pub(crate) struct Observer {
    reader: Reader,
    /// The managed objects that the operator has permission to read.
    objects: Vec<ManagedObject>,
    permissions: OptionalPermissions,
    changes: Arc<Changes>,
    known: Known,
    _watches: JoinSet<()>,
    observed: Observed,
    read_all: Option<Instant>,
    /// The sources that were read at least once.
    known_sources: BTreeSet<Source>,
    failing_sources: FailingSources,
    last_poll: Option<LastPoll>,
    polls: Polls,
    nodes: Option<Nodes>,
    usage_read: Option<Instant>,
    containers_counted: Option<Instant>,
    /// The count of nodes when their coverage was last read.
    counted_nodes: usize,
    kubelet_ca: PolledPlace,
    serving: PolledPlace,
    /// How often in a row kubelets' CSRs could not be approved.
    csr_approval_failures: u32,
    /// Whether cert-manager issues the serving certificate.
    uses_cert_manager: bool,
    announced: Announced,
    /// Kubelets' CertificateSigningRequests, with the permission to approve them.
    signing_requests: Option<SigningRequests>,
    pending_count: PendingCount,
    token: ReportToken,
    trust: Trust,
}

impl Observer {
    /// Starts the watches. The first observation reads everything.
    #[must_use]
    pub(crate) fn start(client: Client, settings: &Settings) -> Self {
        let (namespace, permissions) = (settings.namespace.clone(), settings.permissions);
        let readable =
            |object: &ManagedObject| object.permission().is_none_or(|permission| permissions.has(permission));
        let objects: Vec<_> = ManagedObject::ALL.into_iter().filter(readable).collect();
        let changes = Arc::new(Changes::default());
        let known = Known::default();
        let signing_requests =
            permissions.csr_approval.then(|| SigningRequests::start(&client, changes.clone()));
        let watches = watches::start(&client, &namespace, &objects, &changes, &known);
        Self {
            reader: Reader { client, namespace },
            objects,
            permissions,
            changes,
            known,
            _watches: watches,
            observed: Observed::default(),
            read_all: None,
            known_sources: BTreeSet::new(),
            failing_sources: FailingSources::default(),
            last_poll: None,
            polls: Polls::default(),
            nodes: None,
            usage_read: None,
            containers_counted: None,
            counted_nodes: 0,
            kubelet_ca: PolledPlace::default(),
            serving: PolledPlace::default(),
            csr_approval_failures: 0,
            uses_cert_manager: false,
            announced: Announced::default(),
            signing_requests,
            pending_count: PendingCount::default(),
            token: ReportToken::at(settings.report_token_file.clone()),
            trust: Trust::default(),
        }
    }

    /// Returns the sources that changed since the last observation, for the loop to wait on.
    #[must_use]
    pub(crate) fn changes(&self) -> Arc<Changes> {
        self.changes.clone()
    }

    /// Returns the versions of the objects, for the writer to record its writes in.
    #[must_use]
    pub(crate) fn known(&self) -> Known {
        self.known.clone()
    }

    /// Returns the result of the last observation.
    #[must_use]
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Reads what changed, polls what can't be watched, and derives the facts of this round.
    pub(crate) async fn observe(&mut self) -> Result<(), ObserveError> {
        let has_changes = self.read_changes().await?;
        self.poll(has_changes).await;
        self.observed.announced_for = self.announced.ages(Instant::now());
        self.observed.derive_facts();
        Ok(())
    }

    /// Takes over what the apply step learned, and derives the facts again.
    pub(crate) async fn learn(&mut self, learned: Vec<Learned>) {
        for one in learned {
            self.learn_one(one).await;
        }
        self.observed.derive_facts();
    }

    /// Has a source read again in the next round.
    pub(crate) fn mark_outdated(&mut self, source: Source) {
        self.changes.mark_quietly(source);
    }

    async fn learn_one(&mut self, learned: Learned) {
        match learned {
            // The writer recorded the version already.
            Learned::Written(object, found) => {
                self.announced.record(object, Some(&found), Instant::now());
                self.observed.objects.insert(object, Found::Present(found));
            }
            Learned::MutatedByAdmission(object, manager, true) => {
                self.observed.mutated_by_admission.insert((object, manager));
            }
            Learned::MutatedByAdmission(object, manager, false) => {
                self.observed.mutated_by_admission.remove(&(object, manager));
            }
            Learned::Resized(pod) => {
                let same = |other: &&mut Pod| other.metadata.uid == pod.metadata.uid;
                if let Some(known) = self.observed.pods.iter_mut().find(same) {
                    *known = *pod;
                }
            }
            Learned::ResizeRejections(rejections) => self.observed.resize_rejections = rejections,
            Learned::CsrApprovalError(error) => self.learn_csr_approval(error),
            Learned::CsrsNotApproved(reasons) => self.observed.csrs_not_approved = reasons,
            Learned::Outdated(source) => self.mark_outdated(source),
            Learned::DeletedFromPreviousNamespace(object, why) => {
                if let Some(previous) = &mut self.observed.previous_namespace {
                    previous.deleted(object, why);
                }
            }
            Learned::ExpectedCertificate(None) => {
                self.polls.proof.stop();
                self.observed.proof = None;
            }
            Learned::ExpectedCertificate(Some(expected)) => self.read_proof(*expected).await,
        }
    }

    /// A single failure is not reported: the next attempt follows within seconds.
    fn learn_csr_approval(&mut self, error: Option<String>) {
        self.csr_approval_failures =
            error.as_ref().map_or(0, |_| self.csr_approval_failures.saturating_add(1));
        self.observed.csr_approval_error = error.filter(|_| self.csr_approval_failures > 1);
    }

    /// Handshakes with the replicas, beside the loop if one of them does not respond.
    async fn read_proof(&mut self, expected: ExpectedCertificate) {
        if !self.polls.proof.is_started() {
            let pods = self.observed.pods.clone();
            let read = async move { proof::read(&pods, &expected).await };
            self.polls.proof.start(self.changes.clone(), read);
        }
        if let Some(proof) = self.polls.proof.result(HANDSHAKES).await {
            self.observed.proof = Some(proof);
        }
    }

    /// Keeps an object that was read, and its version.
    fn store(&mut self, object: ManagedObject, found: Found) {
        match &found {
            Found::Present(present) => {
                self.known.record(object, present);
                self.announced.record(object, Some(present), Instant::now());
            }
            Found::Absent | Found::Unserved => {
                self.known.forget(object);
                self.announced.record(object, None, Instant::now());
            }
            Found::Unreadable(_) => self.known.forget(object),
        }
        self.observed.objects.insert(object, found);
    }

    /// Reads the sources that changed, concurrently. Returns whether there were any. A source that can't be read does not
    /// keep the others from being read.
    async fn read_changes(&mut self) -> Result<bool, ObserveError> {
        let mut changed = self.changes.take();
        if self.read_all.is_none_or(|last| last.elapsed() >= READ_ALL) {
            changed.extend(Source::all(&self.objects, self.permissions));
            self.read_all = Some(Instant::now());
        }
        let (due, later): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|source| self.failing_sources.is_due(*source));
        for source in later {
            self.changes.mark_quietly(source);
        }
        let reader = &self.reader;
        let reads = due.iter().map(|source| async move { (*source, reader.read(*source).await) });
        let (mut unreachable, mut owner_in_doubt) = (None, false);
        for (source, result) in join_all(reads).await {
            match result {
                Ok(reading) => self.take(source, reading),
                Err(error) => {
                    if let Err(error) = self.take_failure(source, error) {
                        unreachable.get_or_insert(error);
                    }
                }
            }
            owner_in_doubt |=
                matches!(source, Source::Object(object) if lacks_owner(self.observed.objects.get(&object)));
        }
        if let Some(error) = unreachable {
            return Err(error);
        }
        // The garbage collector deletes or orphans the objects of a MetricsPipeline that is being deleted, and the watch of
        // the MetricsPipelines may report that later. They must not be reverted as drift, so an older list does not do.
        if owner_in_doubt {
            match self.reader.read(Source::Pipelines).await {
                Ok(reading) => self.take(Source::Pipelines, reading),
                Err(error) => {
                    self.changes.mark_quietly(Source::Pipelines);
                    return Err(ObserveError::Pipelines(error));
                }
            }
        }
        if due.contains(&Source::Object(ManagedObject::Certificate)) && self.uses_cert_manager {
            // So that the Certificate, its Secret and its latest request fit together.
            let certificate = self.observed.object(ManagedObject::Certificate).cloned();
            let serving = Sources::CertManager(certificate.map(Box::new)).read(&self.reader).await;
            self.take_serving(serving);
        }
        // A watch counts the nodes, so the count is never older than a round: the nanny detects bursts by it.
        if let Some(nodes) = &self.nodes {
            self.observed.nodes = nodes.count();
        }
        Ok(!due.is_empty())
    }

    fn take(&mut self, source: Source, reading: Reading) {
        self.known_sources.insert(source);
        self.failing_sources.succeeded(source);
        let observed = &mut self.observed;
        match reading {
            Reading::Pipelines(pipelines) => observed.pipelines = pipelines,
            Reading::Pods(pods) => (observed.pods, observed.pods_unreadable) = (pods, None),
            Reading::ReadyEndpoints(count) => observed.ready_endpoints = Some(count),
            Reading::Nodes => {}
            Reading::FrontProxy(map) => observed.front_proxy = map,
            Reading::SigningRequests => match self.signing_requests.as_ref().map(SigningRequests::pending) {
                Some(Ok(pending)) => {
                    (observed.signing_requests, observed.signing_requests_error) = (pending, None);
                }
                Some(Err(error)) => observed.signing_requests_error = Some(error),
                None => {}
            },
            Reading::Object(object, found) => self.store(object, found),
        }
    }

    /// Keeps what is known for a bounded time, then marks the source as unreadable. Either way it is read again in a later
    /// round, as no watch reports that an error such as 429 or 500 is over. A lost connection concerns all sources.
    fn take_failure(&mut self, source: Source, error: RequestError) -> Result<(), ObserveError> {
        self.changes.mark_quietly(source);
        let failure = ReadFailure {
            forbidden: error.response().is_some_and(kube::core::Status::is_forbidden),
            hung: error.is_timeout(),
        };
        let is_kept = self.failing_sources.failed(source, failure) && self.known_sources.contains(&source);
        if error.response().is_none() && !error.is_timeout() {
            return Err(ObserveError::Unreachable(error));
        }
        tracing::debug!(?source, %error, is_kept, "cannot read a source");
        if is_kept {
            return Ok(());
        }
        let is_known = self.known_sources.contains(&source);
        let why = unreadable(&error);
        match source {
            // Without a list nothing is known; an old one is better than none.
            Source::Pipelines if !is_known => return Err(ObserveError::Pipelines(error)),
            // Their watches report errors.
            Source::Pipelines | Source::Nodes | Source::SigningRequests => {}
            Source::Pods => self.observed.pods_unreadable = Some(why),
            Source::Endpoints => self.observed.ready_endpoints = None,
            Source::FrontProxy => self.observed.front_proxy = FrontProxyMap::Unreadable(why),
            Source::Object(object) => self.store(object, Found::Unreadable(why)),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// Whether an object is absent, being deleted or without its owner reference.
fn lacks_owner(found: Option<&Found>) -> bool {
    match found {
        Some(Found::Present(found)) => {
            found.metadata.deletion_timestamp.is_some() || (is_ours(found) && !has_pipeline_as_owner(found))
        }
        Some(Found::Absent) => true,
        Some(Found::Unserved | Found::Unreadable(_)) | None => false,
    }
}

#[cfg(test)]
mod tests;
