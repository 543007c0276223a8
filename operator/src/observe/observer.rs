//! Reads what changed and keeps the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use crds::cause::ScrapeCause;
use crds::{ConfigMapKey, KubeletTlsMode, MetricsPipeline, MetricsPipelineSpec, NannyMode, ScalingMode};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::config::AuthInfo;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::nodes::Nodes;
use super::replicas::{self, Token, Trust};
use super::watches::{self, Changes, Known, Source};
use super::{
    Found, FrontProxyMap, KubeletCa, Observed, Pipeline, Served, ServingSource, Unreadable, cert_manager,
    proof, served, usage,
};
use crate::approval::{self, SIGNER};
use crate::causes::causes;
use crate::decide::ownership::is_ours;
use crate::diagnosis::{Symptoms, kubelets};
use crate::nanny::resize::Refusal;
use crate::owned::{METRICS_CORE, Owned};
use crate::pki::Certificate;
use crate::pki::cert_manager::{SECRET, asked};
use crate::pki::external::External;
use crate::powers::Powers;
use crate::quote::steady;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// All is read again this often, in case a watch lost something.
const READ_ALL: Duration = Duration::from_secs(10 * 60);

/// What the replicas use is asked for this often at most; metrics-core has new samples no sooner.
const ASK_USAGE: Duration = Duration::from_secs(10);

/// Containers are counted this often at most, as all of them must be listed.
const COUNT_CONTAINERS: Duration = Duration::from_secs(60);

/// MetricsPipelines beyond this many are not looked at.
const MAX_PIPELINES: u32 = 500;

/// Pods of metrics-core beyond this many are not looked at; there are at most 16, and those that end.
const MAX_PODS: u32 = 100;

/// NetworkPolicies of the namespace beyond this many are not looked at.
const MAX_POLICIES: u32 = 200;

/// Requests of kubelets that wait beyond this many are looked at when those before them are decided.
const MAX_REQUESTS: usize = 1000;

/// Why nothing could be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// kube-apiserver did not answer.
    #[error("kube-apiserver did not answer within {} s when asked for {what}", TIMEOUT.as_secs())]
    Timeout {
        /// What was asked for.
        what: &'static str,
    },
    /// kube-apiserver refused or could not be reached.
    #[error("{what} could not be read: {}", causes(error))]
    Request {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        error: Box<kube::Error>,
    },
}

/// Reads what changed and keeps the rest.
pub struct Observer {
    client: Client,
    namespace: String,
    /// The owned objects that may be seen.
    objects: Vec<Owned>,
    powers: Powers,
    changes: Arc<Changes>,
    known: Known,
    _watches: JoinSet<()>,
    observed: Observed,
    read_all: Option<Instant>,
    nodes: Option<Nodes>,
    asked_usage: Option<Instant>,
    counted_containers: Option<Instant>,
    refused: BTreeMap<String, Instant>,
    /// Where the kubelets' CA was last read from.
    kubelet_ca_of: Option<ConfigMapKey>,
    /// Whether cert-manager is asked for the serving certificate.
    asks_cert_manager: bool,
    token: Token,
    trust: Trust,
}

impl Observer {
    /// Starts the watches; the first observation reads everything.
    #[must_use]
    pub fn start(client: Client, namespace: String, powers: Powers, auth: &AuthInfo) -> Self {
        // Without the right to see an object there is nothing to watch.
        let seen = |object: &Owned| object.power().is_none_or(|power| powers.has(power));
        let objects: Vec<_> = Owned::ALL.into_iter().filter(seen).collect();
        let changes = Arc::new(Changes::default());
        let known: Known = Arc::new(Mutex::default());
        let watches = watches::start(&client, &namespace, &objects, powers, &changes, &known);
        Self {
            client,
            namespace,
            objects,
            powers,
            changes,
            known,
            _watches: watches,
            observed: Observed::default(),
            read_all: None,
            nodes: None,
            asked_usage: None,
            counted_containers: None,
            refused: BTreeMap::new(),
            kubelet_ca_of: None,
            asks_cert_manager: false,
            token: Token::of(auth),
            trust: Trust::default(),
        }
    }

    /// What changed since the last observation.
    #[must_use]
    pub fn changes(&self) -> Arc<Changes> {
        self.changes.clone()
    }

    /// What was last observed.
    #[must_use]
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Takes over what kube-apiserver answered to a write.
    pub fn wrote(&mut self, object: Owned, found: Found) {
        if let Found::Present(present) = &found
            && let Some(version) = &present.metadata.resource_version
        {
            self.known.lock().insert(object, version.clone());
        } else {
            self.known.lock().remove(&object);
        }
        self.observed.objects.insert(object, found);
    }

    /// Takes over whether a field manager's fields stay different although they were applied.
    pub fn overruled(&mut self, object: Owned, manager: &'static str, overruled: bool) {
        if overruled {
            self.observed.overruled.insert((object, manager));
        } else {
            self.observed.overruled.remove(&(object, manager));
        }
    }

