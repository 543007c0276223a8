//! The names, addresses and pod networks of a Node.

use std::collections::BTreeSet;

use kube::core::Object;
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::normalize;

/// The label of Nodes that run kube-apiserver. Admission (NodeRestriction) keeps kubelets from setting it on their
/// Node.
pub(crate) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A Node without what the rules do not need: most of a Node is its list of images.
pub(crate) type PartialNode = Object<PartialNodeSpec, PartialNodeStatus>;

/// Part of a Node's spec.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PartialNodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// Part of a Node's status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PartialNodeStatus {
    addresses: Vec<PartialAddress>,
}

/// An address of a Node; its type does not matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartialAddress {
    address: String,
}

/// The names, addresses and pod networks of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeNames {
    /// The Node's name.
    pub name: String,
    /// Whether it has the label of control-plane nodes.
    pub control_plane: bool,
    /// The names and addresses in `status.addresses`. Its kubelet writes them, so they are no proof alone.
    pub listed: BTreeSet<String>,
    /// The ranges of its pods' addresses.
    pub pod_networks: Vec<Network>,
}

impl NodeNames {
    /// Reads a Node.
    #[must_use]
    pub(crate) fn of(node: &PartialNode) -> Self {
        let labels = node.metadata.labels.as_ref();
        let listed = node.status.iter().flat_map(|status| &status.addresses);
        let pod_cidrs = node.spec.pod_cidrs.iter().chain(&node.spec.pod_cidr);
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            control_plane: labels.is_some_and(|labels| labels.contains_key(CONTROL_PLANE)),
            listed: listed.map(|listed| normalize(&listed.address)).collect(),
            pod_networks: pod_cidrs.filter_map(|cidr| Network::parse(cidr)).collect(),
        }
    }
}
