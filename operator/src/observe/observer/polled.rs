//! What a poll reads, and how its results replace those before.

use std::collections::BTreeMap;

use crds::cause::ScrapeCause;
use crds::{KubeletTlsMode, KubeletTlsSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;
use kube::core::DynamicObject;

use super::Observer;
use super::reading::{REQUEST, Reader, list, unreadable};
use crate::common::ManagedObject;
use crate::common::request::{with_retry, within};
use crate::nanny::Usage;
use crate::observe::background::Background;
use crate::observe::freshness::{Freshness, ReadFailure};
use crate::observe::kubelets::failing;
use crate::observe::replicas::Trust;
use crate::observe::report_token::ReportToken;
use crate::observe::signing_requests::PendingCount;
use crate::observe::watches::Source;
use crate::observe::{
    Found, KubeletCa, PreviousNamespace, Proof, ReplicaReport, Served, ServingSource, Symptoms, cert_manager,
    replicas, served,
};
use crate::pki::cert_manager::SECRET;
use crate::pki::external::ExternalCertificate;

/// The maximum count of NetworkPolicies that are read.
const MAX_POLICIES: usize = 500;

/// The polls that run beside the loop.
#[derive(Default)]
pub(super) struct Polls {
    /// The request for metrics, then the replicas' reports.
    pub(super) main: Background<Polled>,
    /// What explains a fault.
    pub(super) explanations: Background<Explanations>,
    /// The resources that the replicas use.
    pub(super) usage: Background<Option<Usage>>,
    /// The count of containers.
    pub(super) containers: Background<Option<usize>>,
    /// The certificates that the replicas serve.
    pub(super) proof: Background<Proof>,
}

/// What should be polled.
pub(super) struct Poll {
    pub(super) reader: Reader,
    /// `None` to poll only the replicas.
    pub(super) full: Option<FullPoll>,
    /// The CA that signed the replicas' certificate; without one they are not polled.
    pub(super) ca: Option<String>,
    pub(super) pods: Vec<Pod>,
    pub(super) before: Vec<ReplicaReport>,
    pub(super) trust: Trust,
    pub(super) token: ReportToken,
}

/// What a full poll reads besides the replicas' reports.
pub(super) struct FullPoll {
    pub(super) kubelet_tls: KubeletTlsSpec,
    pub(super) sources: Sources,
    pub(super) previous: Option<PreviousPlace>,
    pub(super) requests_metrics: bool,
}

/// The namespace that the operator was in before, and the objects that move with the operator.
pub(super) struct PreviousPlace {
    pub(super) namespace: String,
    pub(super) objects: Vec<ManagedObject>,
}

/// Where the serving certificate comes from.
pub(super) enum Sources {
    /// cert-manager, with its Certificate.
    CertManager(Option<Box<DynamicObject>>),
    /// The Secret of that name, or the operator itself.
    Secret(Option<String>),
}

/// What was polled.
pub(super) struct Polled {
    pub(super) full: Option<FullPolled>,
    pub(super) replicas: Vec<ReplicaReport>,
    pub(super) trust: Trust,
}

/// The results of a [`FullPoll`].
pub(super) struct FullPolled {
    pub(super) kubelet_ca: KubeletCa,
    pub(super) kubelet_ca_place: String,
    pub(super) serving: Serving,
    pub(super) served: Served,
    pub(super) previous_namespace: Option<PreviousNamespace>,
}

/// The serving certificate at its source.
pub(super) struct Serving {
    /// The name of the Secret; `None` if the operator issues the certificate.
    name: Option<String>,
    source: ServingSource,
    /// The message of cert-manager's latest CertificateRequest.
    request: Option<String>,
}

/// What explains a fault.
pub(super) struct Explanations {
    pub(super) network_policies: Option<Vec<NetworkPolicy>>,
    pub(super) pending_kubelet_csrs: Option<usize>,
    pub(super) pending_count: PendingCount,
}

impl Poll {
    pub(super) async fn run(mut self) -> Polled {
        let full = match self.full.take() {
            Some(full) => Some(full.run(&self.reader).await),
            None => None,
        };
        // After the request for metrics, which the reports show.
        let replicas = match &self.ca {
            Some(ca) => {
                let (pods, namespace) = (&self.pods, &self.reader.namespace);
                replicas::read(pods, &self.before, namespace, ca, &mut self.trust, &self.token).await
            }
            None => Vec::new(),
        };
        Polled { full, replicas, trust: self.trust }
    }
}

impl FullPoll {
    async fn run(self, reader: &Reader) -> FullPolled {
        let metrics = async {
            if self.requests_metrics {
                served::request_metrics(&reader.client).await
            } else {
                Served::NotRequested
            }
        };
        let previous = async {
            match self.previous {
                Some(place) => Some(place.read(reader).await),
                None => None,
            }
        };
        let (kubelet_ca, serving, served, previous_namespace) =
            tokio::join!(reader.kubelet_ca(&self.kubelet_tls), self.sources.read(reader), metrics, previous);
        let (kubelet_ca_place, kubelet_ca) = kubelet_ca;
        FullPolled { kubelet_ca, kubelet_ca_place, serving, served, previous_namespace }
    }
}

impl PreviousPlace {
    pub(super) async fn read(self, reader: &Reader) -> PreviousNamespace {
        let mut objects = BTreeMap::new();
        for object in self.objects {
            let found = with_retry(|| reader.object(object, &self.namespace)).await;
            let found = found.unwrap_or_else(|error| Found::Unreadable(unreadable(&error)));
            let is_forbidden = matches!(&found, Found::Unreadable(why) if why.forbidden);
            objects.insert(object, found);
            // Without the permission the others can't be read either.
            if is_forbidden {
                break;
            }
        }
        PreviousNamespace { namespace: self.namespace, objects }
    }
}

impl Sources {
    pub(super) async fn read(&self, reader: &Reader) -> Serving {
        match self {
            Self::CertManager(certificate) => {
                let request =
                    cert_manager::request(&reader.client, &reader.namespace, certificate.as_deref());
                let (source, request) = tokio::join!(reader.serving_secret(SECRET), request);
                Serving { name: Some(SECRET.to_owned()), source, request }
            }
            Self::Secret(Some(name)) => {
                Serving { name: Some(name.clone()), source: reader.serving_secret(name).await, request: None }
            }
            Self::Secret(None) => Serving { name: None, source: ServingSource::Unused, request: None },
        }
    }
}

impl Reader {
    async fn serving_secret(&self, name: &str) -> ServingSource {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match within(REQUEST, api.get_opt(name)).await {
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

    /// Returns the kubelets' CA and its place.
    async fn kubelet_ca(&self, tls: &KubeletTlsSpec) -> (String, KubeletCa) {
        if tls.mode == KubeletTlsMode::Insecure {
            return (String::new(), KubeletCa::Unused);
        }
        let source = tls.certificate_authority.as_ref();
        let (name, key) = source
            .map_or(("kube-root-ca.crt", "ca.crt"), |source| (source.name.as_str(), source.key.as_str()));
        let namespace = source.and_then(|source| source.namespace.as_ref()).unwrap_or(&self.namespace);
        let place = format!("ConfigMap {namespace}/{name}, key {key}");
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let read = match within(REQUEST, api.get_opt(name)).await {
            Ok(found) => found
                .and_then(|map| map.data)
                .and_then(|mut data| data.remove(key))
                .map_or_else(|| KubeletCa::Missing { place: place.clone() }, KubeletCa::Found),
            Err(error) => KubeletCa::Unreadable(unreadable(&error)),
        };
        (place, read)
    }
}

/// The place of something polled, and since when it can't be read there.
#[derive(Default)]
pub(super) struct PolledPlace {
    place: String,
    freshness: Freshness,
}

impl PolledPlace {
    /// Returns what is in use after a read: what was read, or for a bounded time what was read before at the same place.
    pub(super) fn latest<T: Readable>(&mut self, before: T, read: T, place: String) -> T {
        let is_same = self.place == place;
        self.place = place;
        if !is_same {
            self.freshness.succeeded();
        }
        let Some(forbidden) = read.forbidden() else {
            self.freshness.succeeded();
            return read;
        };
        let keeps = self.freshness.failed(ReadFailure { forbidden, hung: false });
        if keeps && is_same && before.is_known() { before } else { read }
    }
}

/// Something polled.
pub(super) trait Readable {
    /// Whether reading it was forbidden; `None` if it was read.
    fn forbidden(&self) -> Option<bool>;
    /// Whether it may be kept while it can't be read.
    fn is_known(&self) -> bool;
}

impl Readable for KubeletCa {
    fn forbidden(&self) -> Option<bool> {
        if let Self::Unreadable(why) = self { Some(why.forbidden) } else { None }
    }

    fn is_known(&self) -> bool {
        matches!(self, Self::Found(_) | Self::Missing { .. })
    }
}

impl Readable for ServingSource {
    fn forbidden(&self) -> Option<bool> {
        if let Self::Unreadable(why) = self { Some(why.forbidden) } else { None }
    }

    fn is_known(&self) -> bool {
        matches!(self, Self::Found(_) | Self::Missing)
    }
}

impl Observer {
    pub(super) fn take_serving(&mut self, serving: Serving) {
        let before = std::mem::take(&mut self.observed.serving_source);
        self.observed.serving_source =
            self.serving.latest(before, serving.source, serving.name.unwrap_or_default());
        self.observed.certificate_request = serving.request;
        if self.uses_cert_manager
            && matches!(self.observed.objects.get(&ManagedObject::Certificate), Some(Found::Unserved))
        {
            // The watch reports only after its backoff that the kind is served.
            self.changes.mark_quietly(Source::Object(ManagedObject::Certificate));
        }
    }

    /// Reads what explains a fault, only while there is one: a settled operator sends no such requests.
    pub(super) fn start_explanations(&mut self) {
        let failing = failing(&self.observed);
        let failed = |causes: &[ScrapeCause]| failing.iter().any(|one| causes.contains(&one.cause));
        let unreached = Symptoms::read(&self.observed).broken()
            || failed(&[ScrapeCause::Timeout, ScrapeCause::Unreachable]);
        let untrusted = failed(&[ScrapeCause::TlsUnknownCa, ScrapeCause::TlsNoCertificate]);
        if !unreached && !untrusted {
            self.polls.explanations.stop();
            (self.observed.network_policies, self.observed.pending_kubelet_csrs) = (None, None);
            return;
        }
        if self.polls.explanations.is_started() {
            return;
        }
        let reader = self.reader.clone();
        // With the permission to approve them, a watch keeps them.
        let watched = self.signing_requests.as_ref().map(|_| self.observed.signing_requests.len());
        let mut pending_count = std::mem::take(&mut self.pending_count);
        self.polls.explanations.start(self.changes.clone(), async move {
            let api: Api<NetworkPolicy> = Api::namespaced(reader.client.clone(), &reader.namespace);
            let policies = async {
                if unreached {
                    list(&api, ListParams::default(), MAX_POLICIES, |_| true).await.ok()
                } else {
                    None
                }
            };
            let pending = async {
                match watched.filter(|_| untrusted) {
                    None if untrusted => pending_count.get(&reader.client).await,
                    watched => watched,
                }
            };
            let (network_policies, pending_kubelet_csrs) = tokio::join!(policies, pending);
            Explanations { network_policies, pending_kubelet_csrs, pending_count }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::observe::Unreadable;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_kubelet_ca_for_a_bounded_time_while_it_cannot_be_read() {
        let found = || KubeletCa::Found("PEM".to_owned());
        let failed =
            |forbidden| KubeletCa::Unreadable(Unreadable { forbidden, message: "no response".to_owned() });
        let here = || "ConfigMap ns/a, key b".to_owned();
        let mut place = PolledPlace::default();
        assert_eq!(place.latest(KubeletCa::Unused, found(), here()), found());
        assert_eq!(place.latest(found(), failed(false), here()), found());
        advance(Duration::from_secs(59)).await;
        assert_eq!(place.latest(found(), failed(false), here()), found());
        advance(Duration::from_secs(1)).await;
        assert_eq!(place.latest(found(), failed(false), here()), failed(false));
        // A source that was never read is not known.
        assert_eq!(place.latest(found(), failed(false), "elsewhere".to_owned()), failed(false));
        // A missing permission is reported soon.
        assert_eq!(place.latest(KubeletCa::Unused, found(), here()), found());
        assert_eq!(place.latest(found(), failed(true), here()), found());
        advance(Duration::from_secs(10)).await;
        assert_eq!(place.latest(found(), failed(true), here()), failed(true));
        assert_eq!(place.latest(found(), KubeletCa::Unused, String::new()), KubeletCa::Unused);
    }
}
