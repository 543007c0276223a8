//! What no watch tells, and so is asked for from time to time: whether metrics are served, what the replicas see, and
//! what is needed of others.

use std::time::{Duration, Instant};

use base64::Engine as _;
use crds::cause::ScrapeCause;
use crds::{KubeletTlsMode, MetricsPipelineSpec, NannyMode, ScalingMode};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;

use super::{Observer, within, words};
use crate::assess::diagnosis::kubelets;
use crate::common::Owned;
use crate::common::ownership::is_ours;
use crate::observe::nodes::Nodes;
use crate::observe::watches::Source;
use crate::observe::{
    Found, KubeletCa, Observed, Served, ServingSource, Symptoms, cert_manager, replicas, served, usage,
};
use crate::pki::cert_manager::{SECRET, requested};
use crate::pki::external::ExternalCertificate;

/// What the replicas use is asked for this often at most; metrics-core has new samples no sooner.
const ASK_USAGE: Duration = Duration::from_secs(10);

/// Containers are counted this often at most, as all of them must be listed.
const COUNT_CONTAINERS: Duration = Duration::from_secs(60);

/// NetworkPolicies of the namespace beyond this many are not looked at.
const MAX_POLICIES: u32 = 200;

impl Observer {
    /// Whether requests for metrics are known to get through.
    #[must_use]
    pub fn gets_through(&self) -> bool {
        let answered = matches!(self.observed.served, Served::Answered { .. });
        answered && !self.observed.served_in_doubt && !Symptoms::read(&self.observed).broken()
    }

    /// Reads what no watch tells: the nodes, the kubelets' CA, whether metrics are served, and what the replicas say.
    pub async fn look_around(&mut self, spec: &MetricsPipelineSpec) -> &Observed {
        let seen = self.kubelet_ca(spec).await;
        let source = &spec.metrics_core.kubelet.tls.certificate_authority;
        let same_source = self.kubelet_ca_of == *source;
        self.observed.kubelet_ca =
            latest_kubelet_ca(std::mem::take(&mut self.observed.kubelet_ca), seen, same_source);
        self.kubelet_ca_of.clone_from(source);
        self.asks_cert_manager = requested(spec).is_some() && self.powers.cert_manager;
        if self.asks_cert_manager {
            self.ask_cert_manager().await;
        } else {
            self.observed.serving_source = self.serving_source(spec).await;
            self.observed.certificate_request = None;
        }
        self.count_nodes(spec.metrics_core.kubelet.node_selector.as_deref()).await;
        // Before there is an APIService the answer is known, and asking would only fill somebody's log.
        let seen = if self.observed.object(Owned::ApiServiceV1beta1).is_some() {
            served::ask(&self.client).await
        } else {
            Served::NotAsked
        };
        self.take_served(seen);
        // After the request, which leaves its marks in them.
        self.ask_replicas().await;
        self.ask_for_the_nanny(spec).await;
        &self.observed
    }

    /// What only the nanny wants to know. A number that can't be had now is unknown, and not the last one.
    async fn ask_for_the_nanny(&mut self, spec: &MetricsPipelineSpec) {
        // In doubt the same way would be waited for again, and the diagnosis with it.
        if self.observed.served_in_doubt {
            return;
        }
        let is_served = matches!(self.observed.served, Served::Answered { .. });
        if spec.nanny.mode == NannyMode::Off || !is_served {
            (self.observed.usage, self.observed.containers) = (None, None);
            (self.asked_usage, self.counted_containers) = (None, None);
            return;
        }
        let is_due = |last: Option<Instant>, every: Duration| last.is_none_or(|last| last.elapsed() >= every);
        if is_due(self.asked_usage, ASK_USAGE) {
            self.observed.usage = usage::of_replicas(&self.client, &self.namespace).await;
            self.asked_usage = Some(Instant::now());
        }
        if spec.nanny.scaling_mode != ScalingMode::ContainerProportional {
            (self.observed.containers, self.counted_containers) = (None, None);
        } else if is_due(self.counted_containers, COUNT_CONTAINERS) {
            self.observed.containers = usage::containers(&self.client).await;
            self.counted_containers = Some(Instant::now());
        }
    }

    /// One request that fails changes nothing yet, unless kube-apiserver says itself that nothing is served.
    fn take_served(&mut self, seen: Served) {
        let failed = matches!(seen, Served::Refused { .. } | Served::Failed { .. });
        let was_good = matches!(self.observed.served, Served::Answered { .. });
        let first = failed && was_good && !self.observed.served_in_doubt;
        if first && Symptoms::read(&self.observed).unavailable.is_none() {
            self.observed.served_in_doubt = true;
        } else {
            let answered = matches!(seen, Served::Answered { .. });
            let since = self.observed.answered_since.unwrap_or_else(Timestamp::now);
            self.observed.answered_since = answered.then_some(since);
            self.observed.served_in_doubt = false;
            self.observed.served = seen;
        }
    }

    /// Asks the replicas what they see, and reads what explains it.
    pub async fn ask_replicas(&mut self) {
        self.read_reports().await;
        self.look_closer().await;
    }

