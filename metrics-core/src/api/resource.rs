//! The two resources and two versions of the Metrics API.

use crate::model::rows::{Kind, NodeRow, PodRow};

/// The API group.
pub(super) const GROUP: &str = "metrics.k8s.io";

/// A version of the group. Both have the same shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `v1`, stable since Kubernetes 1.37.
    V1,
    /// `v1beta1`.
    V1beta1,
}

impl Version {
    /// The preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::V1, Self::V1beta1];

    /// `v1`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// `metrics.k8s.io/v1`.
    pub(super) fn group_version(self) -> &'static str {
        match self {
            Self::V1 => "metrics.k8s.io/v1",
            Self::V1beta1 => "metrics.k8s.io/v1beta1",
        }
    }

    /// The version of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
}

/// A resource of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// `nodes`, cluster-scoped.
    Nodes,
    /// `pods`, namespaced.
    Pods,
}

impl Resource {
    /// In the order of discovery.
    pub(super) const ALL: [Self; 2] = [Self::Nodes, Self::Pods];

    /// `nodes`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// `NodeMetrics`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    /// `NodeMetricsList`.
    pub(super) fn list_kind(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetricsList",
            Self::Pods => "PodMetricsList",
        }
    }

    /// The rows that it shows.
    pub(super) fn rows(self) -> Kind {
        match self {
            Self::Nodes => Kind::Nodes,
            Self::Pods => Kind::Pods,
        }
    }

    /// Whether objects live in namespaces.
    pub(super) fn namespaced(self) -> bool {
        self == Self::Pods
    }

    /// The resource of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == name)
    }
}

/// A row of either resource.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    /// Of `nodes`.
    Node(&'a NodeRow<'a>),
    /// Of `pods`.
    Pod(&'a PodRow<'a>),
}

impl<'a> Row<'a> {
    /// Namespace (empty for nodes) and name.
    pub(super) fn key(&self) -> (&'a str, &'a str) {
        match self {
            Self::Node(row) => ("", row.name),
            Self::Pod(row) => (row.namespace, row.name),
        }
    }

    /// The labels of the real object.
    pub(super) fn labels(&self) -> &'a crate::model::labels::Labels {
        match self {
            Self::Node(row) => row.labels,
            Self::Pod(row) => row.labels,
        }
    }

    /// The version, 0 for none.
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Node(row) => row.version,
            Self::Pod(row) => row.version,
        }
    }

    /// Timestamp and window, in nanoseconds.
    pub(super) fn interval(&self) -> (i64, i64) {
        match self {
            Self::Node(row) => (row.timestamp_ns, row.window_ns),
            Self::Pod(row) => (row.timestamp_ns, row.window_ns),
        }
    }
}
