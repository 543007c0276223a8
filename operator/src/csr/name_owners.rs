//! The owners of DNS names and IP addresses in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{KubeletRequest, NotApproved};

/// The label of Nodes that run kube-apiserver. Admission (NodeRestriction) keeps kubelets from setting it on their
/// Node.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The DNS names and IP addresses of Nodes, Services and kube-apiserver.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameOwners {
    nodes: BTreeMap<String, NodeNames>,
    services: BTreeMap<String, BTreeSet<String>>,
    apiserver: BTreeSet<IpAddr>,
}

/// The names and addresses in a Node's `status.addresses`. Its kubelet writes them, so they are no proof alone.
#[derive(Clone, Debug, Default)]
struct NodeNames {
    names: BTreeSet<String>,
    control_plane: bool,
}

impl NameOwners {
    /// Adds a Node.
    pub(crate) fn add_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let names = addresses.map(|address| normalize(&address.address)).collect();
        let control_plane =
            node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CONTROL_PLANE));
        self.nodes.insert(name, NodeNames { names, control_plane });
    }

    /// Adds a Service: its addresses, and its DNS names in the cluster.
    pub(crate) fn add_service(&mut self, service: &Service) {
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let owner = format!("Service {namespace}/{name}");
        let mut names = vec![format!("{name}.{namespace}"), name];
        if let Some(spec) = &service.spec {
            names.extend(spec.cluster_ip.clone());
            names.extend(spec.cluster_ips.iter().flatten().cloned());
            names.extend(spec.external_ips.iter().flatten().cloned());
            names.extend(spec.load_balancer_ip.clone());
            names.extend(spec.external_name.clone());
        }
        let ingress = service
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref())
            .flat_map(|balancer| balancer.ingress.iter().flatten());
        for ingress in ingress {
            names.extend(ingress.ip.clone());
            names.extend(ingress.hostname.clone());
        }
        for name in names.into_iter().filter(|name| !name.is_empty() && name != "None") {
            self.services.entry(normalize(&name)).or_default().insert(owner.clone());
        }
    }

    /// Adds an EndpointSlice of Service `default/kubernetes`: addresses of kube-apiserver.
    pub(crate) fn add_apiserver(&mut self, slice: &EndpointSlice) {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter());
        self.apiserver.extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
    }

    /// Checks that every name and address belongs to the requesting Node alone.
    pub(crate) fn check(&self, request: &KubeletRequest) -> Result<(), NotApproved> {
        let Some(node) = self.nodes.get(&request.node) else {
            return Err(NotApproved::UnknownNode(request.node.clone()));
        };
        let addresses = request.addresses.iter().map(ToString::to_string);
        for name in request.dns_names.iter().cloned().chain(addresses) {
            if !node.names.contains(&name) {
                return Err(NotApproved::NotInNodeStatus { name, node: request.node.clone() });
            }
            if let Some(owner) = self.other_owner(&request.node, node, &name) {
                return Err(NotApproved::Shared { name, owner });
            }
        }
        Ok(())
    }

    fn other_owner(&self, own: &str, node: &NodeNames, name: &str) -> Option<String> {
        // A Node's name belongs to it even if it is not in its status.addresses.
        let other = self
            .nodes
            .iter()
            .find(|(other, other_node)| *other != own && (*other == name || other_node.names.contains(name)));
        if let Some((other, _)) = other {
            return Some(format!("Node {other}"));
        }
        // Also subdomains of a Service's name, which pods of a headless Service have.
        let parents =
            name.match_indices('.').map(|(dot, _)| &name[dot + 1..]).filter(|rest| rest.contains('.'));
        let owners = std::iter::once(name).chain(parents).find_map(|name| self.services.get(name));
        if let Some(owner) = owners.and_then(|owners| owners.first()) {
            return Some(owner.clone());
        }
        let of_apiserver = name.parse().is_ok_and(|address| self.apiserver.contains(&address));
        (of_apiserver && !node.control_plane)
            .then(|| format!("kube-apiserver, and Node {own} does not have the label {CONTROL_PLANE}"))
    }
}

/// Returns the canonical form of a name or address.
fn normalize(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(
        |_| text.trim_end_matches('.').to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    )
}

#[cfg(test)]
mod tests;
