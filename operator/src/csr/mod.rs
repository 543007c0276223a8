//! Decides which CertificateSigningRequests of kubelets to approve. Pure: no Kubernetes client and no clock.
//!
//! A kubelet with `serverTLSBootstrap: true` requests its serving certificate with a CertificateSigningRequest of the
//! signer `kubernetes.io/kubelet-serving`, which no component of Kubernetes approves. A wrong approval would let the
//! requester impersonate another server of the cluster. So [`KubeletRequest::parse`] accepts only the exact bytes
//! that a kubelet writes, and [`NameOwners::check`] accepts only names and addresses that belong to the requesting
//! Node alone. Other requests stay pending and are never denied: an administrator or another approver may decide on
//! them.

mod der;
mod kubelet_request;
mod name_owners;
mod not_approved;

pub(crate) use kubelet_request::{KubeletRequest, is_pending};
pub(crate) use name_owners::NameOwners;
pub(crate) use not_approved::NotApproved;

/// The signer of kubelets' serving certificates.
pub(crate) const SIGNER: &str = "kubernetes.io/kubelet-serving";
