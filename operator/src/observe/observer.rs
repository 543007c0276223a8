//! Reads what changed and keeps the rest.

mod polling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::{ConfigMapKey, MetricsPipeline};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::config::AuthInfo;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::nodes::Nodes;
use super::replicas::{Token, Trust};
use super::watches::{self, Changes, Known, Source};
use super::{Found, FrontProxyMap, Observed, Pipeline, Unreadable, proof};
use crate::common::error_chain::causes;
use crate::common::normalize::normalize;
use crate::common::{METRICS_CORE, Owned, Powers};
use crate::csr::{self, SIGNER};
use crate::nanny::resize::ResizeRejection;
use crate::pki::Certificate;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// All is read again this often, in case a watch lost something.
const READ_ALL: Duration = Duration::from_secs(10 * 60);

/// MetricsPipelines beyond this many are not looked at.
const MAX_PIPELINES: u32 = 500;

/// Pods of metrics-core beyond this many are not looked at; there are at most 16, and those that end.
const MAX_PODS: u32 = 100;

/// Requests of kubelets that wait beyond this many are looked at when those before them are decided.
const MAX_REQUESTS: usize = 1000;

/// Why nothing could be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// kube-apiserver did not answer.
    #[error("kube-apiserver did not return {what} within {} s", TIMEOUT.as_secs())]
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
    /// How many nodes there were when it was last looked which of them have metrics.
    counted_nodes: usize,
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
            counted_nodes: 0,
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
        self.observed.resize_rejections.remove(&uid);
        if let Some(known) = self.observed.pods.iter_mut().find(|other| same(other)) {
            *known = pod;
        }
    }

    /// Takes over that a pod was not resized, by its UID.
    pub fn refused(&mut self, uid: String, refusal: ResizeRejection) {
        self.refused.entry(uid.clone()).or_insert_with(Instant::now);
        self.observed.resize_rejections.insert(uid, refusal);
    }

    /// Forgets refusals but those to be kept, by the pod's UID and how long ago it was; what is forgotten is tried
    /// again.
    pub fn forget_refusals(&mut self, keep: impl Fn(&String, Duration) -> bool) {
        self.refused.retain(|uid, since| keep(uid, since.elapsed()));
        let kept = &self.refused;
        self.observed.resize_rejections.retain(|uid, _| kept.contains_key(uid));
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
                let api: Api<ConfigMap> =
                    Api::namespaced(self.client.clone(), crds::extension_apiserver_authentication::NAMESPACE);
                let answer =
                    within("a ConfigMap", api.get_opt(crds::extension_apiserver_authentication::CONFIG_MAP))
                        .await;
                self.observed.front_proxy = match answer {
                    Ok(Some(map)) => FrontProxyMap::Found(map.data.unwrap_or_default()),
                    Ok(None) => FrontProxyMap::Absent,
                    Err(error) => FrontProxyMap::Unreadable(self.tolerate(source, error)?),
                };
            }
            Source::SigningRequests => match self.signing_requests().await {
                Ok(pending) => {
                    self.observed.signing_requests = pending;
                    self.observed.signing_requests_refused = None;
                }
                Err(error) => {
                    self.observed.signing_requests_refused = Some(self.tolerate(source, error)?.message);
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

    /// Those that wait, page by page: the decided ones stay for an hour, and a new cluster has thousands.
    async fn signing_requests(&self) -> Result<Vec<CertificateSigningRequest>, ObserveError> {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let mut parameters = ListParams::default().fields(&format!("spec.signerName={SIGNER}")).limit(500);
        let mut pending = Vec::new();
        loop {
            let page = within("CertificateSigningRequests", api.list(&parameters)).await?;
            pending.extend(page.items.into_iter().filter(csr::is_pending));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if pending.len() < MAX_REQUESTS => parameters = parameters.continue_token(&token),
                _ => return Ok(pending),
            }
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
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
        return Unreadable { forbidden: status.is_forbidden(), message: normalize(&status.message) };
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
}
