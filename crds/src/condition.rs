//! The vocabulary of the conditions: their types and the reasons they may carry.
//!
//! Reasons are part of the API (API conventions, "Typical status properties"): scripts and alerts match on
//! them, so a reason is never renamed.

use std::fmt;

/// The types of a MetricsPipeline's conditions, in the order in which the pipeline depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The sum of all others.
    Ready,
    /// CA and serving certificate exist, are valid and are not due for renewal.
    CertificatesReady,
    /// metrics-core has the rights that it needs.
    AccessReady,
    /// Enough replicas of metrics-core run and are ready.
    DeploymentAvailable,
    /// The resources of metrics-core are what the nanny recommends. It says nothing about whether metrics are
    /// served, so `Ready` holds without it.
    Sized,
    /// kube-apiserver finds metrics-core behind the APIServices.
    APIServiceAvailable,
    /// A real request for metrics was answered.
    MetricsServed,
}

impl ConditionType {
    /// All types, `Ready` first.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::CertificatesReady,
        Self::AccessReady,
        Self::DeploymentAvailable,
        Self::Sized,
        Self::APIServiceAvailable,
        Self::MetricsServed,
    ];

    /// The name in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::CertificatesReady => "CertificatesReady",
            Self::AccessReady => "AccessReady",
            Self::DeploymentAvailable => "DeploymentAvailable",
            Self::Sized => "Sized",
            Self::APIServiceAvailable => "APIServiceAvailable",
            Self::MetricsServed => "MetricsServed",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares [`Reason`] and its names in one list, so that no name can be forgotten.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why a condition has its status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// The name in `status.conditions[].reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    /// All is as it should be.
    AsExpected,
    /// It was not looked at yet, because something before it is not ready.
    WaitingForDependency,
    /// The object is being created or changed.
    Progressing,
    /// Another, older MetricsPipeline is the one that is served.
    Conflict,
    /// The MetricsPipeline is being deleted.
    Deleting,
    /// A field of the spec has a value that can't be used.
    InvalidSpec,
    /// kube-apiserver refused to write an object.
    ApplyFailed,
    /// The operator lacks a right.
    PermissionMissing,
    /// A certificate or its key can't be read.
    CertificateUnreadable,
    /// A certificate is no longer valid.
    CertificateExpired,
    /// The kubelets' CA was not found.
    KubeletCaMissing,
    /// Pods can't be scheduled.
    Unschedulable,
    /// The image can't be pulled.
    ImagePullFailed,
    /// A container stops again and again.
    CrashLoop,
    /// Pods run but are not ready.
    PodsNotReady,
    /// Kubernetes refuses to create pods, by a quota or by an admission check.
    PodsRejected,
    /// An object under a name of ours belongs to somebody else.
    ForeignObject,
    /// The APIService belongs to somebody else.
    ForeignAPIService,
    /// kube-apiserver does not find a ready endpoint.
    NoEndpoints,
    /// kube-apiserver can't reach metrics-core or gets an error from it.
    FailedDiscoveryCheck,
    /// kube-apiserver has not judged the APIService yet.
    Pending,
    /// No node can hold the pod at the size that is recommended, as far as the kubelet says.
    ResizeInfeasible,
    /// The kubelet waits for room before it resizes a pod.
    ResizeDeferred,
    /// kube-apiserver or the kubelet refused to resize a pod.
    ResizeRefused,
    /// Somebody else sets the resources again and again.
    ResourcesContested,
    /// The resources are not sized yet, as it is not known how many nodes there are.
    PopulationUnknown,
    /// The request for metrics failed.
    RequestFailed,
    /// The request was answered, but has no metrics for any node.
    NoMetrics,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
