//! Scheduling of the metrics-core pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scheduling of the metrics-core pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingSpec {
    /// The labels that a node must have. The operator adds `kubernetes.io/os: linux` unless the key is present.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The tolerations of the pods, at most 64. Set them to run metrics-core on tainted nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// The affinity of the pods. When absent, the scheduler prefers different nodes for the replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// The topology spread constraints of the pods, at most 16. Set them to spread the replicas over zones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The PriorityClass of the pods. Default: `system-cluster-critical`. With a lower priority, metrics-core can
    /// be preempted or evicted from a full node. Some clusters, such as GKE, accept the default outside of
    /// `kube-system` only with a ResourceQuota for it.
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: String,
    /// Whether the pods use the node's network. Default: `false`. Set `true` if kube-apiserver can't reach pod IP
    /// addresses. Then at most one replica runs on a node, and `securePort` must be free there. Requires the chart value
    /// `admissionPolicy.hostNetwork=true` and, where Pod Security is enforced, the level `privileged`.
    pub host_network: bool,
}

impl Default for SchedulingSpec {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: "system-cluster-critical".to_owned(),
            host_network: false,
        }
    }
}
