//! What changed since it was last read. Only metadata is watched, each object by its name: the operator needs
//! no right to list anybody's Secrets, and keeps no cache of a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::MetricsPipeline;
use futures::{Stream, StreamExt};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::common::{METRICS_CORE, ManagedObject, OptionalPermissions, error_chain};
use crate::csr::SIGNER;
use crate::observe::watches::error_chain::error_chain;

/// Something that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// All MetricsPipelines.
    Pipelines,
    /// One owned object.
    Object(ManagedObject),
    /// The pods of the Deployment.
    Pods,
    /// The endpoints of the Service.
    Endpoints,
    /// How many nodes there are.
    Nodes,
    /// How kube-apiserver is known to aggregated API servers.
    FrontProxy,
    /// Kubelets' requests for serving certificates.
    SigningRequests,
}

impl Source {
    /// All that is watched.
    pub fn all(objects: &[ManagedObject], permissions: OptionalPermissions) -> impl Iterator<Item = Self> {
        let objects = objects.iter().copied().map(Self::Object);
        let requests = permissions.csr_approval.then_some(Self::SigningRequests);
        [Self::Pipelines, Self::Pods, Self::Endpoints, Self::FrontProxy]
            .into_iter()
            .chain(requests)
            .chain(objects)
    }
}

/// The sources that changed, and a bell.
#[derive(Debug, Default)]
pub struct Changes {
    changed: Mutex<BTreeSet<Source>>,
    bell: Notify,
}

impl Changes {
    /// Marks a source as changed.
    pub fn mark(&self, source: Source) {
        self.changed.lock().insert(source);
        self.bell.notify_one();
    }

    /// Marks a source, but wakes nobody.
    pub(super) fn mark_quietly(&self, source: Source) {
        self.changed.lock().insert(source);
    }

    /// Takes all marks.
    pub(super) fn take(&self) -> BTreeSet<Source> {
        std::mem::take(&mut self.changed.lock())
    }

    /// Waits until a source is marked.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }
}

/// The version of each source's object that was last read, to tell news from what the operator itself did.
pub(super) type Known = Arc<Mutex<std::collections::BTreeMap<ManagedObject, String>>>;

/// Watches all sources until the set is dropped.
pub(super) fn start(
    client: &Client,
    namespace: &str,
    objects: &[ManagedObject],
    permissions: OptionalPermissions,
    changes: &Arc<Changes>,
    known: &Known,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let labels = |key: &str| format!("{key}={METRICS_CORE}");

    let pipelines: Api<PartialObjectMeta<MetricsPipeline>> = Api::all(client.clone());
    tasks.spawn(follow(watch(pipelines, config()), changes.clone(), Source::Pipelines, |_| true));

    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let of_ours = config().labels(&labels("app.kubernetes.io/name"));
    tasks.spawn(follow(watch(pods, of_ours), changes.clone(), Source::Pods, |_| true));

    let endpoints: Api<PartialObjectMeta<EndpointSlice>> = Api::namespaced(client.clone(), namespace);
    let of_ours = config().labels(&labels("kubernetes.io/service-name"));
    tasks.spawn(follow(watch(endpoints, of_ours), changes.clone(), Source::Endpoints, |_| true));

    let front_proxy: Api<PartialObjectMeta<ConfigMap>> =
        Api::namespaced(client.clone(), crds::extension_apiserver_authentication::NAMESPACE);
    let by_name =
        config().fields(&format!("metadata.name={}", crds::extension_apiserver_authentication::CONFIG_MAP));
    tasks.spawn(follow(watch(front_proxy, by_name), changes.clone(), Source::FrontProxy, |_| true));
    if permissions.csr_approval {
        let requests: Api<PartialObjectMeta<CertificateSigningRequest>> = Api::all(client.clone());
        let of_kubelets = config().fields(&format!("spec.signerName={SIGNER}"));
        tasks.spawn(follow(watch(requests, of_kubelets), changes.clone(), Source::SigningRequests, |_| true));
    }

    for object in objects.iter().copied() {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            api(client, &object.resource(), object.namespace(namespace));
        let by_name = config().fields(&format!("metadata.name={}", object.name()));
        let known = known.clone();
        // News is what differs from the version that is already known, such as after a write of ours.
        let is_news = move |version: Option<&str>| known.lock().get(&object).map(String::as_str) != version;
        tasks.spawn(follow(watch(api, by_name), changes.clone(), Source::Object(object), is_news));
    }
    tasks
}

pub(super) fn api<K: kube::Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>>(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

fn config() -> watcher::Config {
    // A list of what is new by now, and pages, so that no answer is large.
    watcher::Config::default().page_size(100)
}

async fn follow<K: kube::Resource>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    changes: Arc<Changes>,
    source: Source,
    is_news: impl Fn(Option<&str>) -> bool,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    let mut seen = false;
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                failing = false;
                let news = match &event {
                    Event::Init => {
                        seen = false;
                        false
                    }
                    Event::InitApply(object) => {
                        seen = true;
                        is_news(object.meta().resource_version.as_deref())
                    }
                    Event::Apply(object) => is_news(object.meta().resource_version.as_deref()),
                    Event::InitDone => !seen && is_news(None),
                    Event::Delete(_) => true,
                };
                if news {
                    changes.mark(source);
                }
            }
            Err(error) => {
                // An unreachable kube-apiserver is told by the reconcile, once and not for every watch.
                if !failing && is_refusal(&error) {
                    tracing::warn!(
                        ?source,
                        error = error_chain(&error),
                        "a watch failed; retrying, and reading its objects at every reconcile until it works"
                    );
                }
                failing = true;
                changes.mark_quietly(source);
                // On top of the backoff: a right that is missing does not come back within a second.
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

fn is_refusal(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            matches!(error, kube::Error::Api(_))
        }
        // Such as 410 for a version that is too old, after which the watch begins anew.
        WatchError(status) => status.code != 410,
        NoResourceVersion => true,
    }
}
