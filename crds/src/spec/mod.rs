//! What the user asks for.

mod api_service;
mod cert_manager;
mod certificates;
mod duration;
mod front_proxy;
mod kubelet;
mod metrics_core;
mod nanny;
mod scheduling;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use api_service::{Adoption, ApiServiceSpec};
pub use cert_manager::{CertManagerSpec, IssuerReference};
pub use certificates::{CertificateSource, CertificatesSpec, KeyAlgorithm, SecretReference};
pub use front_proxy::{FrontProxyDeletion, FrontProxyMode, FrontProxySpec};
pub use kubelet::{
    ConfigMapKey, CsrApproval, KubeletAddressType, KubeletSpec, KubeletTlsMode, KubeletTlsSpec,
};
pub use metrics_core::{LogFormat, LogLevel, MetricsCoreSpec, PullPolicy};
pub use nanny::{Estimator, Limits, NannyMode, NannySpec, ScalingMode};
pub use scheduling::SchedulingSpec;

use crate::status::MetricsPipelineStatus;

/// The desired state of the cluster's resource-metrics pipeline. Every field has a default: `spec: {}` is
/// a complete pipeline.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metrics-pipeline.dev",
    version = "v1alpha1",
    kind = "MetricsPipeline",
    plural = "metricspipelines",
    shortname = "mp",
    category = "metrics",
    status = "MetricsPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "MetricsPipeline is the resource-metrics pipeline of a cluster: its metrics server, certificates, access rights and APIServices. One is served; of several the oldest.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: may have at most 63 characters, as it becomes a label value").reason(Reason::FieldValueInvalid),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether metrics are served"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is, or is not, ready"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary", description = "Nodes with metrics, of all nodes"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "Cause, evidence and remedy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetricsPipelineSpec {
    /// The metrics server: how it scrapes, how it is run.
    #[serde(default)]
    pub metrics_core: MetricsCoreSpec,
    /// The registration with the aggregation layer of kube-apiserver.
    #[serde(default)]
    pub api_service: ApiServiceSpec,
    /// The certificates of the pipeline.
    #[serde(default)]
    pub certificates: CertificatesSpec,
    /// How the resources of metrics-core are set.
    #[serde(default)]
    pub nanny: NannySpec,
}
