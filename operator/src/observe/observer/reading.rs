//! Reads one source from kube-apiserver.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::MetricsPipeline;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};

use super::Observer;
use crate::common::names::METRICS_CORE_SELECTOR;
use crate::common::normalize::normalize;
use crate::common::{METRICS_CORE, ManagedObject, error_chain};
use crate::observe::signing_requests::SigningRequests;
use crate::observe::{Found, FrontProxyMap, Pipeline, Source, Unreadable, watches};

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum count of MetricsPipelines that are read.
const MAX_PIPELINES: u32 = 500;

/// The maximum count of pods that are read. metrics-core has at most 16 replicas, and pods that terminate.
const MAX_PODS: u32 = 100;

/// Why the cluster could not be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    /// kube-apiserver did not respond in time.
    #[error("kube-apiserver did not return {what} within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// What was read.
        what: &'static str,
    },
    /// kube-apiserver returned an error or could not be reached.
    #[error("{what} could not be read: {}", error_chain(error))]
    Request {
        /// What was read.
        what: &'static str,
        /// The error.
        error: Box<kube::Error>,
    },
}

impl Observer {
    pub(super) async fn read(&mut self, source: Source) -> Result<(), ObserveError> {
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
                let parameters = ListParams::default().labels(METRICS_CORE_SELECTOR).limit(MAX_PODS);
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
                let response =
                    within("a ConfigMap", api.get_opt(crds::extension_apiserver_authentication::CONFIG_MAP))
                        .await;
                self.observed.front_proxy = match response {
                    Ok(Some(map)) => FrontProxyMap::Found(map.data.unwrap_or_default()),
                    Ok(None) => FrontProxyMap::Absent,
                    Err(error) => FrontProxyMap::Unreadable(self.tolerate(source, error)?),
                };
            }
            // Their watch keeps them.
            Source::SigningRequests => match self.signing_requests.as_ref().map(SigningRequests::pending) {
                Some(Ok(pending)) => {
                    self.observed.signing_requests = pending;
                    self.observed.signing_requests_error = None;
                }
                Some(Err(error)) => self.observed.signing_requests_error = Some(error),
                None => {}
            },
            Source::Object(object) => {
                let found = match read_object(&self.client, object, &self.namespace).await {
                    Ok(found) => found,
                    Err(error) => Found::Unreadable(self.tolerate(source, error)?),
                };
                self.store(object, found);
                if object == ManagedObject::Certificate && self.uses_cert_manager {
                    self.read_cert_manager().await;
                }
            }
        }
        Ok(())
    }

    /// Tolerates an error response: it concerns one source, and the others are still read. An unreachable
    /// kube-apiserver concerns all. Either way the source is read again in the next round, as no watch reports that an
    /// error such as 429 or 500 is over.
    fn tolerate(&self, source: Source, error: ObserveError) -> Result<Unreadable, ObserveError> {
        match &error {
            ObserveError::Request { error: inner, .. } if matches!(**inner, kube::Error::Api(_)) => {
                self.changes.mark_quietly(source);
                Ok(unreadable(&error))
            }
            _ => Err(error),
        }
    }
}

/// Reads what exists under the name of a managed object, if the operator's namespace is `namespace`.
pub(super) async fn read_object(
    client: &Client,
    object: ManagedObject,
    namespace: &str,
) -> Result<Found, ObserveError> {
    let api: Api<DynamicObject> = watches::api(client, &object.resource(), object.namespace(namespace));
    match within("a managed object", api.get(object.name())).await {
        Ok(found) => Ok(Found::Present(Box::new(found))),
        Err(error) => absence(&error).ok_or(error),
    }
}

pub(in crate::observe) async fn within<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ObserveError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(response) => response.map_err(|error| ObserveError::Request { what, error: Box::new(error) }),
        Err(_) => Err(ObserveError::Timeout { what }),
    }
}

/// Returns what a 404 means. For a kind that is not served, kube-apiserver responds without a Status of its own.
fn absence(error: &ObserveError) -> Option<Found> {
    let ObserveError::Request { error, .. } = error else { return None };
    match &**error {
        kube::Error::Api(status) if status.reason == "NotFound" => Some(Found::Absent),
        kube::Error::Api(status) if status.code == 404 => Some(Found::Unserved),
        _ => None,
    }
}

pub(super) fn unreadable(error: &ObserveError) -> Unreadable {
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
    fn distinguishes_an_unserved_kind_from_an_absent_object() {
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
