//! A Node, reduced to the fields in use.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::core::{ClusterResourceScope, ObjectMeta, Resource};
use serde::Deserialize;

use super::{Address, AddressType, DiscoveryConfig, meta};
use crate::model::labels::Labels;

/// The default path of the kubelet's resource metrics.
const DEFAULT_PATH: &str = "/metrics/resource";

/// The Node annotation that overrides the path, as in metrics-server.
pub(super) const PATH_ANNOTATION: &str = "metrics.k8s.io/resource-metrics-path";

/// A node to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The Node's name.
    pub name: Arc<str>,
    /// The Node's UID, which distinguishes a recreated Node from its predecessor.
    pub uid: Box<str>,
    /// The Node's labels.
    pub labels: Labels,
    /// Addresses of the configured types, in the configured order.
    pub addresses: Box<[Address]>,
    /// All names and addresses of the Node, of any type: those that its serving certificate may contain.
    pub identities: Box<[Box<str>]>,
    /// The kubelet's port.
    pub port: u16,
    /// The path of the resource metrics; starts with a slash and is safe in a request line.
    pub path: Box<str>,
    /// Whether the Node's Ready condition is True.
    pub ready: bool,
    /// The CPU capacity in millicores, from `status.capacity`; 0 if unknown.
    pub cpu_millicores: u64,
}

