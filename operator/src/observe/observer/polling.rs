//! Polls what can't be watched: whether metrics are served, the replicas' reports, and objects of other owners. Polls run
//! beside the loop; a round takes their results if they come soon.

use std::time::{Duration, Instant};

use base64::Engine as _;
use crds::{MetricsPipelineSpec, NannyMode, ScalingMode};
use jiff::Timestamp;

use super::Observer;
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::observe::kubelets::coverage;
use crate::observe::nodes::Nodes;
use crate::observe::observer::polled::{FullPoll, Poll, Polled, PreviousPlace, Sources};
use crate::observe::{PollScope, Served, Symptoms, moves_from, poll_scope, select_active, usage};
use crate::pki::cert_manager::requested;

/// How long a round waits for a poll. In a large cluster a metrics request takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a round waits for what only explains a fault, or only the nanny needs.
const LESS_PATIENCE: Duration = Duration::from_secs(1);

/// The minimum time between two reads of the replicas' usage; metrics-core has no new samples sooner.
const READ_USAGE: Duration = Duration::from_secs(10);

/// The minimum time between two counts of containers, as all of them must be listed.
const COUNT_CONTAINERS: Duration = Duration::from_secs(60);

/// When and for what was last polled.
pub(super) struct LastPoll {
    /// When anything was polled.
    any: Instant,
    /// When everything was polled.
    full: Instant,
    /// The UID of the active MetricsPipeline.
    uid: String,
    /// Its generation.
    generation: i64,
}

impl Observer {
    /// Polls what is due for the active MetricsPipeline.
    pub(super) async fn poll(&mut self, has_changes: bool) {
        let active = select_active(&self.observed.pipelines).active;
        let Some(pipeline) = active.filter(|pipeline| !pipeline.deleting) else { return };
        let Ok(spec) = pipeline.spec.clone() else { return };
        let (uid, generation) = (pipeline.uid.clone(), pipeline.generation);
        // A changed spec may name another source of the kubelets' CA, so what was read for the old one is of no use.
        let is_known =
            self.last_poll.as_ref().is_some_and(|last| last.uid == uid && last.generation == generation);
        if !is_known {
            self.polls.main.stop();
        }
        let patience = if self.polls.main.is_started() {
            // It is late already.
            Duration::ZERO
        } else {
            let last = self.last_poll.as_ref().filter(|_| is_known);
            let scope = last.map_or(PollScope::Everything, |last| {
                poll_scope(last.any.elapsed(), last.full.elapsed(), has_changes, self.requests_succeed())
            });
            if scope == PollScope::Everything {
                self.count_nodes(spec.metrics_core.kubelet.node_selector.as_deref()).await;
            }
            self.start_poll(scope, &spec, (uid, generation));
            PATIENCE
        };
        if let Some(polled) = self.polls.main.result(patience).await {
            self.take_polled(polled);
            self.start_explanations();
        }
        if let Some(explanations) = self.polls.explanations.result(LESS_PATIENCE).await {
            self.observed.network_policies = explanations.network_policies;
            self.observed.pending_kubelet_csrs = explanations.pending_kubelet_csrs;
            self.pending_count = explanations.pending_count;
        }
        self.poll_for_nanny(&spec).await;
    }

    fn start_poll(&mut self, scope: PollScope, spec: &MetricsPipelineSpec, of: (String, i64)) {
        let now = Instant::now();
        let full = match scope {
            PollScope::Nothing => return,
            PollScope::Replicas => None,
            PollScope::Everything => {
                self.uses_cert_manager = requested(spec).is_some() && self.permissions.cert_manager;
                Some(FullPoll {
                    kubelet_tls: spec.metrics_core.kubelet.tls.clone(),
                    sources: self.sources(spec),
                    previous: self.previous_place(),
                    // Without an APIService the result is known, and a request would only fill logs.
                    requests_metrics: self.observed.object(ManagedObject::ApiServiceV1beta1).is_some(),
                })
            }
        };
        let last_full = self.last_poll.as_ref().map_or(now, |last| last.full);
        self.last_poll = Some(LastPoll {
            any: now,
            full: if full.is_some() { now } else { last_full },
            uid: of.0,
            generation: of.1,
        });
        let poll = Poll {
            reader: self.reader.clone(),
            full,
            ca: self.trusted_ca(),
            pods: self.observed.pods.clone(),
            before: self.observed.replicas.clone(),
            trust: std::mem::take(&mut self.trust),
            token: self.token.clone(),
        };
        self.polls.main.start(self.changes.clone(), poll.run());
    }

    /// Returns where objects may be left from before the operator was installed into its namespace. Nothing is watched there:
    /// a move is rare.
    fn previous_place(&self) -> Option<PreviousPlace> {
        let active = select_active(&self.observed.pipelines).active?;
        let namespace = moves_from(active, &self.observed, &self.reader.namespace)?.to_owned();
        let objects = self.objects.iter().copied().filter(|object| object.is_in_operator_namespace());
        Some(PreviousPlace { namespace, objects: objects.collect() })
    }

    /// Returns where the serving certificate comes from.
    fn sources(&self, spec: &MetricsPipelineSpec) -> Sources {
        if self.uses_cert_manager {
            let certificate = self.observed.object(ManagedObject::Certificate).cloned();
            Sources::CertManager(certificate.map(Box::new))
        } else {
            Sources::Secret(spec.certificates.secret_ref.as_ref().map(|secret| secret.name.clone()))
        }
    }

