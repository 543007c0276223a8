//! What is there: the MetricsPipelines, every owned object, the pods, the nodes, and whether metrics are
//! served. Nothing is decided here.

mod active_pipeline;
mod cert_manager;
mod nodes;
mod observer;
mod proof;
mod replicas;
mod served;
mod symptoms;
mod usage;
mod watches;

use std::collections::{BTreeMap, BTreeSet};

use crds::extension_apiserver_authentication::PROXY_CA;
use crds::report::Report;
use crds::{MetricsPipelineSpec, MetricsPipelineStatus};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DynamicObject;

use crate::common::Owned;
use crate::nanny::Usage;
use crate::nanny::resize::ResizeRejections;
use crate::pki::external::ExternalCertificate;

pub use active_pipeline::{Serving, serving};
pub use observer::{ObserveError, Observer};
pub use proof::{Proof, Replica, Seen};
pub use replicas::{ReportError, Teller};
pub use served::{MAX_RESPONSE, Served};
pub use symptoms::{Symptoms, Unavailable};
pub use watches::{Changes, Source};

/// A MetricsPipeline, as far as it can be read.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// The spec, or why it can't be read: an object that was stored before its schema changed.
    pub spec: Result<MetricsPipelineSpec, String>,
    /// The status; empty when it can't be read, as it is written anew then.
    pub status: MetricsPipelineStatus,
}

impl Pipeline {
    /// Takes what can be read from an object.
    #[must_use]
    pub fn read(object: DynamicObject) -> Self {
        let DynamicObject { metadata, mut data, .. } = object;
        let mut part = |name: &str| data.get_mut(name).map(serde_json::Value::take);
        let spec = part("spec").unwrap_or_else(|| serde_json::json!({}));
        let status = part("status").and_then(|status| serde_json::from_value(status).ok());
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            // The error names the field by its path.
            spec: serde_path_to_error::deserialize(spec).map_err(|error| error.to_string()),
            status: status.unwrap_or_default(),
        }
    }
}

/// What was found under the name of an owned object.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing.
    Absent,
    /// Nothing, as its API is not served.
    Unserved,
    /// An object, ours or not.
    Present(Box<DynamicObject>),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether a right is missing.
    pub forbidden: bool,
    /// kube-apiserver's words.
    pub message: String,
}

/// The kubelets' CA at its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KubeletCa {
    /// It is not asked for.
    #[default]
    Unused,
    /// PEM.
    Found(String),
    /// There is no such ConfigMap, or no such key in it.
    Missing {
        /// Where it was looked for: `ConfigMap ns/name, key ca.crt`.
        place: String,
    },
    /// It could not be read.
    Unreadable(Unreadable),
}

/// A serving certificate that somebody else issues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServingSource {
    /// It is not asked for.
    #[default]
    Unused,
    /// The Secret is there.
    Found(ExternalCertificate),
    /// There is no such Secret.
    Missing,
    /// It could not be read.
    Unreadable(Unreadable),
}

/// ConfigMap kube-system/extension-apiserver-authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FrontProxyMap {
    /// It was not asked for yet.
    #[default]
    NotRead,
    /// There is none.
    Absent,
    /// Its data.
    Found(BTreeMap<String, String>),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All MetricsPipelines.
    pub pipelines: Vec<Pipeline>,
    /// What stands under the name of each owned object.
    pub objects: BTreeMap<Owned, Found>,
    /// Whose fields of which object stay different however often they are applied, as an admission webhook
    /// rewrites them.
    pub overruled: BTreeSet<(Owned, &'static str)>,
    /// The pods of the Deployment.
    pub pods: Vec<Pod>,
    /// How many endpoints of the Service are ready; `None` when that could not be read.
    pub ready_endpoints: Option<usize>,
    /// The kubelets' CA.
    pub kubelet_ca: KubeletCa,
    /// The serving certificate that somebody else issues.
    pub serving_source: ServingSource,
    /// What cert-manager's latest CertificateRequest says, as a part of a sentence, while what it was asked for is not
    /// issued.
    pub certificate_request: Option<String>,
    /// How many nodes are to be scraped; `None` when that is not known.
    pub nodes: Option<usize>,
    /// How many containers have metrics; only when the nanny counts them.
    pub containers: Option<usize>,
    /// What the replicas use, as they say themselves; only when the nanny asks.
    pub usage: Option<Usage>,
    /// What was refused to be done to pods.
    pub resize_rejections: ResizeRejections,
    /// Whether a request for metrics is answered. After one that failed, what was known before.
    pub served: Served,
    /// Whether the last request failed, and the next one decides.
    pub served_in_doubt: bool,
    /// Since when every request for metrics was answered.
    pub answered_since: Option<Timestamp>,
    /// How kube-apiserver is known to aggregated API servers.
    pub front_proxy: FrontProxyMap,
    /// The pods of metrics-core that run, and what they told.
    pub replicas: Vec<Teller>,
    /// The NetworkPolicies of the operator's namespace, once they may explain something.
    pub network_policies: Option<Vec<NetworkPolicy>>,
    /// How many CertificateSigningRequests of kubelets wait for an approval, once they may explain something.
    pub pending_kubelet_csrs: Option<usize>,
    /// Since when nodes have had no metrics although their kubelets answer.
    pub uncovered_since: Option<Timestamp>,
    /// Requests of kubelets for serving certificates that nobody decided on; empty unless they may be approved.
    pub signing_requests: Vec<CertificateSigningRequest>,
    /// Why those requests can't be read, in kube-apiserver's words.
    pub signing_requests_refused: Option<String>,
    /// Why requests that match could not be approved, in kube-apiserver's words.
    pub approval_refused: Option<String>,
    /// Which certificate the replicas serve; looked at only while a CA is being replaced.
    pub proof: Option<Proof>,
}