    async fn read_reports(&mut self) {
        let Some(ca) = self.trusted_ca() else {
            self.observed.replicas.clear();
            return;
        };
        self.observed.replicas = replicas::ask(
            &self.observed.pods,
            &self.observed.replicas,
            &self.namespace,
            &ca,
            &mut self.trust,
            &self.token,
        )
        .await;
        let coverage = kubelets::coverage(&self.observed);
        let uncovered = coverage
            .as_ref()
            .is_some_and(|nodes| nodes.covered + nodes.failing < nodes.total && nodes.covered > 0);
        // New nodes have no metrics for some seconds, which says nothing of those before them.
        let total = coverage.map_or(0, |nodes| nodes.total);
        let has_grown = total > std::mem::replace(&mut self.counted_nodes, total);
        let since = self.observed.uncovered_since.filter(|_| !has_grown).unwrap_or_else(Timestamp::now);
        self.observed.uncovered_since = uncovered.then_some(since);
    }

    /// The CA that kube-apiserver trusts, so that what it finds wrong with a replica is found here too; before there
    /// is an APIService of ours, the one that stands beside the serving certificate.
    fn trusted_ca(&self) -> Option<String> {
        let text = |object: Owned, pointer: &str| {
            let found = self.observed.object(object).filter(|found| is_ours(found))?;
            let encoded = found.data.pointer(pointer)?.as_str()?;
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            String::from_utf8(decoded).ok()
        };
        text(Owned::ApiServiceV1beta1, "/spec/caBundle")
            .or_else(|| text(Owned::ServingSecret, "/data/ca.crt"))
    }

    /// Reads what explains a fault, and only then: a settled operator need not know.
    async fn look_closer(&mut self) {
        let failing = kubelets::failing(&self.observed);
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
        self.observed.pending_kubelet_csrs = if failed(&[ScrapeCause::TlsUnknownCa]) {
            self.signing_requests().await.ok().map(|pending| pending.len())
        } else {
            None
        };
    }

    /// Reads what cert-manager stored, and what it says. Also at once when it changed the Certificate, so that what is
    /// said of the two fits together.
    pub(super) async fn ask_cert_manager(&mut self) {
        if matches!(self.observed.objects.get(&Owned::Certificate), Some(Found::Unserved)) {
            // No watch tells soon that its API is there.
            self.changes.mark_quietly(Source::Object(Owned::Certificate));
        }
        self.observed.serving_source = self.serving_secret(SECRET).await;
        let certificate = self.observed.object(Owned::Certificate);
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
            Err(error) => ServingSource::Unreadable(words(&error)),
        }
    }

    async fn kubelet_ca(&self, spec: &MetricsPipelineSpec) -> KubeletCa {
        let tls = &spec.metrics_core.kubelet.tls;
        if tls.mode == KubeletTlsMode::Insecure {
            return KubeletCa::Unused;
        }
        let (name, key) = tls
            .certificate_authority
            .as_ref()
            .map_or(("kube-root-ca.crt", "ca.crt"), |source| (source.name.as_str(), source.key.as_str()));
        let place = || format!("ConfigMap {}/{name}, key {key}", self.namespace);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        match within("the kubelets' CA", api.get_opt(name)).await {
            Ok(found) => found
                .and_then(|map| map.data)
                .and_then(|mut data| data.remove(key))
                .map_or_else(|| KubeletCa::Missing { place: place() }, KubeletCa::Found),
            Err(error) => KubeletCa::Unreadable(words(&error)),
        }
    }

    async fn count_nodes(&mut self, selector: Option<&str>) {
        if !self.nodes.as_ref().is_some_and(|nodes| nodes.counts(selector)) {
            self.nodes = Some(Nodes::start(&self.client, selector, self.changes.clone()).await);
        }
        self.observed.nodes = self.nodes.as_ref().and_then(Nodes::count);
    }
}

/// A pause of kube-apiserver says nothing about a CA that was read before from the same place: it stays.
fn latest_kubelet_ca(before: KubeletCa, seen: KubeletCa, same_source: bool) -> KubeletCa {
    match (before, seen) {
        (KubeletCa::Found(pem), KubeletCa::Unreadable(why)) if same_source && !why.forbidden => {
            tracing::warn!(
                why = why.message,
                "cannot read the kubelets' CA; keeping the CA that was read before"
            );
            KubeletCa::Found(pem)
        }
        (_, seen) => seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Unreadable;

    #[test]
    fn a_kubelet_ca_outlives_a_pause_of_the_api_server() {
        let found = || KubeletCa::Found("PEM".to_owned());
        let unreadable =
            |forbidden| KubeletCa::Unreadable(Unreadable { forbidden, message: "no answer".to_owned() });
        assert_eq!(latest_kubelet_ca(found(), unreadable(false), true), found());
        assert_eq!(latest_kubelet_ca(found(), unreadable(false), false), unreadable(false));
        assert_eq!(latest_kubelet_ca(found(), unreadable(true), true), unreadable(true));
        assert_eq!(latest_kubelet_ca(found(), KubeletCa::Unused, true), KubeletCa::Unused);
    }
}
