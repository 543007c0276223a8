//! Reads one source from kube-apiserver.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{MetricsPipeline, extension_apiserver_authentication};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::common::names::METRICS_CORE_SELECTOR;
use crate::common::normalize::normalize;
use crate::common::request::{RequestError, with_retry, within};
use crate::common::{METRICS_CORE, ManagedObject};
use crate::observe::{Found, FrontProxyMap, Pipeline, Source, Unreadable, watches};

/// The deadline of one request.
pub(super) const REQUEST: Duration = Duration::from_secs(8);

/// The count of objects in a page.
const PAGE: u32 = 100;

/// The maximum count of MetricsPipelines that are read.
const MAX_PIPELINES: usize = 1000;

/// The maximum count of pods and of EndpointSlices that are read. metrics-core has at most 16 replicas, and pods that
/// terminate; finished pods, which may stay for days, are not read.
const MAX_PODS: usize = 500;

/// Pods that have not finished. An evicted pod is `Failed`, and Kubernetes keeps thousands of them.
const UNFINISHED: &str = "status.phase!=Failed,status.phase!=Succeeded";

/// Why the cluster could not be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    /// kube-apiserver was lost while reading.
    #[error("kube-apiserver cannot be reached: {0}")]
    Unreachable(RequestError),
    /// Without the MetricsPipelines nothing can be decided.
    #[error("MetricsPipelines could not be read: {0}")]
    Pipelines(RequestError),
}

/// What was read.
#[derive(Debug)]
pub(super) enum Reading {
    Pipelines(Vec<Pipeline>),
    Pods(Vec<Pod>),
    ReadyEndpoints(usize),
    /// Their watch keeps the count.
    Nodes,
    FrontProxy(FrontProxyMap),
    /// Their watch keeps them.
    SigningRequests,
    Object(ManagedObject, Found),
}

/// Reads from kube-apiserver.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Reader {
    /// Reads a source. A transient failure is retried once.
    pub(super) async fn read(&self, source: Source) -> Result<Reading, RequestError> {
        with_retry(|| self.read_once(source)).await
    }

    async fn read_once(&self, source: Source) -> Result<Reading, RequestError> {
        Ok(match source {
            Source::Pipelines => {
                let resource = ApiResource::erase::<MetricsPipeline>(&());
                let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
                let all = list(&api, ListParams::default(), MAX_PIPELINES, |_| true).await?;
                Reading::Pipelines(all.into_iter().map(Pipeline::read).collect())
            }
            Source::Pods => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
                let parameters = ListParams::default().labels(METRICS_CORE_SELECTOR).fields(UNFINISHED);
                Reading::Pods(list(&api, parameters, MAX_PODS, |_| true).await?)
            }
            Source::Endpoints => {
                let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
                let parameters =
                    ListParams::default().labels(&format!("kubernetes.io/service-name={METRICS_CORE}"));
                Reading::ReadyEndpoints(ready_endpoints(&list(&api, parameters, MAX_PODS, |_| true).await?))
            }
            Source::Nodes => Reading::Nodes,
            Source::FrontProxy => {
                let api: Api<ConfigMap> =
                    Api::namespaced(self.client.clone(), extension_apiserver_authentication::NAMESPACE);
                let map =
                    within(REQUEST, api.get_opt(extension_apiserver_authentication::CONFIG_MAP)).await?;
                Reading::FrontProxy(
                    map.map_or(FrontProxyMap::Absent, |map| {
                        FrontProxyMap::Found(map.data.unwrap_or_default())
                    }),
                )
            }
            Source::SigningRequests => Reading::SigningRequests,
            Source::Object(object) => Reading::Object(object, self.object(object, &self.namespace).await?),
        })
    }

    /// Returns what exists under the name of a managed object, if the operator's namespace is `namespace`.
    pub(super) async fn object(&self, object: ManagedObject, namespace: &str) -> Result<Found, RequestError> {
        let api: Api<DynamicObject> =
            watches::api(&self.client, &object.resource(), object.namespace(namespace));
        match within(REQUEST, api.get(object.name())).await {
            Ok(found) => Ok(Found::Present(Box::new(found))),
            Err(error) => absence(&error).ok_or(error),
        }
    }
}

/// Lists objects page by page, up to a maximum count of those that are kept.
pub(super) async fn list<K: Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    parameters: ListParams,
    max: usize,
    is_kept: impl Fn(&K) -> bool,
) -> Result<Vec<K>, RequestError> {
    let mut parameters = parameters.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = within(REQUEST, api.list(&parameters)).await?;
        all.extend(page.items.into_iter().filter(&is_kept));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if all.len() < max => parameters = parameters.continue_token(&token),
            _ => {
                all.truncate(max);
                return Ok(all);
            }
        }
    }
}

/// Returns what a 404 means. For a kind that is not served, kube-apiserver responds without a Status of its own.
fn absence(error: &RequestError) -> Option<Found> {
    match error.response() {
        Some(status) if status.reason == "NotFound" => Some(Found::Absent),
        Some(status) if status.code == 404 => Some(Found::Unserved),
        _ => None,
    }
}

pub(super) fn unreadable(error: &RequestError) -> Unreadable {
    match error.response() {
        Some(status) => Unreadable { forbidden: status.is_forbidden(), message: normalize(&status.message) },
        None => Unreadable { forbidden: false, message: error.to_string() },
    }
}

fn ready_endpoints(slices: &[EndpointSlice]) -> usize {
    // Dual-stack Services have a slice for each family; a pod counts once.
    let mut by_pod = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter()) {
        let name = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
        let address = endpoint.addresses.first().map(String::as_str);
        // Clients must take a missing value as ready (discovery.k8s.io/v1).
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        by_pod.insert(name.or(address), ready);
    }
    by_pod.into_values().filter(|ready| *ready).count()
}

#[cfg(test)]
mod tests;