/// A Node as kube-apiserver sends it. Unused fields are skipped while decoding.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NodeObject {
    #[serde(deserialize_with = "meta::trimmed")]
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeStatus {
    addresses: Option<Vec<StatusAddress>>,
    capacity: Option<Capacity>,
    conditions: Option<Vec<NodeCondition>>,
    daemon_endpoints: Option<DaemonEndpoints>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Capacity {
    #[serde(default)]
    cpu: Option<Box<str>>,
}

#[derive(Clone, Debug, Deserialize)]
struct StatusAddress {
    r#type: String,
    address: Box<str>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DaemonEndpoints {
    kubelet_endpoint: Option<KubeletEndpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct KubeletEndpoint {
    #[serde(rename = "Port")]
    port: i64,
}

impl Resource for NodeObject {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ApiNode::kind(&())
    }
    fn group((): &()) -> Cow<'_, str> {
        ApiNode::group(&())
    }
    fn version((): &()) -> Cow<'_, str> {
        ApiNode::version(&())
    }
    fn plural((): &()) -> Cow<'_, str> {
        ApiNode::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl NodeObject {
    /// Returns the Node's name, or an empty string.
    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the fields in use; `None` without a name or UID.
    pub(super) fn into_node(self, config: &DiscoveryConfig) -> Option<Node> {
        let name: Arc<str> = self.metadata.name?.into();
        let status_addresses = self.status.addresses.unwrap_or_default();
        let of_type = |kind: &AddressType| {
            let kind = *kind;
            status_addresses
                .iter()
                .filter(move |address| address.r#type == kind.as_str() && !address.address.is_empty())
                .map(move |address| Address { kind, host: address.address.clone() })
        };
        let addresses = config.address_types.iter().flat_map(of_type).collect();
        let mut identities: Vec<Box<str>> = vec![(*name).into()];
        for address in &status_addresses {
            if !identities.contains(&address.address) {
                identities.push(address.address.clone());
            }
        }
        let status_port = self.status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint);
        let status_port = status_port.and_then(|endpoint| u16::try_from(endpoint.port).ok());
        let port = status_port.filter(|port| config.use_node_status_port && *port != 0);
        let capacity = self.status.capacity.and_then(|capacity| capacity.cpu);
        let path = self.metadata.annotations.and_then(|mut all| all.remove(PATH_ANNOTATION));
        Some(Node {
            uid: self.metadata.uid?.into(),
            labels: self.metadata.labels.unwrap_or_default().into_iter().collect(),
            addresses,
            identities: identities.into_boxed_slice(),
            port: port.unwrap_or(config.kubelet_port),
            path: path.and_then(|path| request_path(&path)).unwrap_or_else(|| DEFAULT_PATH.into()),
            ready: self
                .status
                .conditions
                .unwrap_or_default()
                .iter()
                .any(|condition| condition.r#type == "Ready" && condition.status == "True"),
            cpu_millicores: capacity.and_then(|cpu| millicores(&cpu)).unwrap_or(0),
            name,
        })
    }
}

/// Parses a quantity of CPU as kubelets and virtual kubelets write it: digits with an optional fraction and suffix.
/// Returns `None` for anything else.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The range is checked before.
fn millicores(quantity: &str) -> Option<u64> {
    let end = quantity.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = quantity.split_at(end);
    let millis = match suffix {
        "n" => 1e-6,
        "u" => 1e-3,
        "m" => 1.0,
        "" => 1e3,
        "k" => 1e6,
        _ => return None,
    };
    let millicores = number.parse::<f64>().ok()? * millis;
    (1.0..1e15).contains(&millicores).then_some(millicores as u64)
}

/// Returns the annotation's path if it is safe in a request line (RFC 9112). Anyone who may write the Node controls
/// it, so it must not be able to add a header.
fn request_path(path: &str) -> Option<Box<str>> {
    let path = path.trim();
    let safe = !path.is_empty() && path.len() <= 1024 && path.bytes().all(|byte| byte.is_ascii_graphic());
    safe.then(|| if path.starts_with('/') { path.into() } else { format!("/{path}").into() })
}

#[cfg(test)]
mod tests {
    use super::{Node, NodeObject, millicores};
    use crate::ingest::discover::{Address, AddressType, DiscoveryConfig};

    fn parse(json: serde_json::Value, config: &DiscoveryConfig) -> Option<Node> {
        serde_json::from_value::<NodeObject>(json).unwrap().into_node(config)
    }

    fn config() -> DiscoveryConfig {
        DiscoveryConfig {
            kubelet_port: 10250,
            use_node_status_port: true,
            address_types: vec![AddressType::InternalIP, AddressType::Hostname],
            node_selector: None,
        }
    }

    fn json() -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": "a", "uid": "u1", "resourceVersion": "7",
                "labels": {"zone": "x"},
                "annotations": {"other": "1", "metrics.k8s.io/resource-metrics-path": "stats?x=1"},
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]
            },
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {
                "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
                "addresses": [
                    {"type": "Hostname", "address": "a.example"},
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "InternalIP", "address": "fd00::1"},
                    {"type": "ExternalIP", "address": "1.2.3.4"},
                    {"type": "Novel", "address": "n"}
                ],
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
                "images": [{"names": ["x"], "sizeBytes": 1}]
            }
        })
    }

    #[test]
    fn keeps_addresses_in_the_configured_order() {
        let node = parse(json(), &config()).unwrap();
        let address = |kind, host: &str| Address { kind, host: host.into() };
        assert_eq!(
            *node.addresses,
            [
                address(AddressType::InternalIP, "10.0.0.1"),
                address(AddressType::InternalIP, "fd00::1"),
                address(AddressType::Hostname, "a.example"),
            ]
        );
        assert_eq!(
            node.identities.iter().map(|i| &**i).collect::<Vec<_>>(),
            ["a", "a.example", "10.0.0.1", "fd00::1", "1.2.3.4", "n"]
        );
        assert_eq!((node.port, &*node.path, node.ready), (10251, "/stats?x=1", true));
        assert_eq!(node.cpu_millicores, 4000);
        assert_eq!(node.labels.get("zone"), Some("x"));
    }

    #[test]
    fn uses_defaults_for_a_node_without_status() {
        let node = parse(serde_json::json!({"metadata": {"name": "a", "uid": "u"}}), &config()).unwrap();
        assert_eq!((node.port, &*node.path, node.ready), (10250, "/metrics/resource", false));
        assert!(node.addresses.is_empty() && node.cpu_millicores == 0);
        let own = parse(json(), &DiscoveryConfig { use_node_status_port: false, ..config() }).unwrap();
        assert_eq!(own.port, 10250);
    }

    #[test]
    fn parses_cpu_capacity() {
        for (quantity, parsed) in [
            ("4", 4_000),
            ("3920m", 3_920),
            ("0.5", 500),
            ("2k", 2_000_000),
            ("250000000n", 250),
            ("1500u", 1),
        ] {
            assert_eq!(millicores(quantity), Some(parsed), "{quantity}");
        }
        for quantity in ["", "0", "-4", "x", "4x", "1.2.3", "1e40", "99999999999999999999"] {
            assert_eq!(millicores(quantity), None, "{quantity}");
        }
    }

    #[test]
    fn ignores_a_path_that_is_unsafe_in_a_request_line() {
        let mut json = json();
        json["metadata"]["annotations"]["metrics.k8s.io/resource-metrics-path"] =
            "/x HTTP/1.1\r\nHost: evil".into();
        assert_eq!(&*parse(json, &config()).unwrap().path, "/metrics/resource");
    }
}
