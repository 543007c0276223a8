use std::fmt;

/// Declares [`Reason`]; the string of a reason is the name of its variant.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A value of `status.conditions[].reason`.
        ///
        /// Reasons are part of the API (API conventions, "Typical status properties"): scripts and alerts match on
        /// them, so a released reason is never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the value of `status.conditions[].reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    /// The condition has its normal status.
    AsExpected,
    /// The condition is not evaluated yet because a condition before it is not True.
    WaitingForDependency,
    /// The object is being created or changed.
    Progressing,
    /// The operator serves another, older MetricsPipeline.
    Conflict,
    /// The MetricsPipeline is being deleted.
    Deleting,
    /// A field of the spec has a value that can't be used.
    InvalidSpec,
    /// kube-apiserver rejected the apply of an object.
    ApplyFailed,
    /// The operator lacks a permission.
    PermissionMissing,
    /// A certificate or its key can't be read.
    CertificateUnreadable,
    /// A certificate expires soon, and its issuer has not renewed it.
    CertificateExpiring,
    /// A certificate has expired.
    CertificateExpired,
    /// cert-manager has not issued the requested certificate.
    CertificateNotIssued,
    /// The spec selects cert-manager, but its API is not installed.
    CertManagerNotInstalled,
    /// kube-apiserver needs the new front-proxy files.
    FrontProxyFilesOutdated,
    /// The CA of the kubelets' serving certificates was not found.
    KubeletCANotFound,
    /// The scheduler can't place a pod.
    Unschedulable,
    /// The kubelet can't pull the image.
    ImagePullBackOff,
    /// A container crashes repeatedly.
    CrashLoopBackOff,
    /// Pods are running, but not ready.
    PodsNotReady,
    /// A quota or an admission check rejects the pods.
    FailedCreate,
    /// An object with the name of a managed object is not managed by this operator.
    ForeignObject,
    /// The APIService is not managed by this operator.
    ForeignAPIService,
    /// The Service has no ready endpoint.
    MissingEndpoints,
    /// kube-apiserver can't reach metrics-core, or receives an error from it.
    FailedDiscoveryCheck,
    /// kube-apiserver has not checked the APIService yet.
    Pending,
    /// The kubelet reports that no node can hold the pod at the recommended size.
    ResizeInfeasible,
    /// The kubelet defers the resize of a pod until its node has room.
    ResizeDeferred,
    /// kube-apiserver or the kubelet rejected the resize of a pod.
    ResizeRejected,
    /// Another writer repeatedly changes the resources of metrics-core.
    ResourcesConflict,
    /// The number of nodes is unknown, so no size is recommended yet.
    ClusterSizeUnknown,
    /// kube-apiserver runs without an aggregation layer.
    AggregationLayerNotConfigured,
    /// kube-apiserver received several --requestheader flags as one argument.
    RequestHeaderFlagsMalformed,
    /// `requestheader-username-headers` is empty, so metrics-core can't identify users.
    UsernameHeadersMissing,
    /// `requestheader-group-headers` is empty, so metrics-core does not see the groups of users.
    GroupHeadersMissing,
    /// The common name of kube-apiserver's proxy certificate is not allowed.
    ProxyNameNotAllowed,
    /// kube-apiserver's proxy certificate is not signed by the front-proxy CA.
    ProxyCertificateUnknownCA,
    /// kube-apiserver's proxy certificate has expired or is not valid yet.
    ProxyCertificateExpired,
    /// kube-apiserver's proxy certificate is rejected for another reason.
    ProxyCertificateInvalid,
    /// kube-apiserver presents no proxy certificate.
    ProxyCertificateMissing,
    /// The front-proxy configuration contains values of earlier, wrong flags.
    StaleConfiguration,
    /// Every client with a client certificate can impersonate any user towards metrics-core.
    AnyClientMayImpersonate,
    /// The front-proxy configuration can't be read.
    ConfigurationUnreadable,
    /// A NetworkPolicy blocks kube-apiserver's connections to metrics-core.
    BlockedByNetworkPolicy,
    /// kube-apiserver does not accept the serving certificate of metrics-core.
    ServingCertificateMismatch,
    /// Packets between kube-apiserver and metrics-core are lost.
    Unreachable,
    /// Nodes have no address of a type in `kubelet.addressTypes`.
    KubeletAddressMissing,
    /// The host names of nodes do not resolve.
    KubeletDNSLookupFailed,
    /// The kubelets' port refuses connections.
    KubeletConnectionRefused,
    /// There is no route to the kubelets.
    KubeletUnreachable,
    /// Connections or requests to kubelets time out.
    KubeletTimeout,
    /// Kubelets close the connection before the response is complete.
    KubeletConnectionClosed,
    /// The kubelets' port speaks plain HTTP instead of TLS.
    KubeletPlainHTTP,
    /// Kubelets have no serving certificate yet, because their CertificateSigningRequests are not approved.
    KubeletCertificateMissing,
    /// The kubelets' serving certificates are not signed by a trusted CA.
    KubeletCertificateUnknownCA,
    /// The kubelets' serving certificates do not contain the name or address of their Node.
    KubeletCertificateNameMismatch,
    /// The kubelets' serving certificates have expired.
    KubeletCertificateExpired,
    /// Kubelets present another key than the pinned one.
    KubeletCertificateChanged,
    /// TLS with kubelets fails for another reason.
    KubeletTLSFailed,
    /// Kubelets reject the credentials of metrics-core (401).
    KubeletUnauthorized,
    /// Kubelets deny metrics-core the permission to read metrics (403).
    KubeletForbidden,
    /// Kubelets return a response that can't be used.
    KubeletResponseInvalid,
    /// Scrapes of kubelets fail for another reason.
    KubeletScrapeFailed,
    /// The spec turns off the verification of kubelets' serving certificates.
    KubeletCertificatesNotVerified,
    /// Some nodes have no metrics.
    NodeMetricsMissing,
    /// Kubelets report that they could not collect metrics (`resource_scrape_error`).
    KubeletScrapeErrors,
    /// Kubelets return no containers, although pods run on their nodes.
    KubeletContainersMissing,
    /// Kubelets report zero CPU time or memory.
    KubeletZeroUsage,
    /// Running pods are missing from the kubelets' responses.
    PodsMissing,
    /// The timestamps of kubelets' samples do not change.
    KubeletTimestampsStalled,
    /// The clocks of nodes differ from the clock of metrics-core.
    KubeletClockSkew,
    /// Several Nodes have the same address, port and path.
    KubeletAddressConflict,
    /// Kubelets report more CPU usage than their node has.
    KubeletUsageImplausible,
    /// Kubelets return several series for one container.
    KubeletSeriesDuplicated,
    /// Samples are faulty for a cause that this version does not know.
    KubeletSamplesFaulty,
    /// The operator can't read the report of the metrics-core replicas.
    ReportUnavailable,
    /// metrics-core receives no changes from kube-apiserver.
    DiscoveryStale,
    /// A field that can't be changed has another value.
    ImmutableField,
    /// The Deployment's rollout is paused, and not by this operator.
    DeploymentPaused,
    /// The request to the Metrics API failed.
    RequestFailed,
    /// The Metrics API returned no metrics for any node.
    NoMetrics,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