    fn take_polled(&mut self, polled: Polled) {
        if let Some(full) = polled.full {
            let before = std::mem::take(&mut self.observed.kubelet_ca);
            self.observed.kubelet_ca = self.kubelet_ca.latest(before, full.kubelet_ca, full.kubelet_ca_place);
            self.take_serving(full.serving);
            self.take_served(full.served);
            self.observed.previous_namespace = full.previous_namespace;
        }
        self.trust = polled.trust;
        // Pods that were created meanwhile are polled in the next round.
        self.observed.replicas = polled.replicas;
        self.note_uncovered();
    }

    /// Whether requests for metrics are known to succeed.
    fn requests_succeed(&self) -> bool {
        let succeeded = matches!(self.observed.served, Served::Succeeded { .. });
        succeeded && !self.observed.served_in_doubt && !Symptoms::read(&self.observed).broken()
    }

    /// Reads what only the nanny needs. A number that can't be read now is unknown; the last one is not kept.
    async fn poll_for_nanny(&mut self, spec: &MetricsPipelineSpec) {
        // While requests are in doubt, another one would say nothing.
        if self.observed.served_in_doubt {
            return;
        }
        let is_served = matches!(self.observed.served, Served::Succeeded { .. });
        if spec.nanny.mode == NannyMode::Off || !is_served {
            (self.observed.usage, self.observed.containers) = (None, None);
            (self.usage_read, self.containers_counted) = (None, None);
            self.polls.usage.stop();
            self.polls.containers.stop();
            return;
        }
        let is_due = |last: Option<Instant>, every: Duration| last.is_none_or(|last| last.elapsed() >= every);
        if !self.polls.usage.is_started() && is_due(self.usage_read, READ_USAGE) {
            let reader = self.reader.clone();
            let read = async move { usage::of_replicas(&reader.client, &reader.namespace).await };
            self.polls.usage.start(self.changes.clone(), read);
            self.usage_read = Some(Instant::now());
        }
        if let Some(usage) = self.polls.usage.result(LESS_PATIENCE).await {
            self.observed.usage = usage;
        }
        if spec.nanny.scaling_mode != ScalingMode::ContainerProportional {
            (self.observed.containers, self.containers_counted) = (None, None);
            self.polls.containers.stop();
            return;
        }
        if !self.polls.containers.is_started() && is_due(self.containers_counted, COUNT_CONTAINERS) {
            let client = self.reader.client.clone();
            let count = async move { usage::containers(&client).await };
            self.polls.containers.start(self.changes.clone(), count);
            self.containers_counted = Some(Instant::now());
        }
        if let Some(containers) = self.polls.containers.result(LESS_PATIENCE).await {
            self.observed.containers = containers;
        }
    }

    /// Keeps the result of a request for metrics. A first failure changes nothing yet, unless kube-apiserver itself
    /// reports the APIService as unavailable.
    fn take_served(&mut self, result: Served) {
        let failed = matches!(result, Served::ErrorResponse { .. } | Served::Failed { .. });
        let was_good = matches!(self.observed.served, Served::Succeeded { .. });
        let first = failed && was_good && !self.observed.served_in_doubt;
        if first && Symptoms::read(&self.observed).unavailable.is_none() {
            self.observed.served_in_doubt = true;
        } else {
            let succeeded = matches!(result, Served::Succeeded { .. });
            let since = self.observed.succeeding_since.unwrap_or_else(Timestamp::now);
            self.observed.succeeding_since = succeeded.then_some(since);
            self.observed.served_in_doubt = false;
            self.observed.served = result;
        }
    }

    /// Notes since when nodes have no metrics although their kubelets can be scraped.
    fn note_uncovered(&mut self) {
        let coverage = coverage(&self.observed);
        let uncovered = coverage
            .as_ref()
            .is_some_and(|nodes| nodes.covered + nodes.failing < nodes.total && nodes.covered > 0);
        // New nodes have no metrics for some seconds, which says nothing about the older ones.
        let total = coverage.map_or(0, |nodes| nodes.total);
        let has_grown = total > std::mem::replace(&mut self.counted_nodes, total);
        let since = self.observed.uncovered_since.filter(|_| !has_grown).unwrap_or_else(Timestamp::now);
        self.observed.uncovered_since = uncovered.then_some(since);
    }

    /// Returns the CA bundle that kube-apiserver trusts, so that the operator detects the same certificate errors. Before
    /// our APIService exists, returns the one beside the serving certificate.
    fn trusted_ca(&self) -> Option<String> {
        let text = |object: ManagedObject, pointer: &str| {
            let found = self.observed.object(object).filter(|found| is_ours(found))?;
            let encoded = found.data.pointer(pointer)?.as_str()?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            String::from_utf8(decoded).ok()
        };
        // An APIService that still references the previous namespace announces the CA of the replicas there.
        let is_here = self.observed.service_namespace(ManagedObject::ApiServiceV1beta1)
            == Some(&*self.reader.namespace);
        text(ManagedObject::ApiServiceV1beta1, "/spec/caBundle")
            .filter(|_| is_here)
            .or_else(|| text(ManagedObject::ServingSecret, "/data/ca.crt"))
    }

    async fn count_nodes(&mut self, selector: Option<&str>) {
        if !self.nodes.as_ref().is_some_and(|nodes| nodes.counts(selector)) {
            self.nodes = Some(Nodes::start(&self.reader.client, selector, self.changes.clone()).await);
        }
        self.observed.nodes = self.nodes.as_ref().and_then(Nodes::count);
    }
}
