//! The pending requests, bounded so that no requester can crowd out the others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::kubelet_request::node_of;
use super::{KubeletRequest, NotApproved, is_pending};

/// The maximum count of requests of one Node: the newest ones, as a kubelet waits for its last request only.
const PER_NODE: usize = 4;

/// The maximum count of Nodes with requests.
const MAX_NODES: usize = 5_000;

/// The maximum count of requests that can never be approved. They are kept to report them once.
const MAX_MALFORMED: usize = 200;

/// A request that is neither approved, denied nor failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingRequest {
    /// The name of the CertificateSigningRequest.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// What a kubelet requests, or why it can never be approved: the spec is immutable.
    pub request: Result<KubeletRequest, NotApproved>,
}

/// The pending requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingRequests {
    by_node: BTreeMap<String, Vec<PendingRequest>>,
    malformed: BTreeMap<String, PendingRequest>,
    overflowed: bool,
}

impl PendingRequests {
    /// Takes over a request as it was read.
    pub(crate) fn apply(&mut self, csr: &CertificateSigningRequest) {
        if !is_pending(csr) {
            self.remove(csr);
            return;
        }
        let request = PendingRequest {
            name: csr.metadata.name.clone().unwrap_or_default(),
            uid: csr.metadata.uid.clone().unwrap_or_default(),
            created: csr.metadata.creation_timestamp.as_ref().map(|time| time.0),
            request: KubeletRequest::parse(csr),
        };
        let Ok(parsed) = &request.request else {
            if self.malformed.len() < MAX_MALFORMED || self.malformed.contains_key(&request.uid) {
                self.malformed.insert(request.uid.clone(), request);
            }
            return;
        };
        if self.by_node.len() >= MAX_NODES && !self.by_node.contains_key(&parsed.node) {
            self.overflowed = true;
            return;
        }
        let of_node = self.by_node.entry(parsed.node.clone()).or_default();
        of_node.retain(|known| known.uid != request.uid);
        of_node.push(request);
        of_node.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
        of_node.truncate(PER_NODE);
    }

    /// Forgets a request that was decided or deleted.
    pub(crate) fn remove(&mut self, csr: &CertificateSigningRequest) {
        let uid = csr.metadata.uid.clone().unwrap_or_default();
        self.malformed.remove(&uid);
        let Some(node) = node_of(csr) else { return };
        if let Some(of_node) = self.by_node.get_mut(node) {
            of_node.retain(|known| known.uid != uid);
            if of_node.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// Returns all requests, those of kubelets first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PendingRequest> {
        self.by_node.values().flatten().chain(self.malformed.values())
    }

    /// Whether requests of Nodes were left out for which there is room now: they must be listed again.
    #[must_use]
    pub(crate) fn has_room_for_more(&self) -> bool {
        self.overflowed && self.by_node.len() < MAX_NODES / 2
    }
}

#[cfg(test)]
mod tests;