    /// Takes over a pod as kube-apiserver answered when it was resized.
    pub fn resized(&mut self, pod: Pod) {
        let same = |other: &Pod| other.metadata.uid == pod.metadata.uid;
        // What it refused before is history.
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.refused.remove(&uid);
        self.observed.refusals.remove(&uid);
        if let Some(known) = self.observed.pods.iter_mut().find(|other| same(other)) {
            *known = pod;
        }
    }

    /// Takes over that a pod was not resized, by its UID.
    pub fn refused(&mut self, uid: String, refusal: Refusal) {
        self.refused.entry(uid.clone()).or_insert_with(Instant::now);
        self.observed.refusals.insert(uid, refusal);
    }

    /// Forgets refusals but those to be kept, by the pod's UID and how long ago it was; what is forgotten is tried
    /// again.
    pub fn forget_refusals(&mut self, keep: impl Fn(&String, Duration) -> bool) {
        self.refused.retain(|uid, since| keep(uid, since.elapsed()));
        let kept = &self.refused;
        self.observed.refusals.retain(|uid, _| kept.contains_key(uid));
    }

    /// Has an object read again before the next decision.
    pub fn forget(&mut self, source: Source) {
        self.changes.mark_quietly(source);
    }

    /// Reads what changed; whether anything did.
    pub async fn observe(&mut self) -> Result<bool, ObserveError> {
        let mut changed = self.changes.take();
        if self.read_all.is_none_or(|last| last.elapsed() >= READ_ALL) {
            changed.extend(Source::all(&self.objects, self.powers));
            self.read_all = Some(Instant::now());
        }
        let is_news = !changed.is_empty();
        while let Some(source) = changed.pop_first() {
            if let Err(error) = self.read(source).await {
                // What was not read now is read next time.
                self.changes.mark_quietly(source);
                for source in changed {
                    self.changes.mark_quietly(source);
                }
                return Err(error);
            }
        }
        // A watch counts them, so the number is never older than a round: the nanny tells a burst by it.
        if let Some(nodes) = &self.nodes {
            self.observed.nodes = nodes.count();
        }
        Ok(is_news)
    }

    async fn read(&mut self, source: Source) -> Result<(), ObserveError> {
        match source {
            Source::Pipelines => {
                let resource = ApiResource::erase::<MetricsPipeline>(&());
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                let parameters = ListParams::default().limit(MAX_PIPELINES);
                let list = within("MetricsPipelines", api.list(&parameters)).await?;
                self.observed.pipelines = list.items.into_iter().map(Pipeline::read).collect();
            }
            Source::Pods => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
                let parameters = ListParams::default()
                    .labels(&format!("app.kubernetes.io/name={METRICS_CORE}"))
                    .limit(MAX_PODS);
                match within("pods", api.list(&parameters)).await {
                    Ok(list) => self.observed.pods = list.items,
                    Err(error) => _ = self.tolerate(source, error)?,
                }
            }
            Source::Endpoints => {
                let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
                let parameters = ListParams::default()
                    .labels(&format!("kubernetes.io/service-name={METRICS_CORE}"))
                    .limit(MAX_PODS);
                self.observed.ready_endpoints = match within("EndpointSlices", api.list(&parameters)).await {
                    Ok(list) => Some(ready_endpoints(&list.items)),
                    Err(error) => self.tolerate(source, error).map(|_| None)?,
                };
            }
            // Its watch keeps the count.
            Source::Nodes => {}
            Source::FrontProxy => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), crds::front_proxy::NAMESPACE);
                let answer = within("a ConfigMap", api.get_opt(crds::front_proxy::CONFIG_MAP)).await;
                self.observed.front_proxy = match answer {
                    Ok(Some(map)) => FrontProxyMap::Found(map.data.unwrap_or_default()),
                    Ok(None) => FrontProxyMap::Absent,
                    Err(error) => FrontProxyMap::Unreadable(self.tolerate(source, error)?),
                };
            }
            Source::SigningRequests => match self.signing_requests().await {
                Ok(pending) => self.observed.signing_requests = pending,
                Err(error) => {
                    self.observed.approval_refused = Some(self.tolerate(source, error)?.message);
                }
            },
            Source::Object(object) => {
                let api: Api<DynamicObject> =
                    watches::api(&self.client, &object.resource(), object.namespace(&self.namespace));
                let found = match within("an owned object", api.get(object.name())).await {
                    Ok(found) => Found::Present(Box::new(found)),
                    Err(error) => match absence(&error) {
                        Some(absence) => absence,
                        None => Found::Unreadable(self.tolerate(source, error)?),
                    },
                };
                self.wrote(object, found);
                if object == Owned::Certificate && self.asks_cert_manager {
                    self.ask_cert_manager().await;
                }
            }
        }
        Ok(())
    }

    /// A refusal concerns one object, and the others go on; an unreachable kube-apiserver concerns all. Either way
    /// the source is read again next time: no watch tells that a refusal, such as 429 or 500, is over.
    fn tolerate(&self, source: Source, error: ObserveError) -> Result<Unreadable, ObserveError> {
        match &error {
            ObserveError::Request { error: inner, .. } if matches!(**inner, kube::Error::Api(_)) => {
                self.changes.mark_quietly(source);
                Ok(words(&error))
            }
            _ => Err(error),
        }
    }

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
        self.asks_cert_manager = asked(spec).is_some() && self.powers.cert_manager;
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
        let uncovered = kubelets::coverage(&self.observed)
            .is_some_and(|nodes| nodes.covered + nodes.failing < nodes.total && nodes.covered > 0);
        let since = self.observed.uncovered_since.unwrap_or_else(Timestamp::now);
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

    /// Looks at which certificate each replica serves; whether all serve the given one.
    pub async fn prove(
        &mut self,
        port: u16,
        server: &str,
        certificate: &Certificate,
        ca: &Certificate,
    ) -> bool {
        let proof = proof::look(&self.observed.pods, port, server, certificate, ca).await;
        let proven = proof.proven(&self.observed.pods).is_some();
        self.observed.proof = Some(proof);
        proven
    }

    /// Takes over what kube-apiserver refused when requests were to be approved.
    pub fn approval_refused(&mut self, why: Option<String>) {
        self.observed.approval_refused = why;
    }

    /// Nothing is to be proven.
    pub fn settle(&mut self) {
        self.observed.proof = None;
    }

    /// Reads what cert-manager stored, and what it says. Also at once when it changed the Certificate, so that what is
    /// said of the two fits together.
    async fn ask_cert_manager(&mut self) {
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
                ServingSource::Found(External {
                    pair: take("tls.crt").zip(take("tls.key")),
                    authorities: take("ca.crt"),
                })
            }
            Err(error) => ServingSource::Unreadable(words(&error)),
        }
    }

    /// Those that wait, page by page: the decided ones stay for an hour, and a new cluster has thousands.
    async fn signing_requests(&self) -> Result<Vec<CertificateSigningRequest>, ObserveError> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let mut parameters = ListParams::default().fields(&format!("spec.signerName={SIGNER}")).limit(500);
        let mut pending = Vec::new();
        loop {
            let page = within("CertificateSigningRequests", api.list(&parameters)).await?;
            pending.extend(page.items.into_iter().filter(approval::is_pending));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if pending.len() < MAX_REQUESTS => parameters = parameters.continue_token(&token),
                _ => return Ok(pending),
            }
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

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

