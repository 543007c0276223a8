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
    /// kube-apiserver is known to metrics-core as the front proxy that speaks for users.
    AggregationLayerReady,
    /// kube-apiserver finds metrics-core behind the APIServices.
    APIServiceAvailable,
    /// The kubelets answer metrics-core.
    KubeletsReachable,
    /// Every node that is to be scraped has metrics.
    NodesCovered,
    /// A real request for metrics was answered.
    MetricsServed,
}

impl ConditionType {
    /// All types, `Ready` first.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::CertificatesReady,
        Self::AccessReady,
        Self::DeploymentAvailable,
        Self::Sized,
        Self::AggregationLayerReady,
        Self::APIServiceAvailable,
        Self::KubeletsReachable,
        Self::NodesCovered,
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
            Self::AggregationLayerReady => "AggregationLayerReady",
            Self::APIServiceAvailable => "APIServiceAvailable",
            Self::KubeletsReachable => "KubeletsReachable",
            Self::NodesCovered => "NodesCovered",
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
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

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
    /// A certificate expires soon, and its owner has not renewed it.
    CertificateExpiring,
    /// A certificate is no longer valid.
    CertificateExpired,
    /// cert-manager has not issued the certificate that it was asked for.
    CertificateNotIssued,
    /// cert-manager is asked for a certificate, and its API is not served.
    CertManagerNotInstalled,
    /// kube-apiserver must be given new files for the front proxy.
    FrontProxyFilesOutdated,
    /// The kubelets' CA was not found.
    KubeletCANotFound,
    /// Pods can't be scheduled.
    Unschedulable,
    /// The image can't be pulled.
    ImagePullBackOff,
    /// A container stops again and again.
    CrashLoopBackOff,
    /// Pods run but are not ready.
    PodsNotReady,
    /// Kubernetes refuses to create pods, by a quota or by an admission check.
    FailedCreate,
    /// An object under a name of ours belongs to somebody else.
    ForeignObject,
    /// The APIService belongs to somebody else.
    ForeignAPIService,
    /// kube-apiserver does not find a ready endpoint.
    MissingEndpoints,
    /// kube-apiserver can't reach metrics-core or gets an error from it.
    FailedDiscoveryCheck,
    /// kube-apiserver has not judged the APIService yet.
    Pending,
    /// No node can hold the pod at the size that is recommended, as far as the kubelet says.
    ResizeInfeasible,
    /// The kubelet waits for room before it resizes a pod.
    ResizeDeferred,
    /// kube-apiserver or the kubelet refused to resize a pod.
    ResizeRejected,
    /// Somebody else sets the resources again and again.
    ResourcesConflict,
    /// The resources are not sized yet, as it is not known how many nodes there are.
    ClusterSizeUnknown,
    /// kube-apiserver runs without an aggregation layer.
    AggregationLayerNotConfigured,
    /// kube-apiserver was given several --requestheader flags as one argument.
    RequestHeaderFlagsMalformed,
    /// No header tells metrics-core whose a request is.
    UsernameHeadersMissing,
    /// No header tells metrics-core the groups of who asks.
    GroupHeadersMissing,
    /// The common name of kube-apiserver's proxy certificate is not allowed.
    ProxyNameNotAllowed,
    /// The CA for front proxies did not sign kube-apiserver's proxy certificate.
    ProxyCertificateUnknownCA,
    /// kube-apiserver's proxy certificate is past its time, or its time has not come.
    ProxyCertificateExpired,
    /// kube-apiserver's proxy certificate can't be used for another reason.
    ProxyCertificateInvalid,
    /// kube-apiserver shows no proxy certificate.
    ProxyCertificateMissing,
    /// The configuration of the front proxy has values that wrong flags left behind.
    StaleConfiguration,
    /// Everyone with a client certificate may pose as anyone towards metrics-core.
    AnyClientMayImpersonate,
    /// The configuration of the front proxy can't be read.
    ConfigurationUnreadable,
    /// A NetworkPolicy keeps kube-apiserver from metrics-core.
    BlockedByNetworkPolicy,
    /// kube-apiserver does not accept the certificate that metrics-core serves.
    ServingCertificateMismatch,
    /// Packets between kube-apiserver and metrics-core are lost.
    Unreachable,
    /// Nodes have no address of a type that is asked for.
    KubeletAddressMissing,
    /// Names of nodes do not resolve.
    KubeletDNSLookupFailed,
    /// Nothing listens on the kubelets' port.
    KubeletConnectionRefused,
    /// There is no route to kubelets.
    KubeletUnreachable,
    /// Kubelets do not answer in time.
    KubeletTimeout,
    /// Connections to kubelets break.
    KubeletConnectionClosed,
    /// Kubelets are asked over TLS on a port that speaks plain HTTP.
    KubeletPlainHTTP,
    /// Nobody who is trusted signed the kubelets' certificates.
    KubeletCertificateUnknownCA,
    /// The kubelets' certificates bear other names.
    KubeletCertificateNameMismatch,
    /// The kubelets' certificates are past their time.
    KubeletCertificateExpired,
    /// Kubelets show another key than the one that was pinned.
    KubeletCertificateChanged,
    /// TLS with kubelets fails for another reason.
    KubeletTLSFailed,
    /// Kubelets do not accept the credentials of metrics-core.
    KubeletUnauthorized,
    /// Kubelets refuse metrics-core for lack of a right.
    KubeletForbidden,
    /// Kubelets do not answer as they should.
    KubeletResponseInvalid,
    /// Kubelets can't be scraped for another reason.
    KubeletScrapeFailed,
    /// The kubelets' certificates are not verified, as the spec asks.
    KubeletCertificatesNotVerified,
    /// Some nodes have no metrics.
    NodeMetricsMissing,
    /// The replicas of metrics-core can't be asked what they see.
    ReportUnavailable,
    /// A field that can't be changed has another value.
    ImmutableField,
    /// Somebody paused the rollout.
    DeploymentPaused,
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
