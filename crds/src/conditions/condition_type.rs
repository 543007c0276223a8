use std::fmt;

/// A value of `status.conditions[].type`. The order is that of dependency: a condition depends on those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Summarizes the other conditions.
    Ready,
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
    /// All condition types, `Ready` first.
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

    /// Returns the value of `status.conditions[].type`.
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
