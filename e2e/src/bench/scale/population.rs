//! The population of the fake cluster: nodes, and pods of deployments spread over them.
//!
//! Everything is derived from numbers, so that the objects in etcd and the responses of the kubelets agree.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Number of pods of a deployment.
const REPLICAS: u32 = 15;
/// Number of deployments in a namespace.
const DEPLOYMENTS: u32 = 20;
/// The letters of generated names.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The containers of each pod, sorted by name.
pub const CONTAINERS: [&str; 2] = ["application", "service-mesh-proxy"];

/// The size of a population.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// Number of nodes, at most 65,534.
    pub nodes: u32,
    /// Number of pods on each node.
    pub pods_per_node: u32,
}

/// A pod by its number.
#[derive(Clone, Copy, Debug)]
pub struct Pod(pub u32);

impl Population {
    /// Returns the number of pods.
    #[must_use]
    pub fn pods(self) -> u32 {
        self.nodes * self.pods_per_node
    }

    /// Returns the number of namespaces.
    #[must_use]
    pub fn namespaces(self) -> u32 {
        self.pods().div_ceil(REPLICAS * DEPLOYMENTS)
    }

    /// Returns the pods of a node.
    pub fn pods_of(self, node: u32) -> impl Iterator<Item = Pod> {
        (0..self.pods_per_node).map(move |row| Pod(row * self.nodes + node))
    }

    /// Returns the node of a pod.
    #[must_use]
    pub fn node_of(self, pod: Pod) -> u32 {
        pod.0 % self.nodes
    }

    /// Returns the Pod as stored in etcd.
    #[must_use]
    pub fn pod_object(self, pod: Pod) -> Value {
        let node = self.node_of(pod);
        let (hash, deployment) = (pod.template_hash(), pod.deployment());
        let containers = CONTAINERS.map(|name| {
            json!({
                "name": name,
                "image": format!("registry.example/{deployment}/{name}:v1.4.2"),
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "env": [{"name": "GOMAXPROCS", "value": "2"}],
            })
        });
        let statuses = CONTAINERS.map(|name| {
            json!({
                "name": name,
                "image": format!("registry.example/{deployment}/{name}:v1.4.2"),
                "imageID": "", "containerID": format!("containerd://{:064x}", pod.0),
                "ready": true, "started": true, "restartCount": 0,
                "state": {"running": {"startedAt": STARTED}},
            })
        });
        let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
            .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": STARTED}));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod.name(), "namespace": pod.namespace(), "generateName": format!("{deployment}-{hash}-"),
                "uid": uid(1, pod.0), "creationTimestamp": STARTED,
                "labels": {
                    "app.kubernetes.io/name": deployment, "app.kubernetes.io/part-of": pod.namespace(),
                    "pod-template-hash": hash, "tier": if pod.0.is_multiple_of(3) { "frontend" } else { "backend" },
                },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-{hash}"),
                    "uid": uid(2, pod.0 / REPLICAS), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"nodeName": node_name(node), "containers": containers, "serviceAccountName": "default"},
            "status": {
                "phase": "Running", "podIP": "10.244.0.9", "startTime": STARTED,
                "conditions": conditions, "containerStatuses": statuses,
            },
        })
    }

    /// Returns the Node as stored in etcd.
    #[must_use]
    pub fn node_object(self, node: u32) -> Value {
        let name = node_name(node);
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": name, "uid": uid(3, node), "creationTimestamp": STARTED,
                "labels": {
                    "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "topology.kubernetes.io/zone": format!("zone-{}", node % 3),
                    "node.kubernetes.io/instance-type": "m.large",
                },
            },
            "spec": {},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": address(node)},
                    {"type": "Hostname", "address": name},
                ],
                "capacity": {"cpu": "16", "memory": "64Gi", "pods": "110"},
                "allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
                "daemonEndpoints": {"kubeletEndpoint": {"Port": super::fleet::PORT}},
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                    "lastHeartbeatTime": STARTED, "lastTransitionTime": STARTED,
                }],
            },
        })
    }
}

/// The start time in all objects.
const STARTED: &str = "2026-01-01T00:00:00Z";

impl Pod {
    /// Returns the name of the pod's namespace.
    #[must_use]
    pub fn namespace(self) -> String {
        namespace_name(self.0 / (REPLICAS * DEPLOYMENTS))
    }

    /// Returns the pod's deployment, which is unique in the cluster; also the label `app.kubernetes.io/name`.
    #[must_use]
    pub fn deployment(self) -> String {
        format!("service-{:05}", self.0 / REPLICAS)
    }

    fn template_hash(self) -> String {
        letters((self.0 / REPLICAS).wrapping_mul(2_654_435_761), 10)
    }

    /// Returns the pod's name.
    #[must_use]
    pub fn name(self) -> String {
        format!("{}-{}-{}", self.deployment(), self.template_hash(), letters(self.0, 5))
    }

    /// Returns the pod of this name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<Self> {
        let tail = name.rsplit(|byte| *byte == b'-').next()?;
        tail.iter()
            .try_fold(0u32, |sum, byte| {
                let digit = LETTERS.iter().position(|letter| letter == byte)?;
                sum.checked_mul(27)?.checked_add(u32::try_from(digit).ok()?)
            })
            .map(Self)
    }
}

/// Returns the name of a namespace.
#[must_use]
pub fn namespace_name(namespace: u32) -> String {
    format!("team-{namespace:04}")
}

/// Returns the name of a node.
#[must_use]
pub fn node_name(node: u32) -> String {
    format!("node-{node:05}.fleet.example")
}

/// Returns the address of a node: 127.1.x.y, all served by one listener.
#[must_use]
pub fn address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + node + 1)
}

/// Returns the node at an address.
#[must_use]
pub fn node_at(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + 1)
}

/// Returns a UID derived from a number.
#[must_use]
pub fn uid(kind: u32, number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-{kind:012x}")
}

fn letters(mut number: u32, count: usize) -> String {
    let mut digits = vec![LETTERS[0]; count];
    for digit in digits.iter_mut().rev() {
        *digit = LETTERS[(number % 27) as usize];
        number /= 27;
    }
    digits.into_iter().fold(String::with_capacity(count), |mut text, digit| {
        let _ = text.write_char(digit.into());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_numbers_from_names_and_addresses() {
        for number in [0, 1, 26, 27, 149_999, 1_949_999] {
            assert_eq!(Pod::of_name(Pod(number).name().as_bytes()).unwrap().0, number);
        }
        for node in [0, 254, 255, 65_533] {
            assert_eq!(node_at(address(node)), Some(node));
        }
        assert_eq!(address(65_533), Ipv4Addr::new(127, 1, 255, 254));
    }

    #[test]
    fn assigns_each_pod_to_one_node() {
        let population = Population { nodes: 7, pods_per_node: 3 };
        let mut all: Vec<u32> = (0..7).flat_map(|node| population.pods_of(node)).map(|pod| pod.0).collect();
        all.sort_unstable();
        assert_eq!(all, (0..population.pods()).collect::<Vec<_>>());
    }
}