impl Observed {
    /// The object under a name, ours or not.
    #[must_use]
    pub fn object(&self, object: Owned) -> Option<&DynamicObject> {
        match self.objects.get(&object) {
            Some(Found::Present(object)) => Some(object),
            _ => None,
        }
    }

    /// Why an object could not be read.
    #[must_use]
    pub fn unreadable(&self, object: Owned) -> Option<&Unreadable> {
        match self.objects.get(&object) {
            Some(Found::Unreadable(why)) => Some(why),
            _ => None,
        }
    }

    /// What the ready replicas told; of those that are not ready, too, when none is.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        let told = |replica: &&Teller| replica.report.is_ok();
        let any_ready = self.replicas.iter().filter(told).any(|replica| replica.ready);
        self.replicas
            .iter()
            .filter(move |replica| replica.ready || !any_ready)
            .filter_map(|replica| replica.report.as_deref().ok())
    }

    /// What kube-apiserver publishes as the front proxy's CA, PEM.
    #[must_use]
    pub fn published_front_proxy_ca(&self) -> Option<&str> {
        match &self.front_proxy {
            FrontProxyMap::Found(data) => data.get(PROXY_CA).map(String::as_str),
            _ => None,
        }
    }

    /// In words why no replica told anything; `None` when one did.
    #[must_use]
    pub fn why_no_report(&self) -> Option<String> {
        if self.reports().next().is_some() {
            return None;
        }
        let why: Vec<_> = self
            .replicas
            .iter()
            .filter_map(|replica| Some(format!("pod {}: {}", replica.pod, replica.report.as_ref().err()?)))
            .collect();
        Some(if why.is_empty() {
            "No running pod of metrics-core could be polled.".to_owned()
        } else {
            format!("The replicas could not be polled: {}.", why.join("; "))
        })
    }

    /// A typed copy of an object.
    #[must_use]
    pub fn typed<K: serde::de::DeserializeOwned>(&self, object: Owned) -> Option<K> {
        // The metadata is left out: whoever wants it has it, and managedFields are long.
        serde_json::from_value(self.object(object)?.data.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_pipeline_keeps_its_identity() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": "broken", "uid": "u", "generation": 3, "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "metricsCore": { "replicas": "many" } },
            "status": { "conditions": "none" },
        }))
        .expect("an object");
        let pipeline = Pipeline::read(object);
        assert_eq!((pipeline.name.as_str(), pipeline.generation, pipeline.deleting), ("broken", 3, true));
        let error = pipeline.spec.expect_err("an error");
        assert!(error.starts_with("metricsCore.replicas: ") && error.contains("many"), "{error}");
        assert_eq!(pipeline.status, MetricsPipelineStatus::default());
    }

    #[test]
    fn an_empty_pipeline_has_all_defaults() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "metrics-pipeline.dev/v1alpha1", "kind": "MetricsPipeline",
            "metadata": { "name": "a" },
        }))
        .expect("an object");
        assert_eq!(Pipeline::read(object).spec, Ok(MetricsPipelineSpec::default()));
    }
}
