//! Which names and addresses of a request are approved.
//!
//! The rules use only what a tenant of the cluster can't write: Nodes, kube-apiserver's certificate, the ranges of Services.
//! Services and Ingresses are left out on purpose. With a Service of a node's name or address, a tenant could otherwise keep
//! the node without a certificate.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::network::Network;
use super::{AllowList, ApiServerNames, KubeletRequest, NodeNames, NotApproved};

/// What a request is checked against, besides Nodes and pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// What the administrator allows.
    pub allow_list: &'a AllowList,
    /// The names and addresses of kube-apiserver.
    pub api_server: &'a ApiServerNames,
    /// The ranges of the Services' addresses, with the names of their ServiceCIDRs.
    pub service_networks: &'a [(String, Network)],
}

impl Rules<'_> {
    /// Checks a request against its own Node and against what holds for all Nodes.
    pub(crate) fn check(&self, request: &KubeletRequest, node: &NodeNames) -> Result<(), NotApproved> {
        for name in &request.dns_names {
            let of_api_server = self.api_server.contains_name(name);
            check_one(name, self.allow_list.allows_name(name), of_api_server, node)?;
        }
        for address in &request.addresses {
            let name = address.to_string();
            let allowed = self.allow_list.allows_address(*address);
            check_one(&name, allowed, self.api_server.contains_address(*address), node)?;
            let network = self.service_networks.iter().find(|(_, network)| network.contains(*address));
            if let Some((service_cidr, network)) = network {
                let owner = format!("the range {network} of Services (ServiceCIDR {service_cidr})");
                return Err(NotApproved::Network { name, owner });
            }
        }
        Ok(())
    }
}

/// Checks a name or address that may be in the allow-list or kube-apiserver's.
fn check_one(name: &str, allowed: bool, of_api_server: bool, node: &NodeNames) -> Result<(), NotApproved> {
    if !node.listed.contains(name) {
        return Err(NotApproved::NotInNodeStatus { name: name.to_owned(), node: node.name.clone() });
    }
    if of_api_server && !node.control_plane {
        return Err(NotApproved::ApiServer { name: name.to_owned(), node: node.name.clone() });
    }
    if !allowed {
        return Err(NotApproved::NotInAllowList(name.to_owned()));
    }
    Ok(())
}

/// Finds requested names and addresses that belong to another Node or to pods. All Nodes pass by once and none is kept, so its
/// size depends on the requests alone.
#[derive(Debug)]
pub(crate) struct NodeConflicts<'a> {
    requests: Vec<&'a KubeletRequest>,
    /// The requests that contain a name or address.
    by_name: BTreeMap<String, Vec<usize>>,
    addresses: Vec<(IpAddr, usize)>,
    conflicts: Vec<Option<NotApproved>>,
}

impl<'a> NodeConflicts<'a> {
    /// Begins for these requests.
    #[must_use]
    pub(crate) fn of(requests: Vec<&'a KubeletRequest>) -> Self {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut addresses = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            for name in request.names() {
                by_name.entry(name).or_default().push(at);
            }
            addresses.extend(request.addresses.iter().map(|address| (*address, at)));
        }
        Self { conflicts: vec![None; requests.len()], requests, by_name, addresses }
    }

    /// Compares the requests with a Node.
    pub(crate) fn add(&mut self, node: &NodeNames) {
        // A Node's name belongs to it even if it is not in its status.addresses.
        for name in node.listed.iter().chain([&node.name]) {
            for at in self.by_name.get(name).into_iter().flatten() {
                if self.requests[*at].node != node.name {
                    let owner = format!("Node {}", node.name);
                    self.conflicts[*at].get_or_insert(NotApproved::Shared { name: name.clone(), owner });
                }
            }
        }
        for network in &node.pod_networks {
            for (address, at) in self.addresses.iter().filter(|(address, _)| network.contains(*address)) {
                let owner = format!("the range {network} of pods (podCIDRs of Node {})", node.name);
                let name = address.to_string();
                self.conflicts[*at].get_or_insert(NotApproved::Network { name, owner });
            }
        }
    }

    /// Returns the conflict of each request, in their order.
    #[must_use]
    pub(crate) fn end(self) -> Vec<Option<NotApproved>> {
        self.conflicts
    }
}

#[cfg(test)]
mod tests;
