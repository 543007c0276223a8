//! The desired state: one module for each part of the spec.

#![allow(unreachable_pub, reason = "the derive of KubeSchema repeats the struct inside a function")]

mod api_service;
mod cert_manager;
mod certificates;
mod duration;
mod extra_args;
mod front_proxy;
mod kubelet;
mod managed_names;
mod metadata;
mod metrics_core;
mod nanny;
mod scheduling;
mod strategy;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use api_service::{Adoption, ApiServiceSpec};
pub use cert_manager::{CertManagerSpec, IssuerReference};
pub use certificates::{CertificateSource, CertificatesSpec, KeyAlgorithm, MANAGED_SECRETS, SecretReference};
pub use extra_args::SPEC_FLAGS;
pub use front_proxy::{FrontProxyDeletion, FrontProxyMode, FrontProxySpec};
pub use kubelet::{
    ConfigMapKey, CsrApproval, KubeletAddressType, KubeletSpec, KubeletTlsMode, KubeletTlsSpec,
    MANAGED_CONFIG_MAPS,
};
pub use metadata::{ExtraMetadata, RESERVED_LABEL_PREFIXES, RESERVED_LABELS};
pub use metrics_core::{DEFAULT_SECURE_PORT, LogFormat, LogLevel, MetricsCoreSpec, PullPolicy};
pub use nanny::{Estimator, Limits, NannyMode, NannySpec, ScalingMode};
pub use scheduling::SchedulingSpec;
pub use strategy::{RollingUpdateSpec, StrategySpec, StrategyType};

use super::status::MetricsPipelineStatus;

/// The desired state of the cluster's resource-metrics pipeline. Every field is optional: `spec: {}` is a complete
/// pipeline.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metrics-pipeline.dev",
    version = "v1alpha1",
    kind = "MetricsPipeline",
    plural = "metricspipelines",
    shortname = "mpl",
    category = "metrics",
    status = "MetricsPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "MetricsPipeline is the resource-metrics pipeline of a cluster: its metrics server, certificates, permissions and APIServices. The operator serves one; if there are several, it serves the oldest, and the others have the condition Ready False with reason Conflict.",
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name: must have at most 63 characters, because it is used as a label value").reason(Reason::FieldValueInvalid),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether metrics are served"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Reason of the condition Ready"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary", description = "Nodes with metrics / all nodes"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "Cause, evidence and remedy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetricsPipelineSpec {
    /// Labels and annotations for all objects that the operator owns and for the pods of metrics-core. A change of
    /// labels or annotations triggers a rollout.
    #[serde(default, skip_serializing_if = "ExtraMetadata::is_empty")]
    pub common_metadata: ExtraMetadata,
    /// The metrics server: its image, its scrapes and its Deployment.
    #[serde(default)]
    pub metrics_core: MetricsCoreSpec,
    /// How the APIServices of `metrics.k8s.io` are registered with kube-apiserver's aggregation layer.
    #[serde(default)]
    pub api_service: ApiServiceSpec,
    /// The certificates of the pipeline.
    #[serde(default)]
    pub certificates: CertificatesSpec,
    /// How the nanny sizes the metrics-core container.
    #[serde(default)]
    pub nanny: NannySpec,
}
