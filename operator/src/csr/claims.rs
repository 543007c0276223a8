//! Whose a name or an address is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Refusal, Request};

/// On Nodes that run kube-apiserver. A kubelet can't give it to its own Node (admission plugin NodeRestriction).
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// All names and addresses of Nodes, Services and kube-apiserver.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    nodes: BTreeMap<String, Claimant>,
    services: BTreeMap<String, BTreeSet<String>>,
    apiserver: BTreeSet<IpAddr>,
}

/// What a Node says of itself: a kubelet writes `status.addresses`, so it proves nothing alone.
#[derive(Clone, Debug, Default)]
struct Claimant {
    names: BTreeSet<String>,
    control_plane: bool,
}

impl Claims {
    /// Adds a Node.
    pub fn add_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let names = addresses.map(|address| normal(&address.address)).collect();
        let control_plane =
            node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CONTROL_PLANE));
        self.nodes.insert(name, Claimant { names, control_plane });
    }

    /// Adds a Service: its addresses, and the names by which pods resolve it.
    pub fn add_service(&mut self, service: &Service) {
        let name = service.metadata.name.clone().unwrap_or_default();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let owner = format!("Service {namespace}/{name}");
        let mut claimed = vec![format!("{name}.{namespace}"), name];
        if let Some(spec) = &service.spec {
            claimed.extend(spec.cluster_ip.clone());
            claimed.extend(spec.cluster_ips.iter().flatten().cloned());
            claimed.extend(spec.external_ips.iter().flatten().cloned());
            claimed.extend(spec.load_balancer_ip.clone());
            claimed.extend(spec.external_name.clone());
        }
        let ingress = service
            .status
            .iter()
            .filter_map(|status| status.load_balancer.as_ref())
            .flat_map(|balancer| balancer.ingress.iter().flatten());
        for ingress in ingress {
            claimed.extend(ingress.ip.clone());
            claimed.extend(ingress.hostname.clone());
        }
        for one in claimed.into_iter().filter(|one| !one.is_empty() && one != "None") {
            self.services.entry(normal(&one)).or_default().insert(owner.clone());
        }
    }

    /// Adds an EndpointSlice of the Service `default/kubernetes`: addresses of kube-apiserver.
    pub fn add_apiserver(&mut self, slice: &EndpointSlice) {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter());
        self.apiserver.extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
    }

    /// Whether each name and address is that Node's and nobody else's.
    pub fn judge(&self, request: &Request) -> Result<(), Refusal> {
        let Some(node) = self.nodes.get(&request.node) else {
            return Err(Refusal::UnknownNode(request.node.clone()));
        };
        let addresses = request.addresses.iter().map(ToString::to_string);
        for name in request.dns_names.iter().cloned().chain(addresses) {
            if !node.names.contains(&name) {
                return Err(Refusal::NotTheNodes { name, node: request.node.clone() });
            }
            if let Some(owner) = self.other_owner(&request.node, node, &name) {
                return Err(Refusal::Shared { name, owner });
            }
        }
        Ok(())
    }

    fn other_owner(&self, own: &str, node: &Claimant, name: &str) -> Option<String> {
        // A Node's name is its own even if no address says so.
        let other = self
            .nodes
            .iter()
            .find(|(other, claimant)| *other != own && (*other == name || claimant.names.contains(name)));
        if let Some((other, _)) = other {
            return Some(format!("Node {other}'s"));
        }
        // Also below a Service's name, as pods of a headless one have names there.
        let below =
            name.match_indices('.').map(|(dot, _)| &name[dot + 1..]).filter(|rest| rest.contains('.'));
        let owners = std::iter::once(name).chain(below).find_map(|name| self.services.get(name));
        if let Some(owner) = owners.and_then(|owners| owners.first()) {
            return Some(format!("{owner}'s"));
        }
        let of_apiserver = name.parse().is_ok_and(|address| self.apiserver.contains(&address));
        (of_apiserver && !node.control_plane)
            .then(|| format!("kube-apiserver's, and Node {own} has no label {CONTROL_PLANE}"))
    }
}

/// One form for each name and address.
fn normal(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(
        |_| text.trim_end_matches('.').to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    )
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
