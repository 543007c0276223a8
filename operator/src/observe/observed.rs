//! Everything that one round knows of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::extension_apiserver_authentication::PROXY_CA;
use crds::report::Report;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DynamicObject;

use super::{Facts, Pipeline, PreviousNamespace, Proof, ReplicaReport, Served};
use crate::common::ManagedObject;
use crate::csr::PendingRequest;
use crate::nanny::Usage;
use crate::nanny::resize::ResizeRejections;
use crate::pki::external::ExternalCertificate;

/// What was found under the name of a managed object.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// Nothing: kube-apiserver does not serve the kind.
    Unserved,
    /// An object, managed by the operator or foreign.
    Present(Box<DynamicObject>),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whether kube-apiserver returned 403.
    pub forbidden: bool,
    /// kube-apiserver's message.
    pub message: String,
}

/// The kubelets' CA at its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KubeletCa {
    /// The spec does not use it.
    #[default]
    Unused,
    /// The PEM bundle.
    Found(String),
    /// The ConfigMap or its key does not exist.
    Missing {
        /// The place: `ConfigMap ns/name, key ca.crt`.
        place: String,
    },
    /// It could not be read.
    Unreadable(Unreadable),
}

/// A serving certificate that the operator does not issue itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServingSource {
    /// The spec does not use one.
    #[default]
    Unused,
    /// The Secret exists.
    Found(ExternalCertificate),
    /// The Secret does not exist.
    Missing,
    /// It could not be read.
    Unreadable(Unreadable),
}

/// ConfigMap kube-system/extension-apiserver-authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FrontProxyMap {
    /// It was not read yet.
    #[default]
    NotRead,
    /// It does not exist.
    Absent,
    /// Its data.
    Found(BTreeMap<String, String>),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// Everything that one round knows of the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// All MetricsPipelines.
    pub pipelines: Vec<Pipeline>,
    /// What exists under the name of each managed object.
    pub objects: BTreeMap<ManagedObject, Found>,
    /// Objects and field managers for which an admission webhook mutates what is applied, so that it always differs.
    pub mutated_by_admission: BTreeSet<(ManagedObject, &'static str)>,
    /// For how long each APIService has announced the Service and the CA bundle that it announces now.
    pub announced_for: BTreeMap<ManagedObject, Duration>,
    /// What is left in the namespace that the operator was in before; `None` if there is none or it was not read yet.
    pub previous_namespace: Option<PreviousNamespace>,
    /// The pods of metrics-core.
    pub pods: Vec<Pod>,
    /// The count of ready endpoints of the Service; `None` when they could not be read.
    pub ready_endpoints: Option<usize>,
    /// The CA bundle that verifies kubelets.
    pub kubelet_ca: KubeletCa,
    /// The serving certificate that the operator does not issue itself.
    pub serving_source: ServingSource,
    /// The message of cert-manager's latest CertificateRequest, as a part of a sentence, while its Certificate is not
    /// issued.
    pub certificate_request: Option<String>,
    /// The count of nodes that should be scraped; `None` when it is unknown.
    pub nodes: Option<usize>,
    /// The count of containers with metrics; only when the nanny scales by it.
    pub containers: Option<usize>,
    /// The resources that the replicas use, from the Metrics API; only when the nanny is on.
    pub usage: Option<Usage>,
    /// The resizes that kube-apiserver rejected.
    pub resize_rejections: ResizeRejections,
    /// The result of a request for metrics. After a first failure, the result before it.
    pub served: Served,
    /// Whether the last request for metrics failed, and the next one decides.
    pub served_in_doubt: bool,
    /// Since when every request for metrics succeeds.
    pub succeeding_since: Option<Timestamp>,
    /// How aggregated API servers authenticate kube-apiserver.
    pub front_proxy: FrontProxyMap,
    /// The reports of the running pods of metrics-core.
    pub replicas: Vec<ReplicaReport>,
    /// The NetworkPolicies of the operator's namespace; read only when they may explain a fault.
    pub network_policies: Option<Vec<NetworkPolicy>>,
    /// The count of kubelets' CertificateSigningRequests that wait for an approval; read only when they may explain a
    /// fault.
    pub pending_kubelet_csrs: Option<usize>,
    /// Since when nodes have no metrics although their kubelets can be scraped.
    pub uncovered_since: Option<Timestamp>,
    /// Kubelets' pending CertificateSigningRequests; empty without the permission to approve them.
    pub signing_requests: Vec<PendingRequest>,
    /// Why they can't be read: kube-apiserver's message.
    pub signing_requests_error: Option<String>,
    /// Why they could not be approved: an error of kube-apiserver.
    pub csr_approval_error: Option<String>,
    /// Why pending ones are not approved, by Node: the name of the request, and the reason as a clause.
    pub csrs_not_approved: BTreeMap<String, (String, String)>,
    /// The certificates that the replicas serve; read only while a CA is being replaced.
    pub proof: Option<Proof>,
    /// What follows from all of the above.
    pub facts: Facts,
}

impl Observed {
    /// Returns the object, managed by the operator or foreign.
    #[must_use]
    pub(crate) fn object(&self, object: ManagedObject) -> Option<&DynamicObject> {
        match self.objects.get(&object) {
            Some(Found::Present(object)) => Some(object),
            _ => None,
        }
    }

    /// Returns why an object could not be read.
    #[must_use]
    pub(crate) fn unreadable(&self, object: ManagedObject) -> Option<&Unreadable> {
        match self.objects.get(&object) {
            Some(Found::Unreadable(why)) => Some(why),
            _ => None,
        }
    }

    /// Returns the reports of the ready replicas, or of all replicas when no ready one reports.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        let reports = |replica: &&ReplicaReport| replica.report.is_ok();
        let any_ready = self.replicas.iter().filter(reports).any(|replica| replica.ready);
        self.replicas
            .iter()
            .filter(move |replica| replica.ready || !any_ready)
            .filter_map(|replica| replica.report.as_deref().ok())
    }

    /// Returns the CA bundle (PEM) that kube-apiserver publishes for its front-proxy client certificate.
    #[must_use]
    pub(crate) fn published_front_proxy_ca(&self) -> Option<&str> {
        match &self.front_proxy {
            FrontProxyMap::Found(data) => data.get(PROXY_CA).map(String::as_str),
            _ => None,
        }
    }

    /// Returns a sentence that says why no replica reports; `None` when one does.
    #[must_use]
    pub(crate) fn why_no_report(&self) -> Option<String> {
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

    /// Derives the facts from everything else.
    pub(crate) fn derive_facts(&mut self) {
        self.facts = Facts::derive(self);
    }

    /// Returns a typed copy of an object, without its metadata.
    #[must_use]
    pub(crate) fn typed<K: serde::de::DeserializeOwned>(&self, object: ManagedObject) -> Option<K> {
        // managedFields are long, and callers that need metadata read it from `object`.
        serde_json::from_value(self.object(object)?.data.clone()).ok()
    }
}
