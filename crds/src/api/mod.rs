//! The types of MetricsPipeline: [`MetricsPipelineSpec`], [`MetricsPipelineStatus`], and the
//! CustomResourceDefinition that is generated from them.
//!
//! The doc comments of fields are the text of `kubectl explain`. They state the meaning, the allowed values, the
//! unit, the default and when to change it; tests/explain.rs fails if an enum value or a default is not named.

mod crd;
mod resources;
mod spec;
mod status;

pub use crd::{MetricsPipeline, custom_resource_definition_yaml};
pub use resources::{ResourceAmounts, Resources};
pub use spec::{
    Adoption, ApiServiceSpec, CertManagerSpec, CertificateSource, CertificatesSpec, ConfigMapKey,
    CsrApproval, DEFAULT_SECURE_PORT, Estimator, ExtraMetadata, FrontProxyDeletion, FrontProxyMode,
    FrontProxySpec, IssuerReference, KeyAlgorithm, KubeletAddressType, KubeletSpec, KubeletTlsMode,
    KubeletTlsSpec, Limits, LogFormat, LogLevel, MANAGED_CONFIG_MAPS, MANAGED_SECRETS, MetricsCoreSpec,
    MetricsPipelineSpec, NannyMode, NannySpec, PullPolicy, RESERVED_LABEL_PREFIXES, RESERVED_LABELS,
    RollingUpdateSpec, SPEC_FLAGS, ScalingMode, SchedulingSpec, SecretReference, StrategySpec, StrategyType,
};
pub use status::{
    CertificateStatus, CertificatesStatus, MetricsPipelineStatus, NannyStatus, NodesStatus, NodesWithCause,
    Recommendation, ResizeMethod, ResizeStatus,
};
