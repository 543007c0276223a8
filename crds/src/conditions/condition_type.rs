use std::fmt;

/// A value of `status.conditions[].type`. `Ready`, `Reconciling` and `Stalled` describe the whole MetricsPipeline. The
/// others are the parts of the pipeline, in the order of dependency: a condition depends on those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Summarizes the conditions of the pipeline.
    Ready,
    /// The current generation is not rolled out yet. True is abnormal (kstatus).
    Reconciling,
    /// The pipeline is not Ready and will not become Ready without help. True is abnormal (kstatus).
    Stalled,
    /// The CA and the serving certificate exist, are valid and are not overdue for renewal.
    CertificatesReady,
    /// metrics-core has the permissions that it needs.
    AccessReady,
    /// The desired number of metrics-core replicas is ready.
    DeploymentAvailable,
    /// The pods of metrics-core have the resources that the nanny recommends. `Ready` does not depend on it, because
    /// metrics are served at any size.
    Sized,
    /// metrics-core accepts kube-apiserver as the front proxy that authenticates users.
    AggregationLayerReady,
    /// kube-apiserver reports the APIServices as available.
    APIServiceAvailable,
    /// metrics-core can scrape the kubelets.
    KubeletsReachable,
    /// Every selected node has metrics.
    NodesCovered,
    /// A request to the Metrics API returned metrics.
    MetricsServed,
}

impl ConditionType {
    /// All condition types, in the order of the status.
    pub const ALL: [Self; 12] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
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

    /// Whether the condition describes a part of the pipeline. The others summarize these.
    #[must_use]
    pub const fn is_of_pipeline(self) -> bool {
        !matches!(self, Self::Ready | Self::Reconciling | Self::Stalled)
    }

    /// Returns the normal status: `False` for `Reconciling` and `Stalled`, else `True`.
    #[must_use]
    pub const fn normal_status(self) -> &'static str {
        match self {
            Self::Reconciling | Self::Stalled => "False",
            _ => "True",
        }
    }

    /// Returns the value of `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
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