/// A pause of kube-apiserver says nothing about a CA that was read before from the same place: it stays.
fn latest_kubelet_ca(before: KubeletCa, seen: KubeletCa, same_source: bool) -> KubeletCa {
    match (before, seen) {
        (KubeletCa::Found(pem), KubeletCa::Unreadable(why)) if same_source && !why.forbidden => {
            tracing::warn!(
                why = why.message,
                "the kubelets' CA could not be read again; what was read before is kept"
            );
            KubeletCa::Found(pem)
        }
        (_, seen) => seen,
    }
}

async fn within<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ObserveError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| ObserveError::Request { what, error: Box::new(error) }),
        Err(_) => Err(ObserveError::Timeout { what }),
    }
}

/// That there is nothing: for an API that is not served, kube-apiserver answers 404 without a Status of its own.
fn absence(error: &ObserveError) -> Option<Found> {
    let ObserveError::Request { error, .. } = error else { return None };
    match &**error {
        kube::Error::Api(status) if status.reason == "NotFound" => Some(Found::Absent),
        kube::Error::Api(status) if status.code == 404 => Some(Found::Unserved),
        _ => None,
    }
}

fn words(error: &ObserveError) -> Unreadable {
    if let ObserveError::Request { error: inner, .. } = error
        && let kube::Error::Api(status) = &**inner
    {
        return Unreadable { forbidden: status.is_forbidden(), message: steady(&status.message) };
    }
    Unreadable { forbidden: false, message: error.to_string() }
}

fn ready_endpoints(slices: &[EndpointSlice]) -> usize {
    // Dual-stack Services have a slice for each family; a pod counts once.
    let mut by_pod = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter()) {
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        let address = endpoint.addresses.first().map(String::as_str);
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        by_pod.insert(name.or(address), ready);
    }
    by_pod.into_values().filter(|ready| *ready).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_not_served_is_told_from_an_object_that_is_not_there() {
        let answered = |message: &str, reason: &str, code: u16| {
            let status = kube::core::Status::failure(message, reason).with_code(code);
            absence(&ObserveError::Request { what: "", error: Box::new(kube::Error::Api(status.boxed())) })
        };
        assert!(matches!(answered("certificates \"a\" not found", "NotFound", 404), Some(Found::Absent)));
        let text = answered("404 page not found", "Failed to parse error data", 404);
        assert!(matches!(text, Some(Found::Unserved)), "{text:?}");
        assert!(answered("forbidden", "Forbidden", 403).is_none());
    }

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
