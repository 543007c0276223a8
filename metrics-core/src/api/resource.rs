//! The two resources and two versions of the Metrics API.

use crate::model::rows::{NodeRow, PodRow, RowKind};

/// The API group.
pub(super) const GROUP: &str = "metrics.k8s.io";

/// A version of the API group. Both versions have the same schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiVersion {
    /// `v1`, stable since Kubernetes 1.37.
    V1,
    /// `v1beta1`.
    V1beta1,
}

impl ApiVersion {
    /// All versions, the preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::V1, Self::V1beta1];

    /// Returns a name like `v1`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// Returns a name like `metrics.k8s.io/v1`.
    pub(super) fn group_version(self) -> &'static str {
        match self {
            Self::V1 => "metrics.k8s.io/v1",
            Self::V1beta1 => "metrics.k8s.io/v1beta1",
        }
    }

    /// Returns the version of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
}

/// A resource of the API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `nodes`, cluster-scoped.
    Nodes,
    /// `pods`, namespaced.
    Pods,
}

impl Resource {
    /// All resources, in the order of discovery.
    pub(super) const ALL: [Self; 2] = [Self::Nodes, Self::Pods];

    /// Returns a name like `nodes`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// Returns a name like `NodeMetrics`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    /// Returns a name like `NodeMetricsList`.
    pub(super) fn list_kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetricsList",
            Self::Pods => "PodMetricsList",
        }
    }

    /// Returns the kind of its rows.
    pub(super) fn row_kind(self) -> RowKind {
        match self {
            Self::Nodes => RowKind::Nodes,
            Self::Pods => RowKind::Pods,
        }
    }

    /// Returns whether its objects are namespaced.
    pub(super) fn namespaced(self) -> bool {
        self == Self::Pods
    }

    /// Returns the resource of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }
}

/// A row of either resource.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    /// A row of `nodes`.
    Node(&'a NodeRow<'a>),
    /// A row of `pods`.
    Pod(&'a PodRow<'a>),
}

impl<'a> Row<'a> {
    /// Returns namespace (empty for nodes) and name.
    pub(super) fn key(&self) -> (&'a str, &'a str) {
        match self {
            Self::Node(row) => ("", row.name),
            Self::Pod(row) => (row.namespace, row.name),
        }
    }

    /// Returns the labels of the Node or Pod.
    pub(super) fn labels(&self) -> &'a crate::model::labels::Labels {
        match self {
            Self::Node(row) => row.labels,
            Self::Pod(row) => row.labels,
        }
    }

    /// Returns the resource version; 0 means unset.
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Node(row) => row.version,
            Self::Pod(row) => row.version,
        }
    }

    /// Returns timestamp and window, in nanoseconds.
    pub(super) fn interval(&self) -> (i64, i64) {
        match self {
            Self::Node(row) => (row.timestamp_ns, row.window_ns),
            Self::Pod(row) => (row.timestamp_ns, row.window_ns),
        }
    }
}
