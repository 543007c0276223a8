//! The state of the observe step: what was read, and what must be read again.

mod polling;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::ConfigMapKey;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio::task::JoinSet;

use super::announced::Announced;
use super::nodes::Nodes;
use super::replicas::Trust;
use super::report_token::ReportToken;
use super::signing_requests::{PendingCount, SigningRequests};
use super::watches::{self, Changes, Known, Source};
use super::{Found, Learned, Observed, proof};
use crate::common::ownership::{has_pipeline_as_owner, is_ours};
use crate::common::{ManagedObject, OptionalPermissions};
use crate::settings::Settings;

use polling::LastPoll;
pub(crate) use reading::ObserveError;
pub(super) use reading::within;

/// Everything is read again this often, in case a watch lost an event.
const READ_ALL: Duration = Duration::from_secs(10 * 60);

/// Reads what changed, polls what can't be watched, and keeps the rest from earlier rounds.
pub(crate) struct Observer {
    client: Client,
    namespace: String,
    /// The managed objects that the operator has permission to read.
    objects: Vec<ManagedObject>,
    permissions: OptionalPermissions,
    changes: Arc<Changes>,
    known: Known,
    _watches: JoinSet<()>,
    observed: Observed,
    read_all: Option<Instant>,
    last_poll: Option<LastPoll>,
    nodes: Option<Nodes>,
    usage_read: Option<Instant>,
    containers_counted: Option<Instant>,
    /// The count of nodes when their coverage was last read.
    counted_nodes: usize,
    /// The place that the kubelets' CA was last read from.
    kubelet_ca_source: Option<ConfigMapKey>,
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
            client,
            namespace,
            objects,
            permissions,
            changes,
            known,
            _watches: watches,
            observed: Observed::default(),
            read_all: None,
            last_poll: None,
            nodes: None,
            usage_read: None,
            containers_counted: None,
            counted_nodes: 0,
            kubelet_ca_source: None,
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
            Learned::CsrApprovalError(error) => self.observed.csr_approval_error = error,
            Learned::CsrsNotApproved(reasons) => self.observed.csrs_not_approved = reasons,
            Learned::Outdated(source) => self.mark_outdated(source),
            Learned::DeletedFromPreviousNamespace(object, why) => {
                if let Some(previous) = &mut self.observed.previous_namespace {
                    previous.deleted(object, why);
                }
            }
            Learned::ExpectedCertificate(None) => self.observed.proof = None,
            Learned::ExpectedCertificate(Some(expected)) => {
                self.observed.proof = Some(proof::read(&self.observed.pods, &expected).await);
            }
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

    /// Reads the sources that changed. Returns whether there were any.
    async fn read_changes(&mut self) -> Result<bool, ObserveError> {
        let mut changed = self.changes.take();
        if self.read_all.is_none_or(|last| last.elapsed() >= READ_ALL) {
            changed.extend(Source::all(&self.objects, self.permissions));
            self.read_all = Some(Instant::now());
        }
        let has_changes = !changed.is_empty();
        let mut owner_in_doubt = false;
        while let Some(source) = changed.pop_first() {
            if let Err(error) = self.read(source).await {
                // The next round reads what is left.
                self.changes.mark_quietly(source);
                for source in changed {
                    self.changes.mark_quietly(source);
                }
                return Err(error);
            }
            owner_in_doubt |=
                matches!(source, Source::Object(object) if lacks_owner(self.observed.objects.get(&object)));
        }
        // The garbage collector deletes or orphans the objects of a MetricsPipeline that is being deleted, and the watch of
        // the MetricsPipelines may report that later. They must not be reverted as drift.
        if owner_in_doubt && let Err(error) = self.read(Source::Pipelines).await {
            self.changes.mark_quietly(Source::Pipelines);
            return Err(error);
        }
        // A watch counts the nodes, so the count is never older than a round: the nanny detects bursts by it.
        if let Some(nodes) = &self.nodes {
            self.observed.nodes = nodes.count();
        }
        Ok(has_changes)
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
mod tests {
    use super::*;
    use crate::common::{MANAGED_BY, MANAGED_BY_LABEL};
    use serde_json::{Value, json};

    #[test]
    fn owner_is_in_doubt_when_an_object_is_absent_terminating_or_without_it() {
        let present = |metadata: Value| {
            let found = serde_json::from_value(json!({ "metadata": metadata })).expect("an object");
            lacks_owner(Some(&Found::Present(Box::new(found))))
        };
        let ours = json!({ MANAGED_BY_LABEL: MANAGED_BY });
        let owner = json!([{ "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline", "name": "a",
            "uid": "u" }]);
        assert!(!present(json!({ "labels": ours, "ownerReferences": owner })));
        assert!(present(json!({ "labels": ours })));
        let ending = json!({ "ownerReferences": owner, "deletionTimestamp": "2026-01-01T00:00:00Z" });
        assert!(present(ending));
        assert!(!present(json!({})), "a foreign object");
        assert!(lacks_owner(Some(&Found::Absent)) && !lacks_owner(Some(&Found::Unserved)));
    }
}
