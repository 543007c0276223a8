//! Polls what can't be watched: whether metrics are served, the replicas' reports, and objects of other owners.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use crds::cause::ScrapeCause;
use crds::{KubeletTlsMode, MetricsPipelineSpec, NannyMode, ScalingMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;

use super::Observer;
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;
use crate::observe::kubelets::{coverage, failing};
use crate::observe::nodes::Nodes;
use crate::observe::observer::reading::{read_object, unreadable, within};
use crate::observe::watches::Source;
use crate::observe::{
    Found, KubeletCa, PollScope, PreviousNamespace, Served, ServingSource, Symptoms, cert_manager,
    moves_from, poll_scope, replicas, select_active, served, usage,
};
use crate::pki::cert_manager::{SECRET, requested};
use crate::pki::external::ExternalCertificate;

/// The minimum time between two reads of the replicas' usage; metrics-core has no new samples sooner.
const READ_USAGE: Duration = Duration::from_secs(10);

/// The minimum time between two counts of containers, as all of them must be listed.
const COUNT_CONTAINERS: Duration = Duration::from_secs(60);

/// The maximum count of NetworkPolicies that are read.
const MAX_POLICIES: u32 = 200;

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
        let last = self.last_poll.as_ref().filter(|last| last.uid == uid && last.generation == generation);
        let scope = last.map_or(PollScope::Everything, |last| {
            poll_scope(last.any.elapsed(), last.full.elapsed(), has_changes, self.requests_succeed())
        });
        match scope {
            PollScope::Nothing => {}
            PollScope::Replicas => {
                self.poll_replicas().await;
                if let Some(last) = &mut self.last_poll {
                    last.any = Instant::now();
                }
            }
            PollScope::Everything => {
                self.poll_everything(&spec).await;
                let now = Instant::now();
                self.last_poll = Some(LastPoll { any: now, full: now, uid, generation });
            }
        }
    }

    /// Whether requests for metrics are known to succeed.
    fn requests_succeed(&self) -> bool {
        let succeeded = matches!(self.observed.served, Served::Succeeded { .. });
        succeeded && !self.observed.served_in_doubt && !Symptoms::read(&self.observed).broken()
    }

    /// Reads what is left in the namespace that the operator was in before. Nothing is watched there: a move is rare.
    async fn read_previous_namespace(&mut self) {
        let active = select_active(&self.observed.pipelines).active;
        let from = active.and_then(|pipeline| moves_from(pipeline, &self.observed, &self.namespace));
        let Some(namespace) = from.map(str::to_owned) else {
            self.observed.previous_namespace = None;
            return;
        };
        let mut objects = BTreeMap::new();
        for object in self.objects.iter().copied().filter(|object| object.is_in_operator_namespace()) {
            let found = read_object(&self.client, object, &namespace).await;
            let found = found.unwrap_or_else(|error| Found::Unreadable(unreadable(&error)));
            let is_forbidden = matches!(&found, Found::Unreadable(why) if why.forbidden);
            objects.insert(object, found);
            // Without the permission the others can't be read either.
            if is_forbidden {
                break;
            }
        }
        self.observed.previous_namespace = Some(PreviousNamespace { namespace, objects });
    }

    async fn poll_everything(&mut self, spec: &MetricsPipelineSpec) {
        self.read_previous_namespace().await;
        self.poll_kubelet_ca(spec).await;
        self.uses_cert_manager = requested(spec).is_some() && self.permissions.cert_manager;
        if self.uses_cert_manager {
            self.read_cert_manager().await;
        } else {
            self.observed.serving_source = self.serving_source(spec).await;
            self.observed.certificate_request = None;
        }
        self.count_nodes(spec.metrics_core.kubelet.node_selector.as_deref()).await;
        self.request_metrics().await;
        // After the request for metrics, which the reports show.
        self.poll_replicas().await;
        self.poll_for_nanny(spec).await;
    }

    async fn poll_kubelet_ca(&mut self, spec: &MetricsPipelineSpec) {
        let read = self.kubelet_ca(spec).await;
        let source = &spec.metrics_core.kubelet.tls.certificate_authority;
        let same_source = self.kubelet_ca_source == *source;
        let before = std::mem::take(&mut self.observed.kubelet_ca);
        self.observed.kubelet_ca = latest_kubelet_ca(before, read, same_source);
        self.kubelet_ca_source.clone_from(source);
    }

    async fn request_metrics(&mut self) {
        // Without an APIService the result is known, and a request would only fill logs.
        let result = if self.observed.object(ManagedObject::ApiServiceV1beta1).is_some() {
            served::request_metrics(&self.client).await
        } else {
            Served::NotRequested
        };
        self.take_served(result);
    }

    /// Reads what only the nanny needs. A number that can't be read now is unknown; the last one is not kept.
    async fn poll_for_nanny(&mut self, spec: &MetricsPipelineSpec) {
        // While requests are in doubt, another one would only delay the diagnosis by its timeout.
        if self.observed.served_in_doubt {
            return;
        }
        let is_served = matches!(self.observed.served, Served::Succeeded { .. });
        if spec.nanny.mode == NannyMode::Off || !is_served {
            (self.observed.usage, self.observed.containers) = (None, None);
            (self.usage_read, self.containers_counted) = (None, None);
            return;
        }
        let is_due = |last: Option<Instant>, every: Duration| last.is_none_or(|last| last.elapsed() >= every);
        if is_due(self.usage_read, READ_USAGE) {
            self.observed.usage = usage::of_replicas(&self.client, &self.namespace).await;
            self.usage_read = Some(Instant::now());
        }
        if spec.nanny.scaling_mode != ScalingMode::ContainerProportional {
            (self.observed.containers, self.containers_counted) = (None, None);
        } else if is_due(self.containers_counted, COUNT_CONTAINERS) {
            self.observed.containers = usage::containers(&self.client).await;
            self.containers_counted = Some(Instant::now());
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

    /// Reads the replicas' reports, and what explains the faults that they report.
    async fn poll_replicas(&mut self) {
        self.read_reports().await;
        self.read_explanations().await;
    }

    async fn read_reports(&mut self) {
        let Some(ca) = self.trusted_ca() else {
            self.observed.replicas.clear();
            return;
        };
        self.observed.replicas = replicas::read(
            &self.observed.pods,
            &self.observed.replicas,
            &self.namespace,
            &ca,
            &mut self.trust,
            &self.token,
        )
        .await;
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
        let is_here =
            self.observed.service_namespace(ManagedObject::ApiServiceV1beta1) == Some(&*self.namespace);
        text(ManagedObject::ApiServiceV1beta1, "/spec/caBundle")
            .filter(|_| is_here)
            .or_else(|| text(ManagedObject::ServingSecret, "/data/ca.crt"))
    }

    /// Reads what explains a fault, only while there is one: a settled operator sends no such requests.
    async fn read_explanations(&mut self) {
        let failing = failing(&self.observed);
        let failed = |causes: &[ScrapeCause]| failing.iter().any(|one| causes.contains(&one.cause));
        let unreached = Symptoms::read(&self.observed).broken()
            || failed(&[ScrapeCause::Timeout, ScrapeCause::Unreachable]);
        self.observed.network_policies = if unreached {
            let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &self.namespace);
            let list = within("NetworkPolicies", api.list(&ListParams::default().limit(MAX_POLICIES))).await;
            list.ok().map(|list| list.items)
        } else {
            None
        };
        let unsigned = failed(&[ScrapeCause::TlsUnknownCa, ScrapeCause::TlsNoCertificate]);
        self.observed.pending_kubelet_csrs = if !unsigned {
            None
        } else if self.signing_requests.is_some() {
            Some(self.observed.signing_requests.len())
        } else {
            self.pending_count.get(&self.client).await
        };
    }

    /// Reads the Secret and the latest CertificateRequest of cert-manager. A change of the Certificate triggers it, too,
    /// so that the three fit together.
    pub(super) async fn read_cert_manager(&mut self) {
        if matches!(self.observed.objects.get(&ManagedObject::Certificate), Some(Found::Unserved)) {
            // The watch reports only after its backoff that the kind is served.
            self.changes.mark_quietly(Source::Object(ManagedObject::Certificate));
        }
        self.observed.serving_source = self.serving_secret(SECRET).await;
        let certificate = self.observed.object(ManagedObject::Certificate);
        self.observed.certificate_request =
            cert_manager::request(&self.client, &self.namespace, certificate).await;
    }

    async fn serving_source(&self, spec: &MetricsPipelineSpec) -> ServingSource {
        match &spec.certificates.secret_ref {
            Some(secret) => self.serving_secret(&secret.name).await,
            None => ServingSource::Unused,
        }
    }

    async fn serving_secret(&self, name: &str) -> ServingSource {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match within("the Secret of the serving certificate", api.get_opt(name)).await {
            Ok(None) => ServingSource::Missing,
            Ok(Some(secret)) => {
                let mut data = secret.data.unwrap_or_default();
                let mut take = |key: &str| data.remove(key).map(|bytes| bytes.0);
                ServingSource::Found(ExternalCertificate {
                    pair: take("tls.crt").zip(take("tls.key")),
                    ca_bundle: take("ca.crt"),
                })
            }
            Err(error) => ServingSource::Unreadable(unreadable(&error)),
        }
    }

    async fn kubelet_ca(&self, spec: &MetricsPipelineSpec) -> KubeletCa {
        let tls = &spec.metrics_core.kubelet.tls;
        if tls.mode == KubeletTlsMode::Insecure {
            return KubeletCa::Unused;
        }
        let source = tls.certificate_authority.as_ref();
        let (name, key) = source
            .map_or(("kube-root-ca.crt", "ca.crt"), |source| (source.name.as_str(), source.key.as_str()));
        let namespace = source.and_then(|source| source.namespace.as_ref()).unwrap_or(&self.namespace);
        let place = || format!("ConfigMap {namespace}/{name}, key {key}");
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match within("the kubelets' CA", api.get_opt(name)).await {
            Ok(found) => found
                .and_then(|map| map.data)
                .and_then(|mut data| data.remove(key))
                .map_or_else(|| KubeletCa::Missing { place: place() }, KubeletCa::Found),
            Err(error) => KubeletCa::Unreadable(unreadable(&error)),
        }
    }

    async fn count_nodes(&mut self, selector: Option<&str>) {
        if !self.nodes.as_ref().is_some_and(|nodes| nodes.counts(selector)) {
            self.nodes = Some(Nodes::start(&self.client, selector, self.changes.clone()).await);
        }
        self.observed.nodes = self.nodes.as_ref().and_then(Nodes::count);
    }
}

/// Keeps the CA bundle that was read before from the same source while kube-apiserver does not respond.
fn latest_kubelet_ca(before: KubeletCa, read: KubeletCa, same_source: bool) -> KubeletCa {
    match (before, read) {
        (KubeletCa::Found(pem), KubeletCa::Unreadable(why)) if same_source && !why.forbidden => {
            tracing::warn!(
                why = why.message,
                "cannot read the kubelets' CA; keeping the CA that was read before"
            );
            KubeletCa::Found(pem)
        }
        (_, read) => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Unreadable;

    #[test]
    fn keeps_the_kubelet_ca_while_kube_apiserver_is_unreachable() {
        let found = || KubeletCa::Found("PEM".to_owned());
        let unreadable =
            |forbidden| KubeletCa::Unreadable(Unreadable { forbidden, message: "no response".to_owned() });
        assert_eq!(latest_kubelet_ca(found(), unreadable(false), true), found());
        assert_eq!(latest_kubelet_ca(found(), unreadable(false), false), unreadable(false));
        assert_eq!(latest_kubelet_ca(found(), unreadable(true), true), unreadable(true));
        assert_eq!(latest_kubelet_ca(found(), KubeletCa::Unused, true), KubeletCa::Unused);
    }
}
