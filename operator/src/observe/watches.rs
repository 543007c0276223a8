//! Watches for changes. Only metadata is watched, and each object by its name: the operator needs no permission to list
//! Secrets, and keeps no cache of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::MetricsPipeline;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::common::names::METRICS_CORE_SELECTOR;
use crate::common::{METRICS_CORE, ManagedObject, OptionalPermissions, error_chain};

/// A source of what is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// All MetricsPipelines.
    Pipelines,
    /// One managed object.
    Object(ManagedObject),
    /// The pods of metrics-core.
    Pods,
    /// The endpoints of the Service.
    Endpoints,
    /// The count of nodes.
    Nodes,
    /// ConfigMap kube-system/extension-apiserver-authentication.
    FrontProxy,
    /// Kubelets' CertificateSigningRequests.
    SigningRequests,
}

impl Source {
    /// Returns all sources that the operator has permission to read.
    pub(crate) fn all(
        objects: &[ManagedObject],
        permissions: OptionalPermissions,
    ) -> impl Iterator<Item = Self> {
        let objects = objects.iter().copied().map(Self::Object);
        let requests = permissions.csr_approval.then_some(Self::SigningRequests);
        [Self::Pipelines, Self::Pods, Self::Endpoints, Self::FrontProxy]
            .into_iter()
            .chain(requests)
            .chain(objects)
    }
}

/// The sources that changed since they were last read.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    changed: Mutex<BTreeSet<Source>>,
    notify: Notify,
}

impl Changes {
    /// Marks a source as changed, and wakes the loop.
    pub(crate) fn mark(&self, source: Source) {
        self.changed.lock().insert(source);
        self.notify.notify_one();
    }

    /// Marks a source as changed, without waking the loop.
    pub(super) fn mark_quietly(&self, source: Source) {
        self.changed.lock().insert(source);
    }

    /// Takes all marks.
    pub(super) fn take(&self) -> BTreeSet<Source> {
        std::mem::take(&mut self.changed.lock())
    }

    /// Waits until a source is marked.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

/// The version of each object that was last read or written. The watches ignore an event with this version: it follows
/// from a write of the operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<Mutex<BTreeMap<ManagedObject, String>>>);

impl Known {
    /// Records the version that a read or a write returned. The event of a write can arrive before the round ends, so the
    /// version of a write must be recorded at once.
    pub(crate) fn record(&self, object: ManagedObject, found: &DynamicObject) {
        match &found.metadata.resource_version {
            Some(version) => _ = self.0.lock().insert(object, version.clone()),
            None => self.forget(object),
        }
    }

    /// Records that the object does not exist or could not be read.
    pub(super) fn forget(&self, object: ManagedObject) {
        self.0.lock().remove(&object);
    }

    /// Whether an event with this version reports a change. `None` is the version of an absent object.
    fn is_change(&self, object: ManagedObject, version: Option<&str>) -> bool {
        self.0.lock().get(&object).map(String::as_str) != version
    }
}

/// Watches all sources until the set is dropped.
pub(super) fn start(
    client: &Client,
    namespace: &str,
    objects: &[ManagedObject],
    changes: &Arc<Changes>,
    known: &Known,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();

    let pipelines: Api<PartialObjectMeta<MetricsPipeline>> = Api::all(client.clone());
    tasks.spawn(follow(watch(pipelines, config()), changes.clone(), Source::Pipelines, |_| true));

    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let of_ours = config().labels(METRICS_CORE_SELECTOR);
    tasks.spawn(follow(watch(pods, of_ours), changes.clone(), Source::Pods, |_| true));

    let endpoints: Api<PartialObjectMeta<EndpointSlice>> = Api::namespaced(client.clone(), namespace);
    let of_ours = config().labels(&format!("kubernetes.io/service-name={METRICS_CORE}"));
    tasks.spawn(follow(watch(endpoints, of_ours), changes.clone(), Source::Endpoints, |_| true));

    let front_proxy: Api<PartialObjectMeta<ConfigMap>> =
        Api::namespaced(client.clone(), crds::extension_apiserver_authentication::NAMESPACE);
    let by_name =
        config().fields(&format!("metadata.name={}", crds::extension_apiserver_authentication::CONFIG_MAP));
    tasks.spawn(follow(watch(front_proxy, by_name), changes.clone(), Source::FrontProxy, |_| true));

    for object in objects.iter().copied() {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            api(client, &object.resource(), object.namespace(namespace));
        let by_name = config().fields(&format!("metadata.name={}", object.name()));
        let known = known.clone();
        let is_change = move |version: Option<&str>| known.is_change(object, version);
        tasks.spawn(follow(watch(api, by_name), changes.clone(), Source::Object(object), is_change));
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
    // Pages bound the size of a response.
    watcher::Config::default().page_size(100)
}

async fn follow<K: kube::Resource>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    changes: Arc<Changes>,
    source: Source,
    is_change: impl Fn(Option<&str>) -> bool,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    let mut seen = false;
    let mut failing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                failing = false;
                let must_read = match &event {
                    Event::Init => {
                        seen = false;
                        false
                    }
                    Event::InitApply(object) => {
                        seen = true;
                        is_change(object.meta().resource_version.as_deref())
                    }
                    Event::Apply(object) => is_change(object.meta().resource_version.as_deref()),
                    Event::InitDone => !seen && is_change(None),
                    Event::Delete(_) => true,
                };
                if must_read {
                    changes.mark(source);
                }
            }
            Err(error) => {
                // The reconcile reports an unreachable kube-apiserver, once and not for every watch.
                if !failing && is_error_response(&error) {
                    tracing::warn!(
                        ?source,
                        error = error_chain(&error),
                        "a watch failed; retrying, and reading its objects at every reconcile until it recovers"
                    );
                }
                failing = true;
                changes.mark_quietly(source);
                // On top of the backoff: a missing permission does not come back within a second.
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

pub(super) fn is_error_response(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            matches!(error, kube::Error::Api(_))
        }
        // After 410 (the version is too old) the watch restarts by itself.
        WatchError(status) => status.code != 410,
        NoResourceVersion => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(version: &str) -> DynamicObject {
        let object = json!({ "metadata": { "name": "metrics-core", "resourceVersion": version } });
        serde_json::from_value(object).expect("an object")
    }

    /// Returns whether the watch marks the source for an event of the Service with this version.
    async fn marks(known: &Known, version: &str) -> bool {
        let changes = Arc::new(Changes::default());
        let events = futures::stream::iter([Ok(Event::Apply(object(version)))]);
        let source = Source::Object(ManagedObject::Service);
        let known = known.clone();
        follow(events, changes.clone(), source, move |version| {
            known.is_change(ManagedObject::Service, version)
        })
        .await;
        changes.take().contains(&source)
    }

    #[tokio::test]
    async fn ignores_the_event_of_a_recorded_write() {
        let known = Known::default();
        assert!(marks(&known, "2").await);
        // What the writer does right after the response.
        known.clone().record(ManagedObject::Service, &object("2"));
        assert!(!marks(&known, "2").await);
        assert!(marks(&known, "3").await, "a write of another writer");
        known.record(ManagedObject::Deployment, &object("3"));
        assert!(marks(&known, "3").await, "a version of another object");
        known.forget(ManagedObject::Service);
        assert!(marks(&known, "2").await, "the object was deleted in between");
    }
}
