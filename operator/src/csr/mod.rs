//! Decides which CertificateSigningRequests of kubelets to approve. Pure: no Kubernetes client and no clock.
//!
//! A kubelet with `serverTLSBootstrap: true` requests its serving certificate with a CertificateSigningRequest of the
//! signer `kubernetes.io/kubelet-serving`, which no component of Kubernetes approves. A wrong approval would let the
//! requester impersonate another server of the cluster. So [`KubeletRequest::parse`] accepts only the exact bytes
//! that a kubelet writes, and [`Rules`] and [`NodeConflicts`] accept only names and addresses that belong to the requesting
//! Node alone. Other requests stay pending and are never denied: an administrator or another approver may decide on
//! them.

mod allow_list;
mod api_server_names;
mod der;
#[cfg(test)]
pub(crate) mod for_test;
mod kubelet_request;
mod network;
mod node_names;
mod not_approved;
mod pending;
mod rules;

use std::net::IpAddr;

pub(crate) use allow_list::AllowList;
pub(crate) use api_server_names::ApiServerNames;
pub(crate) use kubelet_request::{KubeletRequest, is_pending};
pub(crate) use network::Network;
pub(crate) use node_names::{NodeNames, PartialNode};
pub(crate) use not_approved::NotApproved;
pub(crate) use pending::{PendingRequest, PendingRequests};
pub(crate) use rules::{NodeConflicts, Rules};

/// The signer of kubelets' serving certificates.
pub(crate) const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// Returns the canonical form of a name or address.
fn normalize(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(
        |_| text.trim_end_matches('.').to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    )
}
