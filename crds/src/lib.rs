//! The MetricsPipeline API: the types of `metrics-pipeline.dev/v1alpha1`, the vocabulary of their
//! conditions, and the CustomResourceDefinition generated from them.
//!
//! The generated YAML is checked in beside this crate (`crds/metricspipelines.yaml`) and carried by the
//! Helm chart; a test holds both to these types. After a change of a type run
//! `cargo run -p crds --example generate`.

pub mod cause;
mod condition;
pub mod front_proxy;
mod pipeline;
pub mod report;
mod resources;
mod spec;
mod status;

pub use condition::{ConditionType, Reason};
pub use pipeline::{MetricsPipeline, custom_resource_definition_yaml};
pub use resources::{ResourceAmounts, Resources};
pub use spec::{
    Adoption, ApiServiceSpec, CertManagerSpec, CertificateSource, CertificatesSpec, ConfigMapKey,
    CsrApproval, Estimator, FrontProxyDeletion, FrontProxyMode, FrontProxySpec, IssuerReference,
    KeyAlgorithm, KubeletAddressType, KubeletSpec, KubeletTlsMode, KubeletTlsSpec, Limits, LogFormat,
    LogLevel, MetricsCoreSpec, MetricsPipelineSpec, NannyMode, NannySpec, PullPolicy, ScalingMode,
    SchedulingSpec, SecretReference,
};
pub use status::{
    CertificateStatus, CertificatesStatus, MetricsPipelineStatus, NannyStatus, NodesStatus, NodesWithCause,
    Recommendation, ResizeMethod, ResizeStatus,
};

/// The API group of MetricsPipeline.
pub const GROUP: &str = "metrics-pipeline.dev";

/// The finalizer that makes the operator remove the APIServices before anything they point to.
pub const FINALIZER: &str = "metrics-pipeline.dev/ordered-deletion";
